// Package opentable has hash tables whose memory is used again and again.
package opentable

import "math/bits"

// A Table is a hash table with open addressing, for what a block has few or many of: it is as large as the block before needed it to be, and grows
// while it is filled, so that it stays in the processor's cache. Its owner compares, and fills it anew after it has grown. Zero is a free place.
type Table[T uint16 | uint32 | uint64] struct {
	At    []T
	shift uint // of a hash
}

const leastOpen = 1024 // places; a power of two

// New makes a table of up to so many places, a power of two.
func New[T uint16 | uint32 | uint64](most int) Table[T] {
	t := Table[T]{At: make([]T, 0, max(most, leastOpen))}
	t.resize(leastOpen)
	return t
}

// PowerOfTwo returns the least one that is n or more.
func PowerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

func (t *Table[T]) resize(n int) {
	t.At = t.At[:n]
	clear(t.At)
	t.shift = uint(64 - bits.Len(uint(n-1)))
}

// Reset makes the table empty, and large enough for so many values.
func (t *Table[T]) Reset(values int) {
	t.resize(min(max(leastOpen, 2*PowerOfTwo(values)), cap(t.At)))
}

// Full reports whether the table should grow before it gets another value.
func (t *Table[T]) Full(values int) bool { return 2*values >= len(t.At) && len(t.At) < cap(t.At) }

// Grow makes the table empty and twice as large: its owner fills it anew.
func (t *Table[T]) Grow() { t.resize(2 * len(t.At)) }

// First returns where to begin to look.
func (t *Table[T]) First(hash uint64) int { return int(hash >> (t.shift & 63)) }

// Put puts in a value that is not there, and returns where it is now.
func (t *Table[T]) Put(hash uint64, v T) (at int) {
	at = t.First(hash)
	for t.At[at] != 0 {
		at = (at + 1) & (len(t.At) - 1)
	}
	t.At[at] = v
	return at
}
