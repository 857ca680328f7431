// Package store keeps what a worker remembers of flows and has no room for in their records: the beginnings of streams that are not recognised yet, and the names of
// servers. Its memory is fixed when it is made.
//
// A flow is a number here, its owner, and what the flow's record has to hold is the number of a slot or a Name. A store belongs to one worker.
package store

import (
	"fmt"
	"unsafe"

	"galvo/services/internal/hugepage"
	"galvo/services/internal/l7/protocol"
)

// SlotBytes is what a slot keeps of a stream: a ClientHello with post-quantum key shares, or the headers of a request up to Host.
const SlotBytes = 4096

// SlotSize is what a slot takes of a store.
const SlotSize = SlotBytes + int(unsafe.Sizeof(Slot{}))

// A Store keeps the bytes of undecided streams and the host names of decided flows in memory of fixed size. When it runs out of slots the one
// taken longest ago changes hands; when it runs out of blocks a name is not kept. The bytes of a name stay until the next Begin, whatever becomes of it.
type Store struct {
	slots  []Slot // in a ring by prev and next: slots[newest] was taken last, the one before it in the ring is the next to be taken
	newest uint16
	blocks []block
	free   uint32 // first free block + 1
	fresh  uint32 // blocks from here on were never used
	long   []byte // names that are longer than a block, put together

	dropped, last uint32 // first and last block + 1 of those that were dropped since Begin
}

// A Slot holds one stream of bytes with holes.
type Slot struct {
	owner      uint64 // flow.Record.ID
	Base       uint32 // sequence number of the first byte
	Dir        uint8  // endpoint that sent the stream
	used       bool
	prev, next uint16
	spans      [8]span  // what has come, sorted, not touching each other; empty ones at the end
	Note       [21]byte // of the dissector: length and bytes
	data       []byte   // its part of one large piece of memory, which the system gives page by page as it is used
}

type span struct{ from, to uint16 }

// A block holds a part of a host name.
type block struct {
	next uint32 // + 1
	text [60]byte
}

// New returns a store of at most so many bytes.
func New(bytes int) Store {
	slots := min(max(bytes/4*3, 0)/SlotSize, 1<<16-2)
	blocks := min(max(bytes/4, 0)/64, mostBlocks)
	s := Store{slots: make([]Slot, slots), blocks: hugepage.Make[block](blocks), long: make([]byte, 0, 256*protocol.MaxHost)}
	data := make([]byte, slots*SlotBytes)
	for i := range s.slots {
		s.slots[i].data = data[i*SlotBytes:][:SlotBytes:SlotBytes]
		s.slots[i].prev = uint16((i + slots - 1) % slots)
		s.slots[i].next = uint16((i + 1) % slots)
	}
	return s
}

// Take returns the number of an empty slot for a flow, or false if the store has none at all.
func (s *Store) Take(owner uint64) (uint16, bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	i := s.slots[s.newest].prev
	sl := &s.slots[i]
	sl.owner, sl.used, sl.Base, sl.Dir = owner, true, 0, 0
	sl.Note[0] = 0
	sl.spans = [8]span{}
	s.newest = i
	return i, true
}

// At returns slot i if it still belongs to owner.
func (s *Store) At(i uint16, owner uint64) *Slot {
	if int(i) >= len(s.slots) || s.slots[i].owner != owner || !s.slots[i].used {
		return nil
	}
	return &s.slots[i]
}

// Release gives slot i back, to be taken next.
func (s *Store) Release(i uint16, owner uint64) {
	sl := s.At(i, owner)
	if sl == nil {
		return
	}
	sl.used = false
	if i == s.newest {
		s.newest = sl.next
		return
	}
	s.slots[sl.prev].next, s.slots[sl.next].prev = sl.next, sl.prev
	newest := &s.slots[s.newest]
	sl.prev, sl.next = newest.prev, s.newest
	s.slots[newest.prev].next, newest.prev = i, i
}

// Reset makes an empty slot for the bytes of a direction from a sequence number on.
func (sl *Slot) Reset(base uint32, dir uint8) { sl.Base, sl.Dir, sl.spans = base, dir, [8]span{} }

