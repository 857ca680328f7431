package packet

import (
	"math/rand/v2"
	"testing"
)

// TestCommon compares the short way with the long one, on frames that take the short one unless the change of a byte, a cut or a wrong length bars it.
func TestCommon(t *testing.T) {
	for _, c := range []struct {
		name  string
		types []byte // the type field, or the tag and the next one
		first byte   // of the IP header
	}{
		{"IPv4", []byte{8, 0}, 0x45},
		{"IPv6", []byte{0x86, 0xdd}, 0x60},
		{"IPv4 with a tag", []byte{0x81, 0, 3, 5, 8, 0}, 0x45},
		{"IPv6 with a tag", []byte{0x81, 0, 3, 5, 0x86, 0xdd}, 0x60},
	} {
		t.Run(c.name, func(t *testing.T) { testCommon(t, c.types, c.first) })
	}
}

func testCommon(t *testing.T, types []byte, first byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	taken := make(map[uint8]int)
	for range 300_000 {
		proto := []byte{protoTCP, protoUDP, protoICMP, protoICMPv6}[rng.IntN(4)]
		l3 := 12 + len(types)
		l4 := l3 + 20
		if first>>4 == 6 {
			l4 += 20
		}
		d := make([]byte, l4+20+rng.IntN(12))
		for i := range d {
			d[i] = byte(rng.Uint32())
		}
		copy(d[12:], types)
		if first>>4 == 4 {
			copy(d[l3:], []byte{first, 0, 0, byte(len(d) - l3 - rng.IntN(4)), 0, 0, 0x40, 0, 64, proto})
		} else {
			copy(d[l3:], []byte{first, 0, 0, 0, 0, byte(len(d) - l4 - rng.IntN(4)), proto, 64})
		}
		if proto == protoTCP {
			d[l4+12] = byte(rng.IntN(9)) << 4
		} else if d[l4+4] = 0; rng.IntN(4) > 0 {
			d[l4+5] = byte(rng.IntN(12))
		}
		if rng.IntN(2) == 0 {
			d[12+rng.IntN(l4+2)] ^= 1 << rng.IntN(8)
		}
		if rng.IntN(4) == 0 {
			d = d[:rng.IntN(len(d))]
		}
		p := Packet{Frame: Frame{Data: d, Len: uint32(len(d))}}
		if !p.common() {
			continue
		}
		taken[p.Proto]++
		short := p.Headers
		p.Headers = Headers{Link: LinkEthernet, End: uint32(len(d))}
		p.ethernet(d, 0)
		if p.Headers != short {
			t.Fatalf("%x: the short way gives %+v, the long one %+v", d, short, p.Headers)
		}
	}
	for _, proto := range []uint8{protoTCP, protoUDP, protoICMP, protoICMPv6} {
		if taken[proto] < 5000 {
			t.Errorf("the short way was taken %d times only by protocol %d", taken[proto], proto)
		}
	}
}
