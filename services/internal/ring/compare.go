package ring

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"galvo/services/internal/ring/index"
)

// A ring's devices know together what was recorded. When one of them has not taken part in all of it, or is not there though others have a copy of what it has, blocks may be
// missing that nobody names: those that a device recorded alone, that it had not made permanent when it was pulled out, or that were not on it yet when somebody copied it.
// Each block says how many captured bytes there were up to it, and so does the state: what follows finds out by that what is not there.

// differ reports whether blocks may be missing that nobody names. Where more devices are missing than a block has copies, that is told of the whole time. r.mu is held.
func (r *Ring) differ() bool {
	missing := max(0, int(r.d.Devices)-len(r.devices))
	var first *device
	differ := r.d.Lacking
	for _, d := range r.devices {
		switch {
		case d.missing:
			missing++
		case d.rebuilt: // Ring.discover has looked
			return false
		case first == nil:
			first = d
		case d.said.Generation != first.said.Generation || d.said.Clean != first.said.Clean || d.doubt != first.doubt:
			differ = true
		}
	}
	return missing <= int(r.d.Copies) && (differ || missing > 0)
}

// compare notes when blocks were recorded that are not there, and were not overwritten. r.mu is held.
func (r *Ring) compare() {
	if !r.differ() {
		return
	}
	all := r.blocks()
	for _, img := range r.waiting { // of one that is only read
		all = append(all, index.SlotOf(&img.Header))
	}
	slices.SortFunc(all, func(a, b index.Slot) int { return cmp.Compare(a.Total, b.Total) })
	missing := uint64(0)
	for _, h := range append(holesOf(all), r.outerHoles(all)...) {
		kept := slices.ContainsFunc(r.pinned(), func(k Gap) bool { return k.From <= h.between.From && h.between.To <= k.To })
		if h.between.From <= r.overwritten && !kept { // nobody knows how much of it was
			r.overwritten = max(r.overwritten, min(h.between.To, r.now()))
			continue
		}
		left := []Gap{h.between}
		for _, g := range r.overwrittenIn(h.between.From, h.between.To, "") {
			left = without(left, g)
		}
		if len(left) > 0 {
			missing += h.bytes
		}
		for _, g := range left {
			r.absent = append(r.absent, Gap{g.From, g.To, whyAbsent})
		}
	}
	if missing > 0 {
		r.problem(fmt.Errorf("blocks of up to %d captured bytes are not there: a device that has them is missing, or lost them, or was exchanged with an older copy of itself", missing))
	}
	if !slices.ContainsFunc(r.devices, func(d *device) bool { return d.missing }) {
		r.d.Lacking = missing > 0
	}
}

// outerHoles returns what was recorded before the first block that is there, unless it was overwritten, and after the last one. r.mu is held.
func (r *Ring) outerHoles(all []index.Slot) (holes []hole) {
	if len(all) == 0 {
		return []hole{{bytes: r.total.Load(), between: Gap{From: r.d.Created, To: r.now()}}}
	}
	firsts, lasts := make(map[uint16]int64), make(map[uint16]int64)
	for i := range all {
		if _, known := firsts[all[i].Worker]; !known {
			firsts[all[i].Worker] = all[i].First
		}
		lasts[all[i].Worker] = all[i].Last
	}
	first, last := &all[0], &all[len(all)-1]
	if before := int64(first.Total) - int64(first.Bytes); before > 0 && r.overwritten == math.MinInt64 && r.d.Overwritten != 0 {
		until := int64(math.MinInt64)
		for _, t := range firsts {
			until = max(until, t-1)
		}
		holes = append(holes, hole{bytes: uint64(before), between: Gap{From: r.d.Created, To: min(until, first.Last+blockAge)}})
	}
	if after := int64(r.total.Load()) - int64(last.Total); after > 0 {
		from := int64(math.MaxInt64)
		for _, t := range lasts {
			from = min(from, t+1)
		}
		holes = append(holes, hole{bytes: uint64(after), between: Gap{From: max(from, last.Last-blockAge), To: r.now()}})
	}
	return holes
}
