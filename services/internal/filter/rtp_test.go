package filter

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// TestRTP: what tshark 4.0.17 takes for RTP with its heuristic rtp_udp, and what a verdict changes.
func TestRTP(t *testing.T) {
	header := func(first, second byte) []byte {
		return join([]byte{first, second}, u16(1), u32(100), u32(0x1234))
	}
	media := bytes.Repeat([]byte{0x55}, 160)
	padded := func(n byte) []byte { return append(bytes.Clone(media[:159]), n) }
	rtp, _ := protocol.Lookup("RTP")
	stun, _ := protocol.Lookup("STUN")
	dtls, _ := protocol.Lookup("DTLS")
	dns, _ := protocol.Lookup("DNS")
	none := l7.Verdict{}
	var types []string
	for n := range 128 {
		types = append(types, strconv.Itoa(n))
	}
	f, err := Compile("rtpPayloadType == "+strings.Join(types, ","), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		payload []byte
		port    uint16
		verdict l7.Verdict
		want    Result
	}{
		{"plain", join(header(0x80, 0), media), 40002, none, Yes},
		{"odd port", join(header(0x80, 0), media), 40003, none, Yes},
		{"header only", header(0x80, 0), 40002, none, Yes},
		{"cut header", header(0x80, 0)[:11], 40002, none, No},
		{"version 1", join(header(0x40, 0), media), 40002, none, No},
		{"version 3", join(header(0xc0, 0), media), 40002, none, No},
		{"RTCP sender report", join(header(0x80, 200), media), 40002, none, No},
		{"type 71", join(header(0x80, 71), media), 40002, none, Yes},
		{"type 76", join(header(0x80, 76), media), 40002, none, No},
		{"type 77", join(header(0x80, 77), media), 40002, none, Yes},
		{"15 sources", join(header(0x8f, 0), media), 40002, none, Yes},
		{"15 sources, cut", join(header(0x8f, 0), media[:8]), 40002, none, No},
		{"extension", join(header(0x90, 0), u16(0xbede), u16(1), media), 40002, none, Yes},
		{"extension without end", join(header(0x90, 0), u16(1), u16(500), media[:20]), 40002, none, No},
		{"padding 0", join(header(0xa0, 0), padded(0)), 40002, none, No},
		{"padding 160", join(header(0xa0, 0), padded(160)), 40002, none, Yes},
		{"padding 161", join(header(0xa0, 0), padded(161)), 40002, none, No},
		{"pending", join(header(0x80, 0), media), 40002, pending, Yes},
		{"verdict RTP", join(header(0x80, 0), media), 40002, l7.Verdict{Proto: rtp, State: l7.Final}, Yes},
		{"RTCP in a flow of RTP", join(header(0x80, 205), media), 40002, l7.Verdict{Proto: rtp, State: l7.Final}, No},
		{"after STUN", join(header(0x90, 96), u16(0xbede), u16(1), media), 40002, l7.Verdict{Proto: stun, State: l7.Final}, Yes},
		{"after DTLS", join(header(0x80, 111), media), 40002, l7.Verdict{Proto: stun, App: dtls, State: l7.Final}, Yes},
		{"STUN", join(u16(1), u16(8), u32(0x2112a442), media), 40002, l7.Verdict{Proto: stun, State: l7.Final}, No},
		{"verdict DNS", join(header(0x80, 0), media), 40002, l7.Verdict{Proto: dns, State: l7.Final}, No},
	} {
		p := decoded(ethernet(hostB, hostA, 0x0800, ip4{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, ttl: 64}.over(udpDatagram(40000, c.port, c.payload))))
		if got := f.Match(p, nil, c.verdict); got != c.want {
			t.Errorf("%s = %d, want %d", c.name, got, c.want)
		}
	}
}
