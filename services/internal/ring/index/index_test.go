package index

import (
	"math"
	"testing"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/sum"
)

// FuzzIndex reads pages of keys that anything may have damaged.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{2, 0, 5, 3, 1, 4, 1, 1})
	f.Add([]byte{1, 0, 5, 3, 0x80 | 43, 32}) // chunks from 43 to 32
	f.Fuzz(func(t *testing.T, page []byte) {
		if len(page) < 2 {
			return
		}
		readKeys(page, 0, math.MaxInt64, 32, func(_ uint64, at int, chunks block.Chunks) { //nolint:errcheck // any error will do
			if at >= maxBlocks || chunks == 0 {
				t.Fatal(at, chunks)
			}
		})
	})
}

// FuzzIndexPages reads whole indexes, with any content of their pages behind checksums that are right: what they say is about blocks that the segment has.
func FuzzIndexPages(f *testing.F) {
	const bytes, blocks = MinSegment, MinSegment/block.Size - 1
	file, buffers := &memory{b: make([]byte, bytes)}, &files.Buffers{Size: block.Size}
	s := &Segment{File: file, Bytes: bytes, Number: 3, Ring: 77, Buffers: buffers}
	slots := make([]Slot, blocks)
	for i := range slots {
		slots[i] = Slot{Seq: uint64(i + 1), Packets: 3, DataEnd: 9000, FlowsEnd: 9500, Keys: []uint64{5, uint64(i + 10)}, Chunks: []block.Chunks{1, 6}}
	}
	if err := new(Writer).Write(new(Index), s, slots); err != nil {
		f.Fatal(err)
	}
	at := func(page int) []byte { return file.b[bytes-block.Size+pageOffset(page)+12:][:pageContent] }
	f.Add(append([]byte(nil), at(0)[:200]...), append([]byte(nil), at(1)[:200]...), append([]byte(nil), at(2)[:16]...), append([]byte(nil), at(3)[:64]...), uint64(0), uint64(30))
	f.Fuzz(func(t *testing.T, head, table, dir, keys []byte, lo, hi uint64) {
		for i, content := range [][]byte{head, table, dir, keys} {
			b := at(i)
			clear(b)
			copy(b, content)
			le.PutUint32(file.b[bytes-block.Size+pageOffset(i)+8:], sum.Of(b)^uint32(s.Ring))
		}
		for _, x := range []*Index{{}, {newest: 3}} {
			if list, err := x.Table(s); err == nil && len(list) != blocks {
				t.Fatalf("%d blocks", len(list))
			}
			found, err := find(x, s, filter.KeyRange{Lo: filter.Key(lo), Hi: filter.Key(hi)})
			if err == nil && (len(found.With) > blocks || found.Used > blocks) {
				t.Fatalf("%+v", found)
			}
			err = x.Warm(s, 1<<20, 1<<20)
			if sketch, pages := x.Memory(); err == nil && max(sketch, pages) > 1<<20 {
				t.Fatalf("a sketch of %d bytes, and %d of pages", sketch, pages)
			}
			x.All(s) //nolint:errcheck // any error will do
		}
	})
}
