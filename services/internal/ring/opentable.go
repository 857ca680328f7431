package ring

import "math/bits"

// An openTable is a hash table with open addressing, for what a block has few or many of: it is as large as the block before needed it to be, and grows
// while it is filled, so that it stays in the processor's cache. Its owner compares, and fills it anew after it has grown. Zero is a free place.
type openTable[T uint16 | uint32 | uint64] struct {
	at    []T
	shift uint // of a hash
}

const leastOpen = 1024 // places; a power of two

// newOpenTable makes a table of up to so many places, a power of two.
func newOpenTable[T uint16 | uint32 | uint64](most int) openTable[T] {
	t := openTable[T]{at: make([]T, 0, max(most, leastOpen))}
	t.resize(leastOpen)
	return t
}

// powerOfTwo returns the least one that is n or more.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

func (t *openTable[T]) resize(n int) {
	t.at = t.at[:n]
	clear(t.at)
	t.shift = uint(64 - bits.Len(uint(n-1)))
}

// reset makes the table empty, and large enough for so many values.
func (t *openTable[T]) reset(values int) {
	t.resize(min(max(leastOpen, 2*powerOfTwo(values)), cap(t.at)))
}

// full reports whether the table should grow before it gets another value.
func (t *openTable[T]) full(values int) bool { return 2*values >= len(t.at) && len(t.at) < cap(t.at) }

func (t *openTable[T]) grow() { t.resize(2 * len(t.at)) }

// first returns where to begin to look.
func (t *openTable[T]) first(hash uint64) int { return int(hash >> t.shift) }

// put puts in a value that is not there.
func (t *openTable[T]) put(hash uint64, v T) {
	at := t.first(hash)
	for t.at[at] != 0 {
		at = (at + 1) & (len(t.at) - 1)
	}
	t.at[at] = v
}
