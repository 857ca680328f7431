package index

import (
	"math/bits"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
)

// A sketch says which keys a segment has, or may have: a bloom filter over all keys of its blocks, in memory only. It spares a query the reading of a page for
// each segment that has nothing for it. The bits of a key lie in one line of the processor's cache.
type sketch [][sketchLine / 64]uint64

// With 10 bits for a key and 5 of them set, one of 100 keys that are not there is looked for in vain.
const (
	sketchBits = 10
	sketchSet  = 5
	sketchLine = 512 // bits
)

func newSketch(keys int) sketch { return make(sketch, keys*sketchBits/sketchLine+1) }

// bytes returns how much memory a sketch takes.
func (s sketch) bytes() int { return len(s) * sketchLine / 8 }

// place returns the line of a key, and a number of which each 9 bits say which bit of it stands for the key.
func (s sketch) place(key uint64) (line *[sketchLine / 64]uint64, bit uint64) {
	at, bit := bits.Mul64(block.Hash(key), uint64(len(s)))
	return &s[at], bit >> 16
}

func (s sketch) add(key uint64) {
	line, bit := s.place(key)
	for range sketchSet {
		line[bit/64%8] |= 1 << (bit % 64)
		bit >>= 9
	}
}

func (s sketch) has(key uint64) bool {
	line, bit := s.place(key)
	for range sketchSet {
		if line[bit/64%8]&(1<<(bit%64)) == 0 {
			return false
		}
		bit >>= 9
	}
	return true
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
