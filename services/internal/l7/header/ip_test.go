package header

import (
	"strings"
	"testing"

	"galvo/services/internal/l7/l7test"
)

// ipSamples has for each row of ipHeads a header that is one, and one that only has the number.
var ipSamples = map[byte][2]string{
	9:   {l7test.Unhex("11010001 0001 0000 0000 0000"), l7test.Unhex("91010001 0001 0000 0000 0000")},
	33:  {l7test.Unhex("0001000203000000 00000000"), l7test.Unhex("0001000200000000 00000000")},
	46:  {l7test.Unhex("10010000ff000008"), l7test.Unhex("90010000ff000008")},
	54:  {strings.Repeat("\x00", 16) + "\x01\x01\x00\x00", strings.Repeat("\x00", 16) + "\x01\x00\x00\x00"},
	83:  {l7test.Unhex("ffff0012") + strings.Repeat("\x00", 14), l7test.Unhex("ffff0002") + strings.Repeat("\x00", 14)},
	88:  {l7test.Unhex("0205eeca") + strings.Repeat("\x00", 16), l7test.Unhex("0005eeca") + strings.Repeat("\x00", 16)},
	97:  {l7test.Unhex("3000") + strings.Repeat("\x02", 14), l7test.Unhex("4500") + strings.Repeat("\x02", 14)},
	108: {l7test.Unhex("0600012345"), l7test.Unhex("0601012345")},
	115: {l7test.Unhex("00000000 c803000c 00000000 00000000"), l7test.Unhex("00000000 4803000c 00000000 00000000")},
	124: {l7test.Unhex("831b0100 12010000"), l7test.Unhex("821b0100 12010000")},
	135: {l7test.Unhex("3b000100 00000000"), l7test.Unhex("3b00ff00 00000000")},
	136: {l7test.Unhex("0001000200080000"), l7test.Unhex("0001000200030000")},
	137: {l7test.Unhex("00064140"), l7test.Unhex("00064100")},
	139: {l7test.Unhex("3b040111") + strings.Repeat("\x00", 36), l7test.Unhex("3b040110") + strings.Repeat("\x00", 36)},
	140: {l7test.Unhex("3b00c00000000000"), l7test.Unhex("3b007f0100000000")},
}

// TestIPHeads tries each row.
func TestIPHeads(t *testing.T) {
	if len(ipSamples) != len(ipHeads) {
		t.Errorf("%d samples for %d rows", len(ipSamples), len(ipHeads))
	}
	for proto, s := range ipSamples {
		for i, sample := range s {
			p := decoded(ipFrame(proto, sample))
			if got := Holds(p, proto); got != (i == 0) {
				t.Errorf("IP protocol %d: %q has its header: %v", proto, sample, got)
			}
		}
		if IP(proto) == 0 {
			t.Errorf("IP protocol %d has no name", proto)
		}
	}
}

// ipFrame builds a frame with a payload of an IP protocol.
func ipFrame(proto byte, payload string) []byte {
	n := 20 + len(payload)
	head := string([]byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	return []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00" + head + payload)
}
