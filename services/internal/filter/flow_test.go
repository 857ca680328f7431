package filter

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// TestNeedsFlow asks every operand that says to need no flow about packets with their flows, and about the same packets that were only joined: the results are the same.
func TestNeedsFlow(t *testing.T) {
	packets := packettest.Packets(1, 20_000, 500)
	frames := slices.Collect(maps.Values(zoo()))
	for _, offset := range []int{0, 24} { // of one datagram, whose first fragment has the ports
		frames = append(frames, packettest.Ethernet(0x0800, packettest.IPFragment(17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 7, uint16(0x2000|offset/8), packettest.UDP(1000, 443, make([]byte, 16)))))
	}
	for _, frame := range frames {
		packets = append(packets, packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(len(frame))}})
	}
	joined := slices.Clone(packets)
	refs := make([]flow.Ref, len(packets))
	flows, joiner := flow.New(flow.Config{}), flow.NewJoiner(flow.Config{})
	fragments := 0
	for i := range packets {
		packets[i].Decode(packet.LinkEthernet)
		refs[i] = flows.Find(&packets[i])
		joined[i].Decode(packet.LinkEthernet)
		joiner.Join(&joined[i])
		if packets[i].Headers != joined[i].Headers {
			t.Fatalf("packet %d: Join leaves the headers %+v, Find %+v", i, joined[i].Headers, packets[i].Headers)
		}
		if packets[i].Layers&packet.LaterFragment != 0 && packets[i].Ports() {
			fragments++
		}
	}
	if fragments == 0 {
		t.Fatal("no later fragment has ports")
	}
	var needing []string
	for _, o := range table() {
		for _, expression := range []string{o.example, "not (" + o.example + ")"} {
			f, err := Compile(expression, &Env{Syntax: true})
			if err != nil {
				t.Fatalf("%s: %v", expression, err)
			}
			if f.NeedsFlow() {
				needing = append(needing, o.name)
				break
			}
			for i := range packets {
				if with, without := f.Match(&packets[i], &refs[i], l7.Verdict{}), f.Match(&joined[i], nil, l7.Verdict{}); with != without {
					t.Fatalf("%s: %d for packet %d with its flow, %d without", expression, with, i, without)
				}
			}
		}
	}
	want := []string{"serverport", "l7Protocol", "callId", "callIdMedia", "rtpPayloadType", "sni", "httpHost", "dnsName", "streamRegexp"}
	if slices.Sort(needing); !slices.Equal(needing, slices.Sorted(slices.Values(want))) {
		t.Errorf("flows are needed by %v, want %v", needing, want)
	}
}
