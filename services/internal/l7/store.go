package l7

import (
	"unsafe"

	"galvo/services/internal/hugepage"
)

// slotBytes is what a slot keeps of a stream: a ClientHello with post-quantum key shares, or the headers of a request up to Host.
const slotBytes = 4096

// slotHead is what a slot takes beside.
const slotHead = int(unsafe.Sizeof(slot{}))

// A store keeps the bytes of undecided streams and the host names of decided flows in memory of fixed size. When it runs out of slots the one
// taken longest ago changes hands; when it runs out of blocks a name is not kept.
type store struct {
	slots  []slot // in a ring by prev and next: slots[newest] was taken last, the one before it in the ring is the next to be taken
	newest uint16
	blocks []block
	free   uint32 // first free block + 1
	fresh  uint32 // blocks from here on were never used
	name   [MaxHost]byte
}

// MaxHost is the longest host name that is kept: that of the DNS (RFC 1035 section 2.3.4).
const MaxHost = 255

// A slot holds one stream of bytes with holes.
type slot struct {
	owner      uint64 // flow.Record.ID
	base       uint32 // sequence number of data[0]
	dir        uint8
	used       bool
	prev, next uint16
	spans      [8]span  // what has come, sorted, not touching each other; empty ones at the end
	note       [21]byte // of the dissector: length and bytes
	data       []byte   // its part of one large piece of memory, which the system gives page by page as it is used
}

type span struct{ from, to uint16 }

// A block holds a part of a host name.
type block struct {
	next uint32 // + 1
	n    uint8
	text [59]byte
}

func newStore(bytes int) store {
	slots := min(max(bytes/4*3, 0)/(slotBytes+slotHead), 1<<16-2)
	blocks := max(bytes/4, 0) / 64
	s := store{slots: make([]slot, slots), blocks: hugepage.Make[block](blocks)}
	data := make([]byte, slots*slotBytes)
	for i := range s.slots {
		s.slots[i].data = data[i*slotBytes:][:slotBytes:slotBytes]
		s.slots[i].prev = uint16((i + slots - 1) % slots)
		s.slots[i].next = uint16((i + 1) % slots)
	}
	return s
}

// take returns the number of an empty slot for a flow, or false if the store has none at all.
func (s *store) take(owner uint64) (uint16, bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	i := s.slots[s.newest].prev
	sl := &s.slots[i]
	sl.owner, sl.used, sl.base, sl.dir = owner, true, 0, 0
	sl.note[0] = 0
	sl.spans = [8]span{}
	s.newest = i
	return i, true
}

// at returns slot i if it still belongs to owner.
func (s *store) at(i uint16, owner uint64) *slot {
	if int(i) >= len(s.slots) || s.slots[i].owner != owner || !s.slots[i].used {
		return nil
	}
	return &s.slots[i]
}

// release gives slot i back, to be taken next.
func (s *store) release(i uint16, owner uint64) {
	sl := s.at(i, owner)
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

// put copies b to its place in the stream. Bytes beyond the slot, and a stream with more holes than the slot can note, are left out.
func (sl *slot) put(at int, b []byte) {
	if at < 0 || at >= slotBytes || len(b) == 0 {
		return
	}
	b = b[:min(len(b), slotBytes-at)]
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

// head returns the bytes from the beginning of the stream up to its first hole.
func (sl *slot) head() []byte {
	if sl.spans[0].from != 0 {
		return nil
	}
	return sl.data[:sl.spans[0].to]
}

// keepName stores a host name and returns its first block + 1, or 0 if there is no room.
func (s *store) keepName(name []byte) uint32 {
	first := uint32(0)
	name = name[:min(len(name), MaxHost)]
	// The last part is stored first, so that each block knows its successor.
	for end := len(name); end > 0; {
		from := (end - 1) / len(block{}.text) * len(block{}.text)
		b := s.block()
		if b == 0 {
			s.dropName(first)
			return 0
		}
		bl := &s.blocks[b-1]
		bl.next, bl.n = first, uint8(copy(bl.text[:], name[from:end]))
		first, end = b, from
	}
	return first
}

func (s *store) block() uint32 {
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

func (s *store) dropName(first uint32) {
	for first != 0 {
		bl := &s.blocks[first-1]
		next := bl.next
		bl.next, s.free = s.free, first
		first = next
	}
}

// nameAt returns the name that begins with block first - 1; it is valid until the next call.
func (s *store) nameAt(first uint32) []byte {
	n := 0
	for first != 0 {
		bl := &s.blocks[first-1]
		n += copy(s.name[n:], bl.text[:bl.n])
		first = bl.next
	}
	return s.name[:n]
}
