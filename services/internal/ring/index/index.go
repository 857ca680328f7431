// Package index is the end of a segment that is full: what its blocks are, and which of them have which keys, exactly. A Writer makes it out of the keys that the
// blocks' builders have noted, an Index reads as much of it as somebody asks for. ../FORMAT.md has the bytes.
package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/aio"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/sum"
)

// The index of a segment lies in its last blocks, in pages: what its blocks are (the table), and which of them have which keys (the exact index).
const (
	indexMagic    = "GALVORIX"
	pageContent   = files.PageSize - block.LocalHead - 4 // of a page that is a block for local use, after its checksum
	pagesPerBlock = block.Size/files.PageSize - 1        // the first page of an index block is a section header
	tableEntrySz  = 64
	perTablePage  = pageContent / tableEntrySz
	perDirPage    = pageContent / 8
	maxBlocks     = MaxSegment / block.Size
	typeIndex     = 0x80004704 // type of a block for local use
)

var le = binary.LittleEndian

// An Index is that of one segment: as much of it as is in memory, and the way to the rest. It may be used by several goroutines.
type Index struct {
	mu     sync.Mutex
	turn   uint64 // of what is on the disk: each Drop and Write makes it another one
	newest uint64 // number of the newest block of the segment, if that is known
	later  bool   // somebody else may have written a newer one
	loaded bool
	head   indexHead
	used   Set      // blocks that hold something
	count  uint64   // packets in them
	dir    []uint64 // first key of each page of keys
	sketch sketch   // of the keys in the pages; nil if there is none
}

// A Segment is a segment's file, of so many bytes, whose last blocks are an index.
type Segment struct {
	File    files.File
	Bytes   int64
	Number  int
	Ring    uint64
	Buffers *files.Buffers
	Reader  *aio.Reader
}

type indexHead struct {
	ring       uint64
	segment    uint32
	blocks     uint32
	tablePages uint32
	dirPages   uint32
	keyPages   uint32
	covered    [maxBlocks / 64]uint64 // blocks whose keys are in the index
}

// Drop forgets what was read: the index is another one now.
func (x *Index) Drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn++
	x.newest, x.later, x.loaded, x.dir, x.sketch = 0, false, false, nil, nil
}

// Expect says which number the newest block of the segment has: an index that names another one is not that of what is in it. With later somebody else may write
// the segment, and its index may name a newer block.
func (x *Index) Expect(newest uint64, later bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.newest, x.later = newest, later
}

func (h *indexHead) parse(b []byte) error {
	if string(b[:8]) != indexMagic {
		return errors.New("it is no index")
	}
	if err := block.Version(le.Uint16(b[8:])); err != nil {
		return err
	}
	*h = indexHead{
		ring: le.Uint64(b[16:]), segment: le.Uint32(b[24:]), blocks: le.Uint32(b[28:]), tablePages: le.Uint32(b[32:]), dirPages: le.Uint32(b[36:]), keyPages: le.Uint32(b[40:]),
	}
	for i := range h.covered {
		h.covered[i] = le.Uint64(b[48+8*i:])
	}
	return nil
}

// pages reads pages of an index into b, whose room they fit in, and calls f with the content of each.
func (x *Index) pages(s *Segment, b []byte, from, n int, f func(i int, content []byte) error) error {
	base := s.Bytes - int64(indexBlocks(s.Bytes))*block.Size
	for n > 0 {
		run := min(n, pagesPerBlock-from%pagesPerBlock, len(b)/files.PageSize)
		p := b[:run*files.PageSize]
		if int64(pageOffset(from+run-1))+base+files.PageSize > s.Bytes {
			return errors.New("its index names pages that are not there")
		}
		var err error
		s.Reader.Read([]aio.Piece{{File: s.File, B: p, At: base + int64(pageOffset(from))}}, func(_ int, e error) { err = e })
		if err != nil {
			return fmt.Errorf("read its index: %w", err)
		}
		for i := range run {
			q := p[i*files.PageSize:][:files.PageSize]
			if le.Uint32(q) != typeIndex || le.Uint32(q[8:]) != sum.Of(q[12:12+pageContent])^uint32(s.Ring) {
				return errors.New("a page of its index is damaged")
			}
			if err := f(from+i, q[12:12+pageContent]); err != nil {
				return err
			}
		}
		from, n = from+run, n-run
	}
	return nil
}

