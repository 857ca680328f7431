// Package index is the end of a segment that is full: what its blocks are, and which of them have which keys, exactly. A Writer makes it out of the keys that the
// blocks' builders have noted, an Index reads as much of it as somebody asks for. ../FORMAT.md has the bytes.
package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

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
	kept   []byte   // content of the pages of keys; nil if it is not in memory
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
	x.newest, x.later, x.loaded, x.dir, x.sketch, x.kept = 0, false, false, nil, nil, nil
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
func (s *Segment) pages(b []byte, from, n int, f func(i int, content []byte) error) error {
	var pieces []aio.Piece
	for n > 0 {
		run := min(n, pagesPerBlock-from%pagesPerBlock, len(b)/files.PageSize)
		var err error
		if pieces, err = s.pieces(pieces[:0], b, from, run); err != nil {
			return err
		}
		s.Reader.Read(pieces, func(_ int, e error) { err = e })
		if err != nil {
			return fmt.Errorf("read its index: %w", err)
		}
		if err := s.contents(b, from, run, f); err != nil {
			return err
		}
		from, n = from+run, n-run
	}
	return nil
}

// pieces appends what is to be read to have pages of an index in b.
func (s *Segment) pieces(dst []aio.Piece, b []byte, from, n int) ([]aio.Piece, error) {
	base := s.Bytes - int64(indexBlocks(s.Bytes))*block.Size
	for n > 0 {
		run := min(n, pagesPerBlock-from%pagesPerBlock)
		if base+int64(pageOffset(from+run-1))+files.PageSize > s.Bytes {
			return dst, errors.New("its index names pages that are not there")
		}
		dst = append(dst, aio.Piece{File: s.File, B: b[:run*files.PageSize], At: base + int64(pageOffset(from))})
		b, from, n = b[run*files.PageSize:], from+run, n-run
	}
	return dst, nil
}

// contents calls f with the content of each of the pages of an index that were read into b.
func (s *Segment) contents(b []byte, from, n int, f func(i int, content []byte) error) error {
	for i := range n {
		p := b[i*files.PageSize:][:files.PageSize]
		if le.Uint32(p) != typeIndex || le.Uint32(p[8:]) != sum.Of(p[12:12+pageContent])^uint32(s.Ring) {
			return errors.New("a page of its index is damaged")
		}
		if err := f(from+i, p[12:12+pageContent]); err != nil {
			return err
		}
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
	err = s.pages(b, 0, 1+tablePages+dirPages(s.Bytes), func(i int, p []byte) error {
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

// Warm reads what every query asks for, unless it is in memory, and makes a sketch if it takes no more than so many bytes; with one it keeps the pages of keys, too, if these
// take no more than so many bytes.
func (x *Index) Warm(s *Segment, sketch, pages int) error {
	x.mu.Lock()
	err := x.load(s)
	turn, head, have := x.turn, x.head, x.sketch != nil
	x.mu.Unlock()
	n := int(head.keyPages)
	if err != nil || have || n*pageContent/bytesPerKey*sketchBits/8 > sketch {
		return err
	}
	b, err := s.Buffers.Get()
	if err != nil {
		return err
	}
	defer s.Buffers.Put(b)
	keys := make([]uint64, 0, n*pageContent/bytesPerKey)
	var kept []byte
	if n*pageContent <= pages {
		kept = make([]byte, 0, n*pageContent)
	}
	err = s.pages(b, 1+int(head.tablePages)+int(head.dirPages), n, func(_ int, p []byte) error {
		if cap(kept) > 0 {
			kept = append(kept, p...)
		}
		return readKeys(p, 0, math.MaxUint64, (int(head.blocks)+7)/8, func(key uint64, _ int, _ block.Chunks) {
			if len(keys) == 0 || keys[len(keys)-1] != key {
				keys = append(keys, key)
			}
		})
	})
	if err != nil {
		return err
	}
	sk := newSketch(len(keys))
	for _, k := range keys {
		sk.add(k)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turn == turn { // else it is another index by now
		x.sketch, x.kept = sk, kept
	}
	return nil
}

// bytesPerKey is about what a key takes in a page.
const bytesPerKey = 11

// Memory returns how many bytes the sketch and the pages of keys take that are in memory.
func (x *Index) Memory() (sketch, pages int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sketch.bytes(), len(x.kept)
}

// Shed gives up the pages of keys, and the sketch, too, unless that is to stay.
func (x *Index) Shed(sketch bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kept = nil; sketch {
		x.sketch = nil
	}
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
	err = s.pages(b, 1+int(x.head.tablePages)+int(x.head.dirPages), int(x.head.keyPages), func(_ int, p []byte) error {
		return readKeys(p, 0, math.MaxInt64, (int(x.head.blocks)+7)/8, func(key uint64, i int, chunks block.Chunks) {
			keys[key] = append(keys[key], Spot{chunks, uint16(i)})
		})
	})
	return keys, none, err
}
