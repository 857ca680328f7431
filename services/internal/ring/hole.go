package ring

import (
	"maps"
	"math"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/index"
)

// A hole is where, among the blocks that are there in the order in which they were finished, others were: their totals leave room for them.
type hole struct {
	before  int    // it is before this block
	bytes   uint64 // captured bytes of the packets of those that are not there
	around  Gap    // when they may have been recorded, whoever did: blocks are finished as long after their first and their last packet as a block may take
	between Gap    // and when, if only workers did of which there are blocks: a worker's packets lie between those of its blocks around the hole
}

// holesOf returns the holes of blocks as Ring.blocks returns them. What was before the first one is none.
func holesOf(all []index.Slot) (holes []hole) {
	var before []map[uint16]*index.Slot // of each hole, by worker
	last := make(map[uint16]*index.Slot)
	for i := range all {
		b := &all[i]
		if begin := b.Total - uint64(b.Bytes); i > 0 && b.Total >= uint64(b.Bytes) && begin > all[i-1].Total {
			a := &all[i-1]
			holes = append(holes, hole{before: i, bytes: begin - a.Total, around: Gap{min(a.Last, b.First) - blockAge, max(a.Last, b.Last) + blockAge, whyAbsent}})
			before = append(before, maps.Clone(last))
		}
		last[b.Worker] = b
	}
	next := make(map[uint16]*index.Slot)
	for i, h := len(all)-1, len(holes)-1; h >= 0; i-- {
		next[all[i].Worker] = &all[i]
		if holes[h].before == i {
			holes[h].narrow(before[h], next)
			h--
		}
	}
	return holes
}

// narrow finds out between by the blocks of each worker around the hole.
func (h *hole) narrow(before, after map[uint16]*index.Slot) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for w, b := range before {
		last, first := b.Last+1, h.around.To
		if next := after[w]; next != nil {
			first = next.First - 1
		}
		if b.Flags&block.FlagUnsorted != 0 || after[w] != nil && after[w].Flags&block.FlagUnsorted != 0 {
			last, first = last-stepBack, first+stepBack
		}
		from, to = min(from, last), max(to, first)
	}
	h.between = Gap{max(h.around.From, from), min(h.around.To, to), whyAbsent}
}

// inFlight is how many blocks the devices may be writing at a time.
const inFlight = writers * burst

// isCut reports whether a loss of power may have made a hole: then it is no larger than the blocks that were being written, among the last ones of an opening of the ring, and
// no older than what may be unsaved.
func (h *hole) isCut(all []index.Slot) bool {
	opening, last := all[h.before].Generation, int64(math.MinInt64)
	for i := h.before; i < len(all) && all[i].Generation == opening; i++ {
		if last = max(last, all[i].Last); i > h.before+inFlight {
			return false
		}
	}
	return h.bytes <= inFlight*block.Size && h.between.From >= last-unsaved
}
