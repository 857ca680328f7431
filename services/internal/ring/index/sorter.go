package index

import (
	"math/bits"
	"slices"
	"sync"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/opentable"
)

// A Writer writes indexes of segments: it sorts the keys of their blocks. Its memory is used again: a segment of 256 blocks of real traffic has 270,000
// keys, of which a quarter differ. So each is sorted once.
type Writer struct {
	mu          sync.Mutex
	keys, other []sortedKey
	table       opentable.Table[uint32] // place in keys + 1
	of          []uint32                // place in keys of each key of each block
	starts      []uint32                // where the blocks of a key go in lists, by its place before it was sorted
	lists       []uint16                // the blocks of each key, key by key
	chunks      []block.Chunks          // parallel: which of their chunks have it, if that is wanted
	count       [1 << digitBits]uint32
	blocks      []byte // the index blocks, outside of Go's heap
}

// A sortedKey is a key that so many blocks have.
type sortedKey struct {
	key   uint64
	n     uint32
	place uint32 // before it was sorted
}

// Free gives back what is outside of Go's heap.
func (o *Writer) Free() { files.Free(o.blocks) }

// named reports whether the keys of a block are known.
func (s *Slot) named() bool { return s.Keys != nil && s.Flags&block.FlagPartial == 0 }

// sort returns the keys of blocks, each once, in order, and leaves the blocks that have them in o.lists, ascending, with their chunks if these are wanted.
func (o *Writer) sort(slots []Slot, chunks bool) []sortedKey {
	all := o.collect(slots)
	keys := o.order()
	o.starts = slices.Grow(o.starts[:0], len(keys))[:len(keys)]
	at := uint32(0)
	for _, k := range keys {
		o.starts[k.place] = at
		at += k.n
	}
	o.lists, o.chunks = slices.Grow(o.lists[:0], all)[:all], o.chunks[:0]
	if chunks {
		o.chunks = slices.Grow(o.chunks, all)[:all]
	}
	of := o.of
	for i := range slots {
		if !slots[i].named() {
			continue
		}
		for j := range slots[i].Keys {
			p := &o.starts[of[0]]
			o.lists[*p] = uint16(i)
			if chunks {
				o.chunks[*p] = slots[i].Chunks[j]
			}
			*p++
			of = of[1:]
		}
	}
	return keys
}

// collect puts each key into o.keys, as it is met, and returns how many there are with those that come again.
func (o *Writer) collect(slots []Slot) (all int) {
	for i := range slots {
		if slots[i].named() {
			all += len(slots[i].Keys)
		}
	}
	if 2*all > cap(o.table.At) {
		o.table = opentable.New[uint32](2 * opentable.PowerOfTwo(all))
	}
	o.table.Reset(len(o.keys))
	o.keys, o.of = o.keys[:0], slices.Grow(o.of[:0], all)
	for i := range slots {
		if slots[i].named() {
			for _, k := range slots[i].Keys {
				p := o.place(k)
				o.keys[p].n++
				o.of = append(o.of, p)
			}
		}
	}
	return all
}

// place returns where a key is in o.keys, made if need be.
func (o *Writer) place(key uint64) uint32 {
	t := &o.table
	at := t.First(block.Hash(key))
	for t.At[at] != 0 {
		if p := t.At[at] - 1; o.keys[p].key == key {
			return p
		}
		at = (at + 1) & (len(t.At) - 1)
	}
	p := uint32(len(o.keys))
	o.keys = append(o.keys, sortedKey{key: key, place: p})
	t.At[at] = p + 1
	if t.Full(len(o.keys)) {
		t.Grow()
		for i := range o.keys {
			t.Put(block.Hash(o.keys[i].key), uint32(i+1))
		}
	}
	return p
}

// order returns o.keys sorted, in o.other. Each kind is sorted by itself, by the bits in which its keys differ: of most kinds these are few.
func (o *Writer) order() []sortedKey {
	var ends, differ, first [filter.Kinds]uint64
	for i := range o.keys {
		k := o.keys[i].key
		kind := filter.Key(k).Kind()
		ends[kind]++
		first[kind] = k
	}
	at := uint64(0)
	for kind, n := range ends {
		ends[kind] = at
		at += n
	}
	o.other = slices.Grow(o.other[:0], len(o.keys))[:len(o.keys)]
	for i := range o.keys {
		k := o.keys[i].key
		kind := filter.Key(k).Kind()
		p := &ends[kind]
		differ[kind] |= k ^ first[kind]
		o.other[*p] = o.keys[i]
		*p++
	}
	from := uint64(0)
	for kind, to := range ends {
		o.digits(o.other[from:to], o.keys[from:to], differ[kind])
		from = to
	}
	return o.other
}

// digitBits is by how many bits of a key it is sorted at once, at most.
const digitBits = 11

// digits sorts keys that differ in some bits at most; b is as much memory.
func (o *Writer) digits(a, b []sortedKey, differ uint64) {
	width, moved := bits.Len64(differ), false
	passes := (width + digitBits - 1) / digitBits
	for pass := range passes {
		from, to := width*pass/passes, width*(pass+1)/passes
		mask := uint64(1)<<(to-from) - 1
		if differ>>from&mask == 0 {
			continue
		}
		count := o.count[:mask+1]
		clear(count)
		for i := range a {
			count[a[i].key>>from&mask]++
		}
		at := uint32(0)
		for i, n := range count {
			count[i] = at
			at += n
		}
		for i := range a {
			p := &count[a[i].key>>from&mask]
			b[*p] = a[i]
			*p++
		}
		a, b, moved = b, a, !moved
	}
	if moved {
		copy(b, a)
	}
}
