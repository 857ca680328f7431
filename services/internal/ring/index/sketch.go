package index

import (
	"math/bits"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
)

// A sketch says which keys a segment has, or may have: a bloom filter over all keys of its blocks, in memory only. It spares a query the reading of a page for
// each segment that has nothing for it.
type sketch []uint64

// With 10 bits for a key and 5 of them set, one of 100 keys that are not there is looked for in vain.
const (
	sketchBits = 10
	sketchSet  = 5
)

func newSketch(keys int) sketch { return make(sketch, (keys*sketchBits+63)/64+1) }

// places calls f with the bits that stand for a key until f returns false.
func (s sketch) places(key uint64, f func(word int, bit uint64) bool) bool {
	h := block.Hash(key)
	step := bits.RotateLeft64(h, 32) | 1
	for range sketchSet {
		at, _ := bits.Mul64(h, uint64(len(s))*64)
		if !f(int(at/64), 1<<(at%64)) {
			return false
		}
		h += step
	}
	return true
}

func (s sketch) add(key uint64) {
	s.places(key, func(word int, bit uint64) bool { s[word] |= bit; return true })
}

func (s sketch) has(key uint64) bool {
	return s.places(key, func(word int, bit uint64) bool { return s[word]&bit != 0 })
}

// maxEach is how many keys of a range are looked for one by one; a larger range may be in every segment.
const maxEach = 64

func (s sketch) hasRange(keys filter.KeyRange) bool {
	if keys.Hi-keys.Lo >= maxEach {
		return true
	}
	for key := keys.Lo; key <= keys.Hi; key++ {
		if s.has(uint64(key)) {
			return true
		}
	}
	return false
}
