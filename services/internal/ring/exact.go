package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"sync"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// The index of a segment lies in its last blocks, in pages: what its blocks are (the table), and which of them have which keys (the exact index).
const (
	indexMagic    = "GALVORIX"
	pageContent   = pageSize - localHead - 4 // of a page that is a block for local use, after its checksum
	pagesPerBlock = blockSize/pageSize - 1   // the first page of an index block is a section header
	tableEntrySz  = 48
	perTablePage  = pageContent / tableEntrySz
	perDirPage    = pageContent / 8
	maxBlocks     = maxSegment / blockSize
)

// An index is that of one segment. Its lock is taken with Ring.mu held or not.
type index struct {
	mu     sync.Mutex
	loaded bool
	head   indexHead
	dir    []uint64 // first key of each page of keys
	slots  []slot   // the table; nil once it was given away
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

func (x *index) drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loaded, x.dir, x.slots = false, nil, nil
}

// An indexWriter puts pages into index blocks.
type indexWriter struct {
	b    []byte // of all index blocks
	page int
}

// next returns the content of the next page, or nil if there is no room.
func (w *indexWriter) next() []byte {
	at := pageOffset(w.page)
	if at+pageSize > len(w.b) {
		return nil
	}
	w.page++
	return w.b[at+12 : at+12+pageContent]
}

// pageOffset returns where page n of an index lies in the index blocks.
func pageOffset(n int) int { return n/pagesPerBlock*blockSize + (n%pagesPerBlock+1)*pageSize }

// seal completes the pages, which are blocks for local use with a checksum each, and what is between and behind them.
func (w *indexWriter) seal(id uint64) {
	for at := 0; at < len(w.b); at += blockSize {
		head := appendHead(w.b[at:at], []pipeline.Interface{{Link: packet.LinkEthernet}})
		pad(w.b[at+len(head) : at+pageSize])
	}
	for n := range w.page {
		p := w.b[pageOffset(n):][:pageSize]
		le.PutUint32(p, typeIndex)
		le.PutUint32(p[4:], pageSize)
		le.PutUint32(p[8:], crc32.Checksum(p[12:12+pageContent], castagnoli)^uint32(id))
		le.PutUint32(p[pageSize-4:], pageSize)
	}
	for at := pageOffset(w.page); at < len(w.b); at = (at/blockSize+1)*blockSize + pageSize {
		pad(w.b[at : (at/blockSize+1)*blockSize])
	}
}

// write writes the index of a segment whose blocks are in slots.
func (x *index) write(r *Ring, s *segment, slots []slot) error {
	r.sorting.Lock()
	defer r.sorting.Unlock()
	size := indexBlocks(r.d.segment) * blockSize
	if r.sorter.blocks == nil {
		b, err := newPages(size)
		if err != nil {
			return err
		}
		r.sorter.blocks = b
	}
	b := r.sorter.blocks
	covered := len(slots)
	for !r.sorter.encode(b, r.d.ring, s.number, slots, covered) {
		covered /= 2 // the keys of the others are found by their bloom filters
	}
	if _, err := s.file.WriteAt(b, r.d.segment-int64(size)); err != nil {
		return fmt.Errorf("write its index: %w", err)
	}
	x.drop()
	return nil
}

