package index

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"galvo/services/internal/ring/block"
)

// writeKeys writes sorted keys, whose blocks lie in lists one after the other, and their chunks, if these are wanted, in chunks, to pages and returns the first
// key of each page. ok is false if there was no room. bitmap is the number of bytes that a bit for each block takes.
func writeKeys(w *indexWriter, keys []sortedKey, lists []uint16, chunks []block.Chunks, bitmap int) (dir []uint64, ok bool) {
	var page []byte
	var at int
	var last uint64
	entry := make([]byte, 0, 2*binary.MaxVarintLen64+max(bitmap, mostSpots*8))
	for _, k := range keys {
		blocks, parts := lists[:k.n], chunks[:min(int(k.n), len(chunks))]
		lists, chunks = lists[k.n:], chunks[len(parts):]
		entry = appendBlocks(binary.AppendUvarint(entry[:0], k.key-last), blocks, parts, bitmap)
		if page == nil || at+len(entry) > len(page) {
			if page = w.next(); page == nil {
				return nil, false
			}
			dir = append(dir, k.key)
			at = 2
			entry = appendBlocks(binary.AppendUvarint(entry[:0], k.key), blocks, parts, bitmap)
		}
		at += copy(page[at:], entry)
		le.PutUint16(page, le.Uint16(page)+1)
		last = k.key
	}
	return dir, true
}

// A Spot is a block of a segment that has a key, and its chunks that do.
type Spot struct {
	Chunks block.Chunks
	Block  uint16
}

// mostSpots is how many blocks of a key have their chunks in the index: what is in more is not rare.
const mostSpots = 16

// appendBlocks appends the blocks of a key, and in which of their chunks it is: one block b as 2b+1 and its chunks; n blocks as 4n+2, the distances between
// them, and the chunks of each; n blocks without chunks as 4n and the distances; or 0 and a bitmap.
func appendBlocks(dst []byte, blocks []uint16, chunks []block.Chunks, bitmap int) []byte {
	n := len(blocks)
	switch {
	case n == 1 && len(chunks) == 0:
		return block.All.AppendCodes(binary.AppendUvarint(dst, uint64(blocks[0])<<1|1))
	case n == 1:
		return chunks[0].AppendCodes(binary.AppendUvarint(dst, uint64(blocks[0])<<1|1))
	case n >= bitmap:
		at := len(dst) + 1
		dst = append(append(dst, 0), make([]byte, bitmap)...)
		for _, b := range blocks {
			dst[at+int(b)/8] |= 1 << (b % 8)
		}
		return dst
	}
	kind := uint64(0)
	if n <= mostSpots && slices.ContainsFunc(chunks, func(c block.Chunks) bool { return c != block.All }) {
		kind = 2
	}
	dst = binary.AppendUvarint(dst, uint64(n)<<2|kind)
	last := uint16(0)
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, uint64(b-last))
		last = b
	}
	if kind != 0 {
		for _, c := range chunks {
			dst = c.AppendCodes(dst)
		}
	}
	return dst
}

var errKeys = errors.New("a page of keys makes no sense")

// readKeys calls f for every key of a page from lo to hi, every block that has it, and its chunks that do.
func readKeys(p []byte, lo, hi uint64, bitmap int, f func(key uint64, at int, chunks block.Chunks)) error {
	d := block.Decoder{B: p[2:]}
	key := uint64(0)
	var list []Spot
	for range le.Uint16(p) {
		key += d.Uvarint()
		if key > hi && !d.Bad {
			return nil
		}
		n := d.Uvarint()
		if key < lo {
			skipBlocks(&d, n, bitmap)
			continue
		}
		if n == 0 {
			for i, set := range d.Bytes(bitmap) {
				for ; set != 0; set &= set - 1 {
					f(key, 8*i+bits.TrailingZeros8(set), block.All)
				}
			}
			continue
		}
		var ok bool
		if list, ok = readBlocks(&d, n, list[:0]); !ok {
			return errKeys
		}
		for _, s := range list {
			f(key, int(s.Block), s.Chunks)
		}
	}
	if d.Bad {
		return errKeys
	}
	return nil
}

// skipBlocks goes past the blocks of a key behind the number n.
func skipBlocks(d *block.Decoder, n uint64, bitmap int) {
	switch {
	case n == 0:
		d.Bytes(bitmap)
		return
	case n&1 != 0:
		d.Codes()
		return
	}
	many := min(n>>2, maxBlocks+1)
	for range many {
		d.Uvarint()
	}
	if n&2 != 0 {
		for range many {
			d.Codes()
		}
	}
}

// readBlocks reads the blocks of a key behind the number n, which is not 0.
func readBlocks(d *block.Decoder, n uint64, list []Spot) (_ []Spot, ok bool) {
	if n&1 != 0 {
		one := Spot{d.Codes(), uint16(min(n>>1, maxBlocks))}
		return append(list, one), one.Block < maxBlocks && !d.Bad
	}
	last := uint64(0)
	for range min(n>>2, maxBlocks+1) {
		if last += d.Uvarint(); last >= maxBlocks || d.Bad {
			return list, false
		}
		list = append(list, Spot{block.All, uint16(last)})
	}
	if n&2 != 0 {
		for i := range list {
			list[i].Chunks = d.Codes()
		}
	}
	return list, n>>2 <= maxBlocks && !d.Bad
}
