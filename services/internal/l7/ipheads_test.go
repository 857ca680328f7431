package l7

import (
	"strings"
	"testing"
)

// ipSamples has for each row of ipHeads a header that is one, and one that only has the number.
var ipSamples = map[byte][2]string{
	9:   {unhex("11010001 0001 0000 0000 0000"), unhex("91010001 0001 0000 0000 0000")},
	33:  {unhex("0001000203000000 00000000"), unhex("0001000200000000 00000000")},
	46:  {unhex("10010000ff000008"), unhex("90010000ff000008")},
	54:  {strings.Repeat("\x00", 16) + "\x01\x01\x00\x00", strings.Repeat("\x00", 16) + "\x01\x00\x00\x00"},
	83:  {unhex("ffff0012") + strings.Repeat("\x00", 14), unhex("ffff0002") + strings.Repeat("\x00", 14)},
	88:  {unhex("0205eeca") + strings.Repeat("\x00", 16), unhex("0005eeca") + strings.Repeat("\x00", 16)},
	97:  {unhex("3000") + strings.Repeat("\x02", 14), unhex("4500") + strings.Repeat("\x02", 14)},
	108: {unhex("0600012345"), unhex("0601012345")},
	115: {unhex("00000000 c803000c 00000000 00000000"), unhex("00000000 4803000c 00000000 00000000")},
	124: {unhex("831b0100 12010000"), unhex("821b0100 12010000")},
	135: {unhex("3b000100 00000000"), unhex("3b00ff00 00000000")},
	136: {unhex("0001000200080000"), unhex("0001000200030000")},
	137: {unhex("00064140"), unhex("00064100")},
	139: {unhex("3b040111") + strings.Repeat("\x00", 36), unhex("3b040110") + strings.Repeat("\x00", 36)},
	140: {unhex("3b00c00000000000"), unhex("3b007f0100000000")},
}

// TestIPHeads tries each row.
func TestIPHeads(t *testing.T) {
	if len(ipSamples) != len(ipHeads) {
		t.Errorf("%d samples for %d rows", len(ipSamples), len(ipHeads))
	}
	for proto, s := range ipSamples {
		for i, sample := range s {
			p := decoded(ipFrame(proto, sample))
			if got := headOf(p, proto); got != (i == 0) {
				t.Errorf("IP protocol %d: %q has its header: %v", proto, sample, got)
			}
		}
		if byIP(proto) == 0 {
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
