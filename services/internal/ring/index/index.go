// Package index is the end of a segment that is full: what its blocks are, and which of them have which keys, exactly. A Writer makes it out of the keys that the
// blocks' builders have noted, an Index reads as much of it as somebody asks for. ../FORMAT.md has the bytes.
package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"
	"sync"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// The index of a segment lies in its last blocks, in pages: what its blocks are (the table), and which of them have which keys (the exact index).
const (
	indexMagic    = "GALVORIX"
	pageContent   = files.PageSize - block.LocalHead - 4 // of a page that is a block for local use, after its checksum
	pagesPerBlock = block.Size/files.PageSize - 1        // the first page of an index block is a section header
	tableEntrySz  = 48
	perTablePage  = pageContent / tableEntrySz
	perDirPage    = pageContent / 8
	maxBlocks     = MaxSegment / block.Size
	typeIndex     = 0x80004704 // type of a block for local use
)

var le = binary.LittleEndian

// castagnoli is the polynomial of CRC-32C, which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An Index is that of one segment: as much of it as is in memory, and the way to the rest. It may be used by several goroutines.
type Index struct {
	mu     sync.Mutex
	turn   uint64 // of what is on the disk: each Drop and Write makes it another one
	loaded bool
	head   indexHead
	used   Set      // blocks that hold something
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
	x.loaded, x.dir, x.sketch = false, nil, nil
}

// An indexWriter puts pages into index blocks.
type indexWriter struct {
	b    []byte // of all index blocks
	page int
}

// next returns the content of the next page, or nil if there is no room.
func (w *indexWriter) next() []byte {
	at := pageOffset(w.page)
	if at+files.PageSize > len(w.b) {
		return nil
	}
	w.page++
	return w.b[at+12 : at+12+pageContent]
}

// pageOffset returns where page n of an index lies in the index blocks.
func pageOffset(n int) int { return n/pagesPerBlock*block.Size + (n%pagesPerBlock+1)*files.PageSize }

// seal completes the pages, which are blocks for local use with a checksum each, and what is between and behind them.
func (w *indexWriter) seal(id uint64) {
	for at := 0; at < len(w.b); at += block.Size {
		head := block.AppendHead(w.b[at:at], []pipeline.Interface{{Link: packet.LinkEthernet}})
		block.Pad(w.b[at+len(head) : at+files.PageSize])
	}
	for n := range w.page {
		p := w.b[pageOffset(n):][:files.PageSize]
		le.PutUint32(p, typeIndex)
		le.PutUint32(p[4:], files.PageSize)
		le.PutUint32(p[8:], crc32.Checksum(p[12:12+pageContent], castagnoli)^uint32(id))
		le.PutUint32(p[files.PageSize-4:], files.PageSize)
	}
	for at := pageOffset(w.page); at < len(w.b); at = (at/block.Size+1)*block.Size + files.PageSize {
		block.Pad(w.b[at : (at/block.Size+1)*block.Size])
	}
}

// Write writes the index of a segment whose blocks are in slots. What every query asks for stays in memory, in x.
func (o *Writer) Write(x *Index, s *Segment, slots []Slot) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := indexBlocks(s.Bytes) * block.Size
	if o.blocks == nil {
		b, err := files.Pages(size)
		if err != nil {
			return err
		}
		o.blocks = b
	}
	covered := len(slots)
	h, keys, dir, ok := o.encode(o.blocks, s.Ring, s.Number, slots, covered)
	for !ok {
		covered /= 2 // the keys of the others are found by their bloom filters
		h, keys, dir, ok = o.encode(o.blocks, s.Ring, s.Number, slots, covered)
	}
	if _, err := s.File.WriteAt(o.blocks, s.Bytes-int64(size)); err != nil {
		return fmt.Errorf("write its index: %w", err)
	}
	sk := newSketch(len(keys))
	for i := range keys {
		sk.add(keys[i].key)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn++
	x.head, x.used, x.dir, x.sketch, x.loaded = h, usedOf(slots), dir, sk, true
	return nil
}

// usedOf returns the places that hold a block.
func usedOf(slots []Slot) (used Set) {
	for i := range slots {
		if slots[i].Seq != 0 {
			used.add(i)
		}
	}
	return used
}

