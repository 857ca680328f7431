package signature

import (
	"encoding/binary"
	"math/bits"
)

// A Guard is the part of a row that is quickly looked at: four bytes with bits that it fixes. Nearly all payloads fail there.
type Guard struct {
	mask, want uint32
	at         uint16
	least      uint16 // a payload has so many bytes
	Row        uint16 // its index among Table.Rows
}

// Admits reports whether the row may hold for the payload b.
func (g *Guard) Admits(b []byte) bool {
	return len(b) >= int(g.least) && (g.mask == 0 || binary.BigEndian.Uint32(b[g.at:])&g.mask == g.want)
}

// A template is what a row says about each bit of a payload's beginning.
type template struct{ mask, want [600]byte }

// guardOf returns the guard of a row, whose index is to be filled in: the place where it fixes most bits.
func guardOf(s *Row) Guard {
	var t template
	least := max(s.min, 1)
	for _, p := range s.match {
		if p.at >= 0 {
			least = max(least, p.at+t.pattern(&p))
		}
	}
	for _, f := range s.fields {
		least = max(least, f.at+f.width)
		if f.op == same {
			least = max(least, int(f.lo)+f.width)
		}
		t.field(&f)
	}
	g := Guard{least: uint16(least)}
	for at := 0; at+4 <= min(least, len(t.mask)); at++ {
		if m := binary.BigEndian.Uint32(t.mask[at:]); bits.OnesCount32(m) > bits.OnesCount32(g.mask) {
			g.mask, g.want, g.at = m, binary.BigEndian.Uint32(t.want[at:]), uint16(at)
		}
	}
	return g
}

// pattern adds the bits that all alternatives of a pattern have in common, and returns the length of the shortest.
func (t *template) pattern(p *pattern) int {
	short := len(p.any[0])
	for _, w := range p.any {
		short = min(short, len(w))
	}
	for k := 0; k < short && p.at+k < len(t.mask); k++ {
		mask := byte(0xff)
		if p.mask != 0 {
			mask = p.mask
		}
		for _, w := range p.any {
			mask &^= w[k] ^ p.any[0][k]
		}
		t.add(p.at+k, mask, p.any[0][k])
	}
	return short
}

// field adds the bits that are the same in a field's whole range. A length is at most 65,535.
func (t *template) field(f *field) {
	lo, hi := f.lo, f.hi
	switch f.op {
	case isLength, atMost:
		lo, hi = 0, 65535
	case within:
	default:
		return
	}
	fixed := ^uint64(0) << bits.Len64(lo^hi)
	for k := range f.width {
		shift := 8 * (f.width - 1 - k)
		if f.little {
			shift = 8 * k
		}
		if f.at+k < len(t.mask) {
			t.add(f.at+k, byte(fixed>>shift), byte(lo>>shift))
		}
	}
}

func (t *template) add(at int, mask, want byte) {
	t.mask[at] |= mask
	t.want[at] = t.want[at]&^mask | want&mask
}