// Put copies b to its place in the stream. Bytes beyond the slot, and a stream with more holes than the slot can note, are left out.
func (sl *Slot) Put(at int, b []byte) {
	if at < 0 || at >= SlotBytes || len(b) == 0 {
		return
	}
	b = b[:min(len(b), SlotBytes-at)]
	add := span{uint16(at), uint16(at + len(b))}
	n := 0
	for n < len(sl.spans) && sl.spans[n].to != 0 {
		n++
	}
	i := 0
	for i < n && sl.spans[i].to < add.from {
		i++
	}
	j := i
	for j < n && sl.spans[j].from <= add.to {
		j++
	}
	if i == j {
		if n == len(sl.spans) {
			return
		}
		copy(sl.spans[i+1:n+1], sl.spans[i:n])
		sl.spans[i] = add
	} else {
		sl.spans[i] = span{min(add.from, sl.spans[i].from), max(add.to, sl.spans[j-1].to)}
		rest := copy(sl.spans[i+1:], sl.spans[j:n])
		clear(sl.spans[i+1+rest : n])
	}
	copy(sl.data[at:], b)
}

// Head returns the bytes from the beginning of the stream up to its first hole.
func (sl *Slot) Head() []byte {
	if sl.spans[0].from != 0 {
		return nil
	}
	return sl.data[:sl.spans[0].to]
}

// A Name says where a host name is: the number of its first block + 1 in the low 24 bits, its length above. 0 is none. With the length in the flow's record a name is
// handed out without a look at its memory: that of a flow among 100,000 is in no cache, and few who get a name read it.
type Name uint32

const mostBlocks = 1<<24 - 1

func (r Name) block() uint32 { return uint32(r) & mostBlocks }
func (r Name) length() int   { return int(r >> 24) }

// Keep stores a host name, or returns 0 if there is no room.
func (s *Store) Keep(name []byte) Name {
	first := uint32(0)
	name = name[:min(len(name), protocol.MaxHost)]
	// The last part is stored first, so that each block knows its successor.
	for end := len(name); end > 0; {
		from := (end - 1) / len(block{}.text) * len(block{}.text)
		b := s.block()
		if b == 0 {
			s.Drop(Name(first))
			return 0
		}
		bl := &s.blocks[b-1]
		bl.next = first
		copy(bl.text[:], name[from:end])
		first, end = b, from
	}
	return Name(first | uint32(len(name))<<24)
}

func (s *Store) block() uint32 {
	if b := s.free; b != 0 {
		s.free = s.blocks[b-1].next
		return b
	}
	if int(s.fresh) == len(s.blocks) {
		return 0
	}
	s.fresh++
	return s.fresh
}

// Drop gives the blocks of a name back with the next Begin.
func (s *Store) Drop(r Name) {
	for b := r.block(); b != 0; {
		bl := &s.blocks[b-1]
		if s.dropped == 0 {
			s.last = b
		}
		next := bl.next
		bl.next, s.dropped = s.dropped, b
		b = next
	}
}

// Begin lets blocks be used again whose names were dropped since the last time.
func (s *Store) Begin() {
	if s.dropped != 0 {
		s.blocks[s.last-1].next, s.free, s.dropped = s.free, s.dropped, 0
	}
}

// Text returns a name. It is valid until the next Begin, and a long one until 256 others were asked for.
func (s *Store) Text(r Name) []byte {
	b, n := r.block(), r.length()
	if b == 0 || n > len(block{}.text) {
		return s.text(r)
	}
	return s.blocks[b-1].text[:n]
}

// text is Text for a name that has no block, or several.
func (s *Store) text(r Name) []byte {
	if r == 0 {
		return nil
	}
	b, n := r.block(), r.length()
	if len(s.long)+n > cap(s.long) {
		s.long = s.long[:0]
	}
	from := len(s.long)
	for ; n > 0; b = s.blocks[b-1].next {
		bl := &s.blocks[b-1]
		s.long = append(s.long, bl.text[:min(n, len(bl.text))]...)
		n -= min(n, len(bl.text))
	}
	return s.long[from:]
}

// Check returns what is wrong with a store to which everything was given back: each slot and each block must be free, once. It walks through all of them.
func (s *Store) Check() error {
	at, n := s.newest, 0
	for n < len(s.slots) {
		sl := &s.slots[at]
		if sl.used {
			return fmt.Errorf("slot %d is not back", at)
		}
		if s.slots[sl.next].prev != at {
			return fmt.Errorf("slot %d is not before slot %d", at, sl.next)
		}
		n++
		if at = sl.next; at == s.newest {
			break
		}
	}
	free := 0
	for b := s.free; b != 0 && free <= len(s.blocks); b = s.blocks[b-1].next {
		free++
	}
	if n != len(s.slots) || free != int(s.fresh) {
		return fmt.Errorf("%d of %d slots, %d of %d blocks are back", n, len(s.slots), free, s.fresh)
	}
	return nil
}