// encode makes the index blocks, with the keys of the first so many blocks. It reports whether there was room.
func (o *Writer) encode(b []byte, id uint64, number int, slots []Slot, most int) (h indexHead, keys []sortedKey, dir []uint64, ok bool) {
	clear(b)
	h = indexHead{ring: id, segment: uint32(number), blocks: uint32(len(slots)), tablePages: uint32((len(slots) + perTablePage - 1) / perTablePage)}
	for i := range slots[:most] {
		if slots[i].named() {
			h.covered[i/64] |= 1 << (i % 64)
		}
	}
	keys = o.sort(slots[:most])
	w := indexWriter{b: b, page: 1 + int(h.tablePages)}
	h.dirPages = uint32((len(b)/block.Size*pagesPerBlock + perDirPage - 1) / perDirPage)
	w.page += int(h.dirPages)
	dir, ok = writeKeys(&w, keys, o.lists, (len(slots)+7)/8)
	if !ok || len(dir) > int(h.dirPages)*perDirPage {
		return h, nil, nil, false
	}
	h.keyPages = uint32(len(dir))
	end := w.page
	w.page = 0
	h.put(w.next())
	writeTable(&w, slots)
	for rest := dir; len(rest) > 0; {
		p := w.next()
		n := min(len(rest), perDirPage)
		for i, k := range rest[:n] {
			le.PutUint64(p[8*i:], k)
		}
		rest = rest[n:]
	}
	w.page = end
	w.seal(id)
	return h, keys, dir, true
}

// writeKeys writes sorted keys, whose blocks lie in lists one after the other, to pages and returns the first key of each page. ok is false if there was no
// room. bitmap is the number of bytes that a bit for each block takes.
func writeKeys(w *indexWriter, keys []sortedKey, lists []uint16, bitmap int) (dir []uint64, ok bool) {
	var page []byte
	var at int
	var last uint64
	entry := make([]byte, 0, 2*binary.MaxVarintLen64+bitmap)
	for _, k := range keys {
		blocks := lists[:k.n]
		lists = lists[k.n:]
		entry = appendBlocks(binary.AppendUvarint(entry[:0], k.key-last), blocks, bitmap)
		if page == nil || at+len(entry) > len(page) {
			if page = w.next(); page == nil {
				return nil, false
			}
			dir = append(dir, k.key)
			at = 2
			entry = appendBlocks(binary.AppendUvarint(entry[:0], k.key), blocks, bitmap)
		}
		at += copy(page[at:], entry)
		le.PutUint16(page, le.Uint16(page)+1)
		last = k.key
	}
	return dir, true
}

// appendBlocks appends the blocks of a key: one block b as 2b+1; n blocks as 2n and the distances between them; or 0 and a bitmap.
func appendBlocks(dst []byte, blocks []uint16, bitmap int) []byte {
	if len(blocks) == 1 {
		return binary.AppendUvarint(dst, uint64(blocks[0])<<1|1)
	}
	if len(blocks) >= bitmap {
		at := len(dst) + 1
		dst = append(append(dst, 0), make([]byte, bitmap)...)
		for _, b := range blocks {
			dst[at+int(b)/8] |= 1 << (b % 8)
		}
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(blocks))<<1)
	last := uint16(0)
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, uint64(b-last))
		last = b
	}
	return dst
}

func (h *indexHead) put(b []byte) {
	copy(b, indexMagic)
	le.PutUint16(b[8:], block.FormatVersion)
	le.PutUint64(b[16:], h.ring)
	le.PutUint32(b[24:], h.segment)
	le.PutUint32(b[28:], h.blocks)
	le.PutUint32(b[32:], h.tablePages)
	le.PutUint32(b[36:], h.dirPages)
	le.PutUint32(b[40:], h.keyPages)
	for i, w := range h.covered {
		le.PutUint64(b[48+8*i:], w)
	}
}

func (h *indexHead) parse(b []byte) error {
	if string(b[:8]) != indexMagic || le.Uint16(b[8:]) != block.FormatVersion {
		return errors.New("it is no index of this version")
	}
	*h = indexHead{
		ring: le.Uint64(b[16:]), segment: le.Uint32(b[24:]), blocks: le.Uint32(b[28:]), tablePages: le.Uint32(b[32:]), dirPages: le.Uint32(b[36:]), keyPages: le.Uint32(b[40:]),
	}
	for i := range h.covered {
		h.covered[i] = le.Uint64(b[48+8*i:])
	}
	return nil
}

