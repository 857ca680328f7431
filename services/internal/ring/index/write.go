package index

import (
	"fmt"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/sum"
)

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
		le.PutUint32(p[8:], sum.Of(p[12:12+pageContent])^uint32(id))
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
	h, keys, dir, ok := o.encode(o.blocks, s.Ring, s.Number, slots, covered, true)
	for !ok {
		h, keys, dir, ok = o.encode(o.blocks, s.Ring, s.Number, slots, covered, false)
		covered /= 2 // the keys of the others are found by their bloom filters
	}
	if _, err := s.File.WriteAt(o.blocks, s.Bytes-int64(size)); err != nil {
		return fmt.Errorf("write its index: %w", err)
	}
	kept := make([]byte, 0, int(h.keyPages)*pageContent)
	for n := 1 + int(h.tablePages) + int(h.dirPages); len(kept) < cap(kept); n++ {
		kept = append(kept, o.blocks[pageOffset(n)+12:][:pageContent]...)
	}
	sk := newSketch(len(keys))
	for i := range keys {
		sk.add(keys[i].key)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn++
	x.newest = 0
	for i := range slots {
		x.newest = max(x.newest, slots[i].Seq)
	}
	x.used, x.count = usedOf(slots)
	x.head, x.dir, x.sketch, x.kept, x.loaded = h, dir, sk, kept, true
	return nil
}

// usedOf returns the places that hold a block, and how many packets these have.
func usedOf(slots []Slot) (used Set, packets uint64) {
	for i := range slots {
		if slots[i].Seq != 0 {
			used.add(i)
			packets += uint64(slots[i].Packets)
		}
	}
	return used, packets
}

// encode makes the index blocks, with the keys of the first so many blocks, and, if that is wanted, the chunks that have them. It reports whether there was room.
func (o *Writer) encode(b []byte, id uint64, number int, slots []Slot, most int, chunks bool) (h indexHead, keys []sortedKey, dir []uint64, ok bool) {
	clear(b)
	h = indexHead{ring: id, segment: uint32(number), blocks: uint32(len(slots)), tablePages: uint32((len(slots) + perTablePage - 1) / perTablePage)}
	for i := range slots[:most] {
		if slots[i].named() {
			h.covered[i/64] |= 1 << (i % 64)
		}
	}
	keys = o.sort(slots[:most], chunks)
	w := indexWriter{b: b, page: 1 + int(h.tablePages)}
	h.dirPages = uint32((len(b)/block.Size*pagesPerBlock + perDirPage - 1) / perDirPage)
	w.page += int(h.dirPages)
	dir, ok = writeKeys(&w, keys, o.lists, o.chunks, (len(slots)+7)/8)
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
