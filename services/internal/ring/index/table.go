package index

import (
	"math/bits"

	"galvo/services/internal/ring/block"
)

// writeTable writes what the blocks of a segment are.
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
			le.PutUint32(e[48:], s.DataEnd)
			le.PutUint32(e[52:], s.FlowsEnd)
			le.PutUint64(e[56:], s.Dropped)
		}
		slots = slots[n:]
	}
}

// readTable appends the slots of a page of the table, up to the capacity.
func readTable(slots []Slot, p []byte) []Slot {
	for i := 0; i < perTablePage && len(slots) < cap(slots); i++ {
		e := p[i*tableEntrySz:]
		slots = append(slots, Slot{
			Seq: le.Uint64(e), First: int64(le.Uint64(e[8:])), Last: int64(le.Uint64(e[16:])), Total: le.Uint64(e[24:]), Packets: le.Uint32(e[32:]),
			Bytes: le.Uint32(e[36:]), Generation: le.Uint32(e[40:]), Worker: le.Uint16(e[44:]), Flags: le.Uint16(e[46:]),
			DataEnd: le.Uint32(e[48:]), FlowsEnd: le.Uint32(e[52:]), Dropped: le.Uint64(e[56:]),
		})
	}
	return slots
}

// A Set is a set of blocks of a segment.
type Set [maxBlocks / 64]uint64

// Has reports whether a block is in the set. It may be called on nil.
func (b *Set) Has(i int) bool { return b != nil && b[i/64]>>(i%64)&1 != 0 }

// Len returns how many blocks are in the set.
func (b *Set) Len() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b *Set) add(i int) { b[i/64] |= 1 << (i % 64) }

// A Where says in which blocks of a segment something is, and in which of their chunks. Nil is nowhere.
type Where []block.Chunks

// Of returns the chunks of a block.
func (w Where) Of(i int) block.Chunks {
	if i >= len(w) {
		return 0
	}
	return w[i]
}