func writeTable(w *indexWriter, slots []Slot) {
	for len(slots) > 0 {
		p := w.next()
		n := min(len(slots), perTablePage)
		for i := range slots[:n] {
			s, e := &slots[i], p[i*tableEntrySz:]
			le.PutUint64(e, s.Seq)
			le.PutUint64(e[8:], uint64(s.First))
			le.PutUint64(e[16:], uint64(s.Last))
			le.PutUint64(e[24:], s.Total)
			le.PutUint32(e[32:], s.Packets)
			le.PutUint32(e[36:], s.Bytes)
			le.PutUint32(e[40:], s.Generation)
			le.PutUint16(e[44:], s.Worker)
			le.PutUint16(e[46:], s.Flags)
		}
		slots = slots[n:]
	}
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
		if _, err := s.File.ReadAt(p, base+int64(pageOffset(from))); err != nil {
			return fmt.Errorf("read its index: %w", err)
		}
		for i := range run {
			q := p[i*files.PageSize:][:files.PageSize]
			if le.Uint32(q) != typeIndex || le.Uint32(q[8:]) != crc32.Checksum(q[12:12+pageContent], castagnoli)^uint32(s.Ring) {
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
			if le.Uint64(p[k%perTablePage*tableEntrySz:]) != 0 {
				x.used.add(k)
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
	x.loaded, x.used = false, Set{}
	err = x.pages(s, b, 0, 1+tablePages+dirPages(s.Bytes), func(i int, p []byte) error {
		switch {
		case i == 0:
			if err := h.check(p, s, tablePages); err != nil {
				return err
			}
			dir = make([]uint64, 0, h.keyPages)
		case i <= tablePages:
			table(i-1, p)
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
		return 8 * len(have), err
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
		return readKeys(p, math.MaxUint64, (int(head.blocks)+7)/8, func(key uint64, _ int) {
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
	return 8 * len(sk), nil
}

// bytesPerKey is about what a key takes in a page.
const bytesPerKey = 11

// Sketch returns how many bytes the sketch takes.
func (x *Index) Sketch() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return 8 * len(x.sketch)
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

// readTable appends the slots of a page of the table, up to the capacity.
func readTable(slots []Slot, p []byte) []Slot {
	for i := 0; i < perTablePage && len(slots) < cap(slots); i++ {
		e := p[i*tableEntrySz:]
		slots = append(slots, Slot{
			Seq: le.Uint64(e), First: int64(le.Uint64(e[8:])), Last: int64(le.Uint64(e[16:])), Total: le.Uint64(e[24:]), Packets: le.Uint32(e[32:]),
			Bytes: le.Uint32(e[36:]), Generation: le.Uint32(e[40:]), Worker: le.Uint16(e[44:]), Flags: le.Uint16(e[46:]),
		})
	}
	return slots
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
	x.used = usedOf(slots)
	return slots, nil
}

// A Set is a set of blocks of a segment.
type Set [maxBlocks / 64]uint64

// Has reports whether a block is in the set.
func (b *Set) Has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }

// Len returns how many blocks are in the set.
func (b *Set) Len() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b *Set) add(i int) { b[i/64] |= 1 << (i % 64) }

// A Found is what an index says about keys.
type Found struct {
	With    Set    // blocks that have one of them
	Unknown Set    // blocks that it says nothing about
	Used    int    // how many blocks hold something
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
	f.Used = x.used.Len()
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
		return readKeys(p, hi, (int(x.head.blocks)+7)/8, func(key uint64, block int) {
			if key >= lo {
				f.With.add(block)
			}
		})
	})
	return f, err
}

var errKeys = errors.New("a page of keys makes no sense")

// readKeys calls f for every key of a page up to hi, and every block that has it.
func readKeys(p []byte, hi uint64, bitmap int, f func(key uint64, block int)) error {
	d := block.Decoder{B: p[2:]}
	key := uint64(0)
	for range le.Uint16(p) {
		key += d.Uvarint()
		n := d.Uvarint()
		if key > hi && !d.Bad {
			return nil
		}
		if n == 0 {
			for i, set := range d.Bytes(bitmap) {
				for ; set != 0; set &= set - 1 {
					f(key, 8*i+bits.TrailingZeros8(set))
				}
			}
		}
		block := uint64(0)
		if n&1 != 0 {
			if block = n >> 1; block >= maxBlocks {
				return errKeys
			}
			f(key, int(block))
			continue
		}
		for n >>= 1; n > 0 && !d.Bad; n-- {
			block += d.Uvarint()
			if block >= maxBlocks {
				return errKeys
			}
			f(key, int(block))
		}
		if d.Bad {
			return errKeys
		}
	}
	return nil
}

// All returns the whole exact index of a segment: the blocks of each key, and those that it says nothing about.
func (x *Index) All(s *Segment) (map[uint64]*Set, Set, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var none Set
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
	keys := make(map[uint64]*Set)
	err = x.pages(s, b, 1+int(x.head.tablePages)+int(x.head.dirPages), int(x.head.keyPages), func(_ int, p []byte) error {
		return readKeys(p, math.MaxInt64, (int(x.head.blocks)+7)/8, func(key uint64, block int) {
			if keys[key] == nil {
				keys[key] = new(Set)
			}
			keys[key].add(block)
		})
	})
	return keys, none, err
}
