package rule

import (
	"encoding/hex"
	"strings"
	"testing"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A layer that a frame does not have, or that makes no sense, ends where the one below does, and what follows a header is never kept for its sake.
func TestEnds(t *testing.T) {
	const (
		macs    = "020000000001020000000002"
		payload = "7061796c6f6164207061796c6f6164207061796c6f61642070" // 25 bytes
	)
	ip := func(proto string, header string) string {
		return "0800450000600000000040" + proto + "00000a0000010a000002" + header
	}
	for _, c := range []struct {
		name, frame string
		l2, l3, l4  int
	}{
		{"UDP", ip("11", "0457082600210000"+payload), 14, 34, 42},
		{"UDP with a length that makes no sense", ip("11", "0457082600040000"+payload), 14, 34, 42},
		{"UDP that is cut off", ip("11", "04570826"), 14, 34, 38},
		{"TCP with options", ip("06", "04570826000000010000000180180064000000000101010101010101010101 01"+payload), 14, 34, 66},
		{"TCP with an offset that makes no sense", ip("06", "0457082600000001000000013018006400000000"+payload), 14, 34, 54},
		{"TCP with an offset of 0", ip("06", "0457082600000001000000010018006400000000"+payload), 14, 34, 54},
		{"ICMP", ip("01", "0800000000010001"+payload), 14, 34, 42},
		{"SCTP", ip("84", "000100020000000300000004"+payload), 14, 34, 46},
		{"GRE", ip("2f", "00000800"+payload), 14, 34, 38},
		{"GRE with checksum, key and sequence number", ip("2f", "b0000800"+"12340000"+"00000005"+"00000008"+payload), 14, 34, 50},
		{"GRE of PPTP with an acknowledgment", ip("2f", "3081880b"+"00190003"+"00000009"+"00000008"+payload), 14, 34, 50},
		{"GRE that is cut off", ip("2f", "b0000800"+"1234"), 14, 34, 40},
		{"UDP-Lite", ip("88", "0457082600080000"+payload), 14, 34, 42},
		{"DCCP", ip("21", "0457082604000000"+"0500000000000005"+payload), 14, 34, 50},
		{"DCCP with an offset that makes no sense", ip("21", "0457082601000000"+"0500000000000005"+payload), 14, 34, 46},
		{"DCCP that is cut off", ip("21", "0457"), 14, 34, 36},
		{"ESP", ip("32", "0000000100000002"+payload), 14, 34, 34},
		{"another protocol", ip("fe", payload), 14, 34, 34},
		{"two tags", "88a800c881000064" + ip("11", "0457082600210000"+payload), 22, 42, 50},
		{"IPv6 with an extension header", "86dd6000000000310040" + strings.Repeat("20", 32) + "1100010400000000" + "0457082600210000" + payload, 14, 62, 70},
		{"ARP, padded", "08060001080006040001020000000002" + "0a000001" + "000000000000" + "0a000002" + strings.Repeat("00", 18), 14, 42, 42},
		{"ARP that is cut off", "080600010800", 14, 14, 14},
		{"a protocol beside IP", "88cc" + payload, 14, 14, 14},
		{"IP without its header", "0800450000", 14, 14, 14},
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(macs+c.frame, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		p := &packet.Packet{Frame: packet.Frame{Data: data, Len: uint32(len(data))}}
		p.Decode(packet.LinkEthernet)
		for action, want := range map[Action]int{Keep: len(data), SnapLink: c.l2, SnapNetwork: c.l3, SnapHeaders: c.l4, Discard: -1} {
			all, err := filter.Compile("", nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := NewSet([]Rule{{Filter: all, Action: action}}).Keep(p, &pipeline.Meta{}); got != want {
				t.Errorf("%s: action %d keeps %d bytes of %d, want %d", c.name, action, got, len(data), want)
			}
		}
	}
}
