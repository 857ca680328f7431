package packet

import (
	"math/rand/v2"
	"testing"
)

// TestCommon compares the short way with the long one, on frames that take the short one unless the change of a byte, a cut or a wrong length bars it.
func TestCommon(t *testing.T) {
	for _, c := range []struct {
		name string
		l4   int
	}{{"IPv4", 34}, {"IPv6", 54}} {
		t.Run(c.name, func(t *testing.T) { testCommon(t, c.l4) })
	}
}

func testCommon(t *testing.T, l4 int) {
	rng := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for range 300_000 {
		d := make([]byte, l4+20+rng.IntN(12))
		for i := range d {
			d[i] = byte(rng.Uint32())
		}
		proto := []byte{protoTCP, protoUDP}[rng.IntN(2)]
		if l4 == 34 {
			copy(d[12:], []byte{8, 0, 0x45, 0, 0, byte(len(d) - 14 - rng.IntN(4)), 0, 0, 0x40, 0, 64, proto})
		} else {
			copy(d[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(d) - 54 - rng.IntN(4)), proto, 64})
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
		taken++
		short := p.Headers
		p.Headers = Headers{Link: LinkEthernet, End: uint32(len(d))}
		p.ethernet(d)
		if p.Headers != short {
			t.Fatalf("%x: the short way gives %+v, the long one %+v", d, short, p.Headers)
		}
	}
	if taken < 50_000 {
		t.Errorf("the short way was taken %d times only", taken)
	}
}
