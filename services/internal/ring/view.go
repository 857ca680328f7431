package ring

import (
	"math"
	"slices"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
)

// A view is a block that is being looked at: what a query or a Source found in it.
type view struct {
	block.Reader
	packets []packet.Packet // what the query wants of it
	meta    []pipeline.Meta // parallel
	next    int             // first one not delivered
	owned   bool            // buf is one of Ring.buffers
	free    bool            // it is no block and has no token
	looked  uint32          // packets that were looked at
	passed  []uint32        // parallel: of these, how many were not wanted before the packet and after the one before it
	rest    uint32          // and after the last one
}

// clear empties a view.
func (v *view) clear() {
	v.next, v.looked = 0, 0
	v.packets, v.meta, v.passed = v.packets[:0], v.meta[:0], v.passed[:0]
}

// order makes the packets rise in time, where they do not.
func (v *view) order() {
	if v.Header.Flags&block.FlagUnsorted == 0 {
		return
	}
	at := make([]int, len(v.packets))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return int(min(max(v.packets[a].Time-v.packets[b].Time, -1), 1)) })
	packets, meta := slices.Clone(v.packets), slices.Clone(v.meta)
	for i, j := range at { // passed stays: what was not wanted is spread over the block as it was
		v.packets[i], v.meta[i] = packets[j], meta[j]
	}
}

// time returns the time of the next packet.
func (v *view) time() int64 {
	if v.next == len(v.packets) {
		return math.MaxInt64
	}
	return v.packets[v.next].Time
}
