package flow

import (
	"math/bits"
	"testing"
)

// TestMatch changes one bit of a key after another: a record matches its own key in both directions, and no other one.
func TestMatch(t *testing.T) {
	testMatch(t, key{1 << 40, 3, 2, 4 << 50, 1000 | 80<<16, protoTCP | v6})
	testMatch(t, key{1<<30 | 1000<<32, 3 | 80<<32, 0, 0, 0, protoTCP})
}

func testMatch(t *testing.T, base key) {
	var r Record
	base.store(&r)
	if from, ok := base.match(&r); !ok || from != 0 {
		t.Errorf("match = %d, %v for the sender of the first packet, want 0", from, ok)
	}
	back := key{base.dst0, base.src0, base.dst1, base.src1, bits.RotateLeft32(base.ports, 16), base.kind}
	if from, ok := back.match(&r); !ok || from != 1 {
		t.Errorf("match = %d, %v for the receiver of the first packet, want 1", from, ok)
	}
	var loaded key
	if loaded.load(&r); loaded != base {
		t.Errorf("load takes %+v, want %+v", loaded, base)
	}
	for bit := range 64 {
		for word := range 6 {
			k := base
			switch one := uint64(1) << bit; word {
			case 0:
				k.src0 ^= one
			case 1:
				k.src1 ^= one
			case 2:
				k.dst0 ^= one
			case 3:
				k.dst1 ^= one
			case 4:
				k.ports ^= uint32(one | one>>32)
			case 5:
				k.kind ^= uint32(one|one>>32) & (0xff | v6)
			}
			if base.kind&v6 == 0 && (k.src1|k.dst1 != 0 || k.ports != 0 || (k.src0|k.dst0)>>48 != 0) { // there is no such key
				continue
			}
			if _, ok := k.match(&r); ok && k != base {
				t.Errorf("word %d: a key with another bit %d matches", word, bit)
			}
		}
	}
	r.Flags |= Ended
	if _, ok := base.match(&r); ok {
		t.Error("a record that has ended matches")
	}
}
