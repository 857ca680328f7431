package index

import "galvo/services/internal/ring/block"

// Shelves keep bloom filters, keys and chunks of blocks until their segment has an exact index. Memory from Go's heap costs a fault for each page that a block's keys take,
// which is as much as sorting them; that of a shelf is used again.
type Shelves []*shelf

// A shelf has room for the keys of some 30 blocks of real traffic.
type shelf struct {
	blooms []byte
	keys   []uint64
	chunks []block.Chunks
}

const (
	shelfKeys   = 1 << 15
	shelfBlooms = 30 * block.BloomSize
)

// room reports whether a block with so many keys fits.
func (s *shelf) room(keys int) bool {
	return len(s.keys)+keys <= cap(s.keys) && len(s.blooms)+block.BloomSize <= cap(s.blooms)
}

// Keep copies what a block's builder has noted of it to a slot. The memory comes from the last shelf, or a spare one.
func (l *Shelves) Keep(slot *Slot, img *block.Image, spare *Shelves) {
	n := len(img.Keys)
	if len(*l) == 0 || !(*l)[len(*l)-1].room(n) {
		*l = append(*l, spare.take())
	}
	s := (*l)[len(*l)-1]
	from := len(s.blooms)
	s.blooms = append(s.blooms, block.BloomOf(img.Buf)...)
	slot.Bloom = s.blooms[from:len(s.blooms):len(s.blooms)]
	from = len(s.keys)
	s.keys, s.chunks = append(s.keys, img.Keys...), append(s.chunks, img.Chunks...)
	slot.Keys, slot.Chunks = s.keys[from:from+n:from+n], s.chunks[from:from+n:from+n]
}

// take takes an empty shelf, or makes one.
func (l *Shelves) take() *shelf {
	n := len(*l)
	if n == 0 {
		return &shelf{make([]byte, 0, shelfBlooms), make([]uint64, 0, shelfKeys), make([]block.Chunks, 0, shelfKeys)}
	}
	s := (*l)[n-1]
	*l = (*l)[:n-1]
	s.blooms, s.keys, s.chunks = s.blooms[:0], s.keys[:0], s.chunks[:0]
	return s
}

// GiveBack adds shelves to spare ones. No slot may have anything on them any more, nor anybody who has copied one.
func (l *Shelves) GiveBack(spare *Shelves) {
	*spare = append(*spare, *l...)
	*l = nil
}
