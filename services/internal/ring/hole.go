package ring

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/index"
)

// A stretch is blocks of one opening of the ring that follow each other: each begins, in captured bytes since the ring was made, where the one before ends. A ring that lacks
// nothing has one for each opening, whatever its size.
type stretch struct {
	opening     uint32
	from, to    uint64 // captured bytes before its first block, and with its last one
	blocks      int
	first, last int64 // times of its packets
	dropped     uint64
	workers     []workerStretch
}

// A workerStretch is the first and the last block of a worker in a stretch.
type workerStretch struct {
	worker      uint16
	first, last bound
}

// A bound is what of a block says when packets of others may have been recorded.
type bound struct {
	total       uint64
	first, last int64
	unsorted    bool
}

func stretchOf(b *index.Slot) stretch {
	one := bound{b.Total, b.First, b.Last, b.Flags&block.FlagUnsorted != 0}
	return stretch{opening: b.Generation, from: b.Total - uint64(b.Bytes), to: b.Total, blocks: 1, first: b.First, last: b.Last, dropped: b.Dropped, workers: []workerStretch{{b.Worker, one, one}}}
}

// join takes in another stretch of the same opening.
func (r *stretch) join(o *stretch) {
	r.from, r.to, r.blocks = min(r.from, o.from), max(r.to, o.to), r.blocks+o.blocks
	r.first, r.last, r.dropped = min(r.first, o.first), max(r.last, o.last), max(r.dropped, o.dropped)
	for _, w := range o.workers {
		i := slices.IndexFunc(r.workers, func(have workerStretch) bool { return have.worker == w.worker })
		if i < 0 {
			r.workers = append(r.workers, w)
			continue
		}
		have := &r.workers[i]
		if w.first.total < have.first.total {
			have.first = w.first
		}
		if w.last.total > have.last.total {
			have.last = w.last
		}
	}
}

// oldest returns the block of a stretch with the lowest total.
func (r *stretch) oldest() bound {
	return slices.MinFunc(r.workers, func(a, b workerStretch) int { return cmp.Compare(a.first.total, b.first.total) }).first
}

// stretches are those of an opening, in order: none touches another one.
type stretches []stretch

// add takes in a block. One that is there already, as a copy, or by its total, changes nothing.
func (list stretches) add(b *index.Slot) stretches {
	if b.Seq == 0 || b.Total < uint64(b.Bytes) {
		return list
	}
	one := stretchOf(b)
	from, _ := slices.BinarySearchFunc(list, one.from, func(r stretch, at uint64) int { return cmp.Compare(r.to, at) }) // the first one that does not end before it
	to := from
	for to < len(list) && list[to].from <= one.to {
		to++
	}
	if to == from {
		return slices.Insert(list, from, one)
	}
	have := &list[from]
	if have.from <= one.from && one.to <= have.to && one.from < one.to {
		return list
	}
	for i := from + 1; i < to; i++ {
		have.join(&list[i])
	}
	have.join(&one)
	return slices.Delete(list, from+1, to)
}

// A hole is where, among the blocks that are there in the order in which they were finished, others were: their totals leave room for them.
type hole struct {
	before  int    // it is before this stretch
	bytes   uint64 // captured bytes of the packets of those that are not there
	around  Gap    // when they may have been recorded, whoever did: blocks are finished as long after their first and their last packet as a block may take
	between Gap    // and when, if only workers did of which there are blocks: a worker's packets lie between those of its blocks around the hole
}

// holesOf returns the holes between stretches, which are in the order of what they begin with. What was before the first one is none.
func holesOf(all []stretch) (holes []hole) {
	var before []map[uint16]bound // of each hole, by worker
	last := make(map[uint16]bound)
	for i := range all {
		b := &all[i]
		if i > 0 && b.from > newestOf(last).total {
			x, y := newestOf(last), b.oldest()
			holes = append(holes, hole{before: i, bytes: b.from - x.total, around: Gap{min(x.last, y.first) - blockAge, max(x.last, y.last) + blockAge, whyAbsent}})
			before = append(before, maps.Clone(last))
		}
		for _, w := range b.workers {
			if have, ok := last[w.worker]; !ok || w.last.total > have.total {
				last[w.worker] = w.last
			}
		}
	}
	next := make(map[uint16]bound)
	for i, h := len(all)-1, len(holes)-1; h >= 0; i-- {
		for _, w := range all[i].workers {
			next[w.worker] = w.first
		}
		if holes[h].before == i {
			holes[h].narrow(before[h], next)
			h--
		}
	}
	return holes
}

func newestOf(last map[uint16]bound) (newest bound) {
	for _, b := range last {
		if b.total >= newest.total {
			newest = b
		}
	}
	return newest
}

// narrow finds out between by the blocks of each worker around the hole.
func (h *hole) narrow(before, after map[uint16]bound) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for w, b := range before {
		last, first := b.last+1, h.around.To
		next, ok := after[w]
		if ok {
			first = next.first - 1
		}
		if b.unsorted || ok && next.unsorted {
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
func (h *hole) isCut(all []stretch) bool {
	opening, last, blocks := all[h.before].opening, int64(math.MinInt64), 0
	for i := h.before; i < len(all) && all[i].opening == opening; i++ {
		if last, blocks = max(last, all[i].last), blocks+all[i].blocks; blocks > inFlight+1 {
			return false
		}
	}
	return h.bytes <= inFlight*block.Size && h.between.From >= last-unsaved
}
