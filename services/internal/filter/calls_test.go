package filter

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A judge is a stage that asks filters about each packet.
type judge struct {
	filters []*Filter
	results [][]Result // by packet
	calls   []flow.Call
}

func (j *judge) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		var row []Result
		for _, f := range j.filters {
			row = append(row, f.Match(&b.Packets[i], &b.Meta[i].Ref, b.Meta[i].L7))
		}
		j.results = append(j.results, row)
		var call flow.Call
		if b.Meta[i].Call != nil {
			call = *b.Meta[i].Call
		}
		j.calls = append(j.calls, call)
	}
}

// judged runs a savefile through a worker with protocol recognition.
func judged(t *testing.T, name string, expressions ...string) *judge {
	j := &judge{}
	for _, e := range expressions {
		f, err := Compile(e, nil)
		if err != nil {
			t.Fatal(err)
		}
		j.filters = append(j.filters, f)
	}
	worker(t, name, j)
	return j
}

// TestCallsAgreeWithTshark: callId in every frame, and the names that SDP gives payload types, against tshark on what has SIP.
func TestCallsAgreeWithTshark(t *testing.T) {
	corpus := need.Corpus(t)
	tshark := need.Tool(t, "tshark")
	for _, file := range []string{"protocols/zeek__wireshark.pcap", "protocols/packetnet__udp-ip-fragmented.pcap", "protocols/arkime__gtp-iphone.pcap", "l7/pcap/FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "l7/pcap/sip.pcap", "l7/pcap/sip_hello.pcapng"} {
		name := filepath.Join(corpus, file)
		ids := callsOf(t, tshark, name)
		var values []string
		for _, of := range ids {
			for _, id := range of {
				if !slices.Contains(values, id) && len(values) < 12 {
					values = append(values, id)
				}
			}
		}
		var expressions []string
		for _, id := range values {
			expressions = append(expressions, "callId == "+Quote(id))
		}
		j := judged(t, name, expressions...)
		selected := 0
		for frame, row := range j.results {
			for k, got := range row {
				want := No
				if slices.Contains(ids[frame+1], values[k]) {
					want = Yes
					selected++
				}
				if got == Unknown && j.calls[frame].Pending { // it waits for the segment that ends the header
					got = want
				}
				if got != want {
					t.Errorf("%s frame %d: %s is %d, tshark %v", file, frame+1, expressions[k], got, ids[frame+1])
				}
			}
		}
		t.Logf("%s: %d calls, %d frames", file, len(values), selected)
	}
}

// TestMediaAgreeWithTshark: every RTP and RTCP packet that tshark sees set up by SDP belongs to that call; the payload types are those of tshark, with the
// verdict of the flow.
func TestMediaAgreeWithTshark(t *testing.T) {
	corpus := need.Corpus(t)
	tshark := need.Tool(t, "tshark")
	for _, file := range []string{"protocols/zeek__wireshark.pcap", "protocols/arkime__gtp-iphone.pcap", "l7/pcap/FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "l7/pcap/sip.pcap", "l7/pcap/rtp.pcapng", "l7/pcap/skinny.pcap"} {
		name := filepath.Join(corpus, file)
		ids := callsOf(t, tshark, name)
		out, err := exec.Command(tshark, "-n", "-r", name, "--enable-heuristic", "rtp_udp", "-T", "fields", "-E", "occurrence=f", "-e", "rtp.setup-frame", "-e", "rtcp.setup-frame", "-e", "rtp.p_type", "-e", "frame.protocols").Output()
		if err != nil {
			t.Fatal(err)
		}
		var expressions, types []string
		for n := range 128 {
			types = append(types, fmt.Sprint(n))
			expressions = append(expressions, "rtpPayloadType == "+types[n])
		}
		calls := make(map[string]int)
		for _, of := range ids {
			for _, id := range of {
				if _, ok := calls[id]; !ok {
					calls[id] = len(expressions)
					expressions = append(expressions, "callIdMedia == "+Quote(id))
				}
			}
		}
		j := judged(t, name, expressions...)
		media, rtp := 0, 0
		for frame, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
			f := append(strings.Split(line, "\t"), "", "", "")
			if strings.Contains(f[3], "icmp") { // what it quotes is another packet
				continue
			}
			var setup int
			fmt.Sscan(f[0]+" "+f[1], &setup)
			for _, id := range ids[setup] {
				if media++; j.results[frame][calls[id]] != Yes {
					t.Errorf("%s frame %d: no media of %s, which frame %d announces", file, frame+1, id, setup)
				}
			}
			if f[2] != "" {
				rtp++
			}
			if strings.Contains(f[3], "t38") { // RTP that tshark takes for T.38 once the call has agreed on that
				continue
			}
			for n := range types {
				if got := j.results[frame][n] == Yes; got != (f[2] == types[n]) {
					t.Errorf("%s frame %d: payload type %s %v, tshark %q", file, frame+1, types[n], got, f[2])
				}
			}
		}
		t.Logf("%s: %d frames of calls' media, %d of RTP", file, media, rtp)
	}
}

