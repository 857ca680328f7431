package index

import (
	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
)

// A Slot says what is in a place for a block.
type Slot struct {
	Seq         uint64 // 0 = nothing
	First, Last int64
	Total       uint64
	Packets     uint32
	Bytes       uint32
	Generation  uint32
	Worker      uint16
	Flags       uint16
	DataEnd     uint32 // as in its header
	FlowsEnd    uint32
	Dropped     uint64
	Bloom       block.Bloom    // while the segment has no exact index; else nil
	Keys        []uint64       // in the same way, if they are known
	Chunks      []block.Chunks // parallel: which of its chunks have the key
}

// SlotOf is what a header says of its block.
func SlotOf(h *block.Header) Slot {
	return Slot{Seq: h.Seq, First: h.First, Last: h.Last, Total: h.Total, Packets: h.Packets, Bytes: h.Bytes, Generation: h.Generation, Worker: h.Worker, Flags: h.Flags,
		DataEnd: h.DataEnd, FlowsEnd: h.FlowsEnd, Dropped: h.Dropped}
}

// In returns the chunks of a block that have one of the keys of a range; All if its keys are not known.
func (s *Slot) In(keys filter.KeyRange) (c block.Chunks) {
	if !s.named() {
		return block.All
	}
	for i, k := range s.Keys {
		if k >= uint64(keys.Lo) && k <= uint64(keys.Hi) {
			c |= s.Chunks[i]
		}
	}
	return c
}

// DataBlocks returns how many blocks a segment of so many bytes has for packets; the others at its end hold its index.
func DataBlocks(bytes int64) int {
	n := int(bytes / block.Size)
	return n - indexBlocks(bytes)
}

// indexBlocks returns how many blocks a segment's index has: one of 256.
func indexBlocks(bytes int64) int { return (int(bytes/block.Size) + 255) / 256 }

// Bounds of a segment's size in bytes.
const (
	MinSegment = 4 << 20
	MaxSegment = 1 << 30
)