// load reads head and directory, and which places the table says are used, if they were not read before. x.mu is held.
func (x *Index) load(s *Segment) error {
	if x.loaded {
		return nil
	}
	return x.read(s, func(i int, p []byte) {
		for k := i * perTablePage; k < min((i+1)*perTablePage, DataBlocks(s.Bytes)); k++ {
			if e := p[k%perTablePage*tableEntrySz:]; le.Uint64(e) != 0 {
				x.used.add(k)
				x.count += uint64(le.Uint32(e[32:]))
			}
		}
	})
}

// read reads head, table and directory, which lie in a row, and calls table with each page of the table, numbered from 0. x.mu is held.
func (x *Index) read(s *Segment, table func(i int, p []byte)) error {
	b, err := s.Buffers.Get()
	if err != nil {
		return err
	}
	defer s.Buffers.Put(b)
	tablePages := (DataBlocks(s.Bytes) + perTablePage - 1) / perTablePage
	var h indexHead
	var dir []uint64
	newest := uint64(0)
	x.loaded, x.used, x.count = false, Set{}, 0
	err = x.pages(s, b, 0, 1+tablePages+dirPages(s.Bytes), func(i int, p []byte) error {
		switch {
		case i == 0:
			if err := h.check(p, s, tablePages); err != nil {
				return err
			}
			dir = make([]uint64, 0, h.keyPages)
		case i <= tablePages:
			table(i-1, p)
			for k := range perTablePage {
				newest = max(newest, le.Uint64(p[k*tableEntrySz:]))
			}
		default:
			for i := 0; i < perDirPage && len(dir) < int(h.keyPages); i++ {
				dir = append(dir, le.Uint64(p[8*i:]))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if x.newest != 0 && (newest < x.newest || newest > x.newest && !x.later) {
		return fmt.Errorf("its index is another one: it names block %d as the newest, and that is %d", newest, x.newest)
	}
	x.head, x.dir, x.loaded = h, dir, true
	return nil
}

// Warm reads what every query asks for, unless it is in memory, and makes a sketch if it takes no more than so many bytes. It returns how many bytes the sketch takes.
func (x *Index) Warm(s *Segment, most int) (int, error) {
	x.mu.Lock()
	err := x.load(s)
	turn, head, have := x.turn, x.head, x.sketch
	x.mu.Unlock()
	if err != nil || have != nil {
		return have.bytes(), err
	}
	n := int(head.keyPages)
	if n*pageContent/bytesPerKey*sketchBits/8 > most {
		return 0, nil
	}
	b, err := s.Buffers.Get()
	if err != nil {
		return 0, err
	}
	defer s.Buffers.Put(b)
	keys := make([]uint64, 0, n*pageContent/bytesPerKey)
	err = x.pages(s, b, 1+int(head.tablePages)+int(head.dirPages), n, func(_ int, p []byte) error {
		return readKeys(p, math.MaxUint64, (int(head.blocks)+7)/8, func(key uint64, _ int, _ block.Chunks) {
			if len(keys) == 0 || keys[len(keys)-1] != key {
				keys = append(keys, key)
			}
		})
	})
	if err != nil {
		return 0, err
	}
	sk := newSketch(len(keys))
	for _, k := range keys {
		sk.add(k)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turn != turn {
		return 0, nil // it is another index by now
	}
	x.sketch = sk
	return sk.bytes(), nil
}

// bytesPerKey is about what a key takes in a page.
const bytesPerKey = 11

// Sketch returns how many bytes the sketch takes.
func (x *Index) Sketch() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sketch.bytes()
}

// Shed gives up the sketch.
func (x *Index) Shed() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sketch = nil
}

// dirPages returns how many pages the directory of a segment of so many bytes has: as if all pages held keys.
func dirPages(segment int64) int {
	return (indexBlocks(segment)*pagesPerBlock + perDirPage - 1) / perDirPage
}

func (h *indexHead) check(p []byte, s *Segment, tablePages int) error {
	if err := h.parse(p); err != nil {
		return err
	}
	if h.ring != s.Ring || h.segment != uint32(s.Number) || int(h.blocks) != DataBlocks(s.Bytes) || int(h.tablePages) != tablePages ||
		int(h.dirPages) != dirPages(s.Bytes) || h.keyPages > h.dirPages*perDirPage {
		return errors.New("its index belongs to another segment")
	}
	return nil
}

// Table reads what the blocks of a segment are.
func (x *Index) Table(s *Segment) ([]Slot, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	slots := make([]Slot, 0, DataBlocks(s.Bytes))
	err := x.read(s, func(_ int, p []byte) { slots = readTable(slots, p) })
	if err != nil {
		return nil, err
	}
	x.used, x.count = usedOf(slots)
	return slots, nil
}

// A Found is what an index says about keys.
type Found struct {
	With    Where  // blocks that have one of them
	Unknown Set    // blocks that it says nothing about
	Used    int    // how many blocks hold something
	Packets uint64 // that these have
	Bytes   uint64 // that were read for it
}

// Find looks for the keys of a range.
func (x *Index) Find(s *Segment, keys filter.KeyRange) (f Found, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.loaded {
		if err := x.load(s); err != nil {
			return f, err
		}
		f.Bytes += uint64(1+x.head.tablePages+x.head.dirPages) * files.PageSize
	}
	f.Used, f.Packets = x.used.Len(), x.count
	for i := range f.Unknown {
		f.Unknown[i] = x.used[i] &^ x.head.covered[i]
	}
	if x.sketch != nil && !x.sketch.hasRange(keys) {
		return f, nil
	}
	lo, hi := uint64(keys.Lo), uint64(keys.Hi)
	from, exact := slices.BinarySearch(x.dir, lo)
	if !exact && from > 0 {
		from--
	}
	to, exact := slices.BinarySearch(x.dir, hi)
	if exact {
		to++
	}
	if from >= to {
		return f, nil
	}
	b, err := s.Buffers.Get()
	if err != nil {
		return f, err
	}
	defer s.Buffers.Put(b)
	f.Bytes += uint64(to-from) * files.PageSize
	first := 1 + int(x.head.tablePages) + int(x.head.dirPages)
	err = x.pages(s, b, first+from, to-from, func(_ int, p []byte) error {
		return readKeys(p, hi, (int(x.head.blocks)+7)/8, func(key uint64, i int, chunks block.Chunks) {
			if key >= lo && i < int(x.head.blocks) {
				if f.With == nil {
					f.With = make(Where, x.head.blocks)
				}
				f.With[i] |= chunks
			}
		})
	})
	return f, err
}

// All reads the whole exact index of a segment anew: the blocks of each key, and those that it says nothing about.
func (x *Index) All(s *Segment) (map[uint64][]Spot, Set, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var none Set
	x.loaded = false
	if err := x.load(s); err != nil {
		return nil, none, err
	}
	for i := range none {
		none[i] = ^x.head.covered[i]
	}
	b, err := s.Buffers.Get()
	if err != nil {
		return nil, none, err
	}
	defer s.Buffers.Put(b)
	keys := make(map[uint64][]Spot)
	err = x.pages(s, b, 1+int(x.head.tablePages)+int(x.head.dirPages), int(x.head.keyPages), func(_ int, p []byte) error {
		return readKeys(p, math.MaxInt64, (int(x.head.blocks)+7)/8, func(key uint64, i int, chunks block.Chunks) {
			keys[key] = append(keys[key], Spot{chunks, uint16(i)})
		})
	})
	return keys, none, err
}