// callsOf returns the Call-IDs of each frame, from 1. A message that tshark put together from several segments or fragments belongs to all of them.
func callsOf(t *testing.T, tshark, name string) map[int][]string {
	out, err := exec.Command(tshark, "-n", "-r", name, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|",
		"-e", "frame.number", "-e", "sip.Call-ID", "-e", "tcp.segment", "-e", "ip.fragment", "-e", "ipv6.fragment").Output()
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[int][]string)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		f := append(strings.Split(lines.Text(), "\t"), "", "", "", "")
		if f[1] == "" {
			continue
		}
		for _, number := range append(strings.FieldsFunc(f[2]+"|"+f[3]+"|"+f[4], func(r rune) bool { return r == '|' }), f[0]) {
			var n int
			fmt.Sscan(number, &n)
			ids[n] = append(ids[n], strings.Split(f[1], "|")...)
		}
	}
	return ids
}

// TestCallOperands: what the operands make of what is known about a packet's calls.
func TestCallOperands(t *testing.T) {
	sip, _ := protocol.Lookup("SIP")
	known := l7.Verdict{Proto: sip, State: l7.Final}
	id := call.ID([]byte("a@b"))
	p := decoded(ethernet(hostA, hostB, 0x0800, ip4{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, ttl: 64}.over(tcpSegment(40000, 5060, 0x18, "some part of a message"))))
	for _, c := range []struct {
		what       string
		call       *flow.Call
		verdict    l7.Verdict
		id, medium Result
	}{
		{"nothing known", nil, known, No, No},
		{"a part of a message", &flow.Call{IDs: [8]uint64{id + 1, id}}, known, Yes, Yes},
		{"of another one", &flow.Call{IDs: [8]uint64{id + 1}}, known, No, No},
		{"a beginning", &flow.Call{Pending: true}, known, Unknown, Unknown},
		{"the end of one and the beginning of another", &flow.Call{IDs: [8]uint64{id}, Pending: true}, known, Yes, Yes},
		{"a beginning that may be SIP", &flow.Call{Pending: true}, pending, Unknown, Unknown},
		{"a beginning that was not", &flow.Call{Pending: true}, l7.Verdict{Proto: 6, State: l7.Final}, No, No},
		{"media", &flow.Call{IDs: [8]uint64{id}, Media: true}, l7.Verdict{State: l7.Unknown}, No, Yes},
	} {
		ref := &flow.Ref{Call: c.call}
		for expression, want := range map[string]Result{`callId == "a@b"`: c.id, `callIdMedia == "x","a@b"`: c.medium, `callId != "a@b"`: complement[c.id]} {
			f, err := Compile(expression, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(p, ref, c.verdict); got != want {
				t.Errorf("%s: %s is %d, want %d", c.what, expression, got, want)
			}
			inSets(t, f, p, ref, c.verdict, want)
		}
	}
}

// TestPayloadTypeNames: names of RFC 3551 and of SDP.
func TestPayloadTypeNames(t *testing.T) {
	rtp, _ := protocol.Lookup("RTP")
	packetOf := func(kind byte) *packet.Packet {
		return decoded(ethernet(hostA, hostB, 0x0800, ip4{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, ttl: 64}.over(udpDatagram(4000, 6000, join([]byte{0x80, kind}, u16(1), u32(100), u32(7), make([]byte, 20))))))
	}
	for _, c := range []struct {
		expression string
		kind       byte
		name       string
		want       Result
	}{
		{"rtpPayloadType == PCMU", 0, "", Yes}, {"rtpPayloadType == PCMU", 97, "pcmu", Yes}, {"rtpPayloadType == G711U", 0, "", Yes}, {"rtpPayloadType == opus", 111, "OPUS", Yes},
		{"rtpPayloadType == OPUS,H264", 96, "h264", Yes}, {"rtpPayloadType == opus", 111, "", No}, {"rtpPayloadType != opus", 111, "opus", No}, {"rtpPayloadType == 111", 111, "opus", Yes},
		{"rtpPayloadType == telephone-event", 101, "telephone-event", Yes}, {`rtpPayloadType == "x-own"`, 97, "X-Own", Yes}, {"rtpPayloadType == iLBC", 97, "opus", No},
	} {
		f, err := Compile(c.expression, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		ref := &flow.Ref{}
		if c.name != "" {
			ref.Call = &flow.Call{Media: true, Codec: call.CodecID([]byte(c.name))}
		}
		if got := f.Match(packetOf(c.kind), ref, l7.Verdict{Proto: rtp, State: l7.Final}); got != c.want {
			t.Errorf("%s for %d %s = %d", c.expression, c.kind, c.name, got)
		}
		again, err := Compile(f.String(), nil)
		if err != nil || again.String() != f.String() {
			t.Errorf("%s is not its own canonical form: %v", f, err)
		}
	}
	for _, text := range []string{"opsu", "128", "1-3"} {
		if _, err := Compile("rtpPayloadType == "+text, nil); err == nil {
			t.Errorf("rtpPayloadType == %s is taken", text)
		}
	}
}