// encode makes the index blocks, with the keys of the first so many blocks. It reports whether there was room.
func (o *sorter) encode(b []byte, id uint64, number int, slots []slot, most int) bool {
	clear(b)
	h := indexHead{ring: id, segment: uint32(number), blocks: uint32(len(slots)), tablePages: uint32((len(slots) + perTablePage - 1) / perTablePage)}
	for i := range slots[:most] {
		if slots[i].named() {
			h.covered[i/64] |= 1 << (i % 64)
		}
	}
	keys := o.sort(slots[:most])
	w := indexWriter{b: b, page: 1 + int(h.tablePages)}
	h.dirPages = uint32((len(b)/blockSize*pagesPerBlock + perDirPage - 1) / perDirPage)
	w.page += int(h.dirPages)
	dir, ok := writeKeys(&w, keys, o.lists, (len(slots)+7)/8)
	if !ok || len(dir) > int(h.dirPages)*perDirPage {
		return most == 0
	}
	h.keyPages = uint32(len(dir))
	end := w.page
	w.page = 0
	h.put(w.next())
	writeTable(&w, slots)
	for len(dir) > 0 {
		p := w.next()
		n := min(len(dir), perDirPage)
		for i, k := range dir[:n] {
			le.PutUint64(p[8*i:], k)
		}
		dir = dir[n:]
	}
	w.page = end
	w.seal(id)
	return true
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
	le.PutUint16(b[8:], formatVersion)
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
	if string(b[:8]) != indexMagic || le.Uint16(b[8:]) != formatVersion {
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

func writeTable(w *indexWriter, slots []slot) {
	for len(slots) > 0 {
		p := w.next()
		n := min(len(slots), perTablePage)
		for i := range slots[:n] {
			s, e := &slots[i], p[i*tableEntrySz:]
			le.PutUint64(e, s.seq)
			le.PutUint64(e[8:], uint64(s.first))
			le.PutUint64(e[16:], uint64(s.last))
			le.PutUint64(e[24:], s.total)
			le.PutUint32(e[32:], s.packets)
			le.PutUint32(e[36:], s.bytes)
			le.PutUint32(e[40:], s.generation)
			le.PutUint16(e[44:], s.worker)
			le.PutUint16(e[46:], s.flags)
		}
		slots = slots[n:]
	}
}

// pages reads pages of an index into b, whose room they fit in, and calls f with the content of each.
func (x *index) pages(r *Ring, s *segment, b []byte, from, n int, f func(i int, content []byte) error) error {
	base := r.d.segment - int64(indexBlocks(r.d.segment))*blockSize
	for n > 0 {
		run := min(n, pagesPerBlock-from%pagesPerBlock, len(b)/pageSize)
		p := b[:run*pageSize]
		if int64(pageOffset(from+run-1))+base+pageSize > r.d.segment {
			return errors.New("its index names pages that are not there")
		}
		if _, err := s.file.ReadAt(p, base+int64(pageOffset(from))); err != nil {
			return fmt.Errorf("read its index: %w", err)
		}
		for i := range run {
			q := p[i*pageSize:][:pageSize]
			if le.Uint32(q) != typeIndex || le.Uint32(q[8:]) != crc32.Checksum(q[12:12+pageContent], castagnoli)^uint32(r.d.ring) {
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

// load reads head, table and directory, which lie in a row, if they were not read before. x.mu is held.
func (x *index) load(r *Ring, s *segment) error {
	if x.loaded {
		return nil
	}
	b, err := r.buffers.get()
	if err != nil {
		return err
	}
	defer r.buffers.put(b)
	blocks := dataBlocks(r.d.segment)
	tablePages := (blocks + perTablePage - 1) / perTablePage
	var h indexHead
	slots := make([]slot, 0, blocks)
	dir := []uint64{}
	err = x.pages(r, s, b, 0, 1+tablePages+dirPages(r.d.segment), func(i int, p []byte) error {
		switch {
		case i == 0:
			return h.check(p, r, s, tablePages)
		case i <= tablePages:
			slots = readTable(slots, p)
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
	x.head, x.dir, x.slots, x.loaded = h, dir, slots, true
	return nil
}

// dirPages returns how many pages the directory of a segment of so many bytes has: as if all pages held keys.
func dirPages(segment int64) int {
	return (indexBlocks(segment)*pagesPerBlock + perDirPage - 1) / perDirPage
}

func (h *indexHead) check(p []byte, r *Ring, s *segment, tablePages int) error {
	if err := h.parse(p); err != nil {
		return err
	}
	if h.ring != r.d.ring || h.segment != uint32(s.number) || int(h.blocks) != dataBlocks(r.d.segment) || int(h.tablePages) != tablePages ||
		int(h.dirPages) != dirPages(r.d.segment) || h.keyPages > h.dirPages*perDirPage {
		return errors.New("its index belongs to another segment")
	}
	return nil
}

// readTable appends the slots of a page of the table, up to the capacity.
func readTable(slots []slot, p []byte) []slot {
	for i := 0; i < perTablePage && len(slots) < cap(slots); i++ {
		e := p[i*tableEntrySz:]
		slots = append(slots, slot{
			seq: le.Uint64(e), first: int64(le.Uint64(e[8:])), last: int64(le.Uint64(e[16:])), total: le.Uint64(e[24:]), packets: le.Uint32(e[32:]),
			bytes: le.Uint32(e[36:]), generation: le.Uint32(e[40:]), worker: le.Uint16(e[44:]), flags: le.Uint16(e[46:]),
		})
	}
	return slots
}

// table returns what the blocks of a segment are.
func (x *index) table(r *Ring, s *segment) ([]slot, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.load(r, s); err != nil {
		return nil, err
	}
	if x.slots == nil { // given away before
		x.loaded = false
		if err := x.load(r, s); err != nil {
			return nil, err
		}
	}
	slots := x.slots
	x.slots = nil
	return slots, nil
}

// A blockSet is a set of blocks of a segment.
type blockSet [maxBlocks / 64]uint64

func (b *blockSet) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b *blockSet) add(i int)      { b[i/64] |= 1 << (i % 64) }

// find returns the blocks of a segment that have one of the keys of a range, and those that the index says nothing about.
func (x *index) find(r *Ring, s *segment, keys filter.KeyRange) (with, unknown blockSet, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.load(r, s); err != nil {
		return with, unknown, err
	}
	for i := range unknown {
		unknown[i] = ^x.head.covered[i]
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
		return with, unknown, nil
	}
	b, err := r.buffers.get()
	if err != nil {
		return with, unknown, err
	}
	defer r.buffers.put(b)
	first := 1 + int(x.head.tablePages) + int(x.head.dirPages)
	err = x.pages(r, s, b, first+from, to-from, func(_ int, p []byte) error {
		return readKeys(p, hi, (int(x.head.blocks)+7)/8, func(key uint64, block int) {
			if key >= lo {
				with.add(block)
			}
		})
	})
	return with, unknown, err
}

var errKeys = errors.New("a page of keys makes no sense")

// readKeys calls f for every key of a page up to hi, and every block that has it.
func readKeys(p []byte, hi uint64, bitmap int, f func(key uint64, block int)) error {
	d := decoder{b: p[2:]}
	key := uint64(0)
	for range le.Uint16(p) {
		key += d.uvarint()
		n := d.uvarint()
		if key > hi && !d.bad {
			return nil
		}
		if n == 0 {
			for i, set := range d.bytes(bitmap) {
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
		for n >>= 1; n > 0 && !d.bad; n-- {
			block += d.uvarint()
			if block >= maxBlocks {
				return errKeys
			}
			f(key, int(block))
		}
		if d.bad {
			return errKeys
		}
	}
	return nil
}

// all returns the whole exact index of a segment: the blocks of each key, and those that it says nothing about.
func (x *index) all(r *Ring, s *segment) (map[uint64]*blockSet, blockSet, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var none blockSet
	if err := x.load(r, s); err != nil {
		return nil, none, err
	}
	for i := range none {
		none[i] = ^x.head.covered[i]
	}
	b, err := r.buffers.get()
	if err != nil {
		return nil, none, err
	}
	defer r.buffers.put(b)
	keys := make(map[uint64]*blockSet)
	err = x.pages(r, s, b, 1+int(x.head.tablePages)+int(x.head.dirPages), int(x.head.keyPages), func(_ int, p []byte) error {
		return readKeys(p, never, (int(x.head.blocks)+7)/8, func(key uint64, block int) {
			if keys[key] == nil {
				keys[key] = new(blockSet)
			}
			keys[key].add(block)
		})
	})
	return keys, none, err
}
