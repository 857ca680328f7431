package ring

import (
	"fmt"
	"math"
	"slices"
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

// compare notes when blocks were recorded that are not there, and were not overwritten when the ring was opened. r.mu is held.
func (r *Ring) compare(all []stretch) {
	then := &r.stock.opened
	missing := uint64(0)
	for _, h := range append(holesOf(all), r.outerHoles(all)...) {
		kept := slices.ContainsFunc(r.pinned(), func(k Gap) bool { return k.From <= h.between.From && h.between.To <= k.To })
		if h.between.From <= then.overwritten && !kept { // nobody knows how much of it was
			then.overwritten = max(then.overwritten, min(h.between.To, then.now))
			r.overwritten = max(r.overwritten, then.overwritten)
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
func (r *Ring) outerHoles(all []stretch) (holes []hole) {
	then := &r.stock.opened
	if len(all) == 0 {
		return []hole{{bytes: then.total, between: Gap{From: r.d.Created, To: then.now}}}
	}
	firsts, lasts := make(map[uint16]bound), make(map[uint16]bound)
	for i := range all {
		for _, w := range all[i].workers {
			if b, known := firsts[w.worker]; !known || w.first.total < b.total {
				firsts[w.worker] = w.first
			}
			if b, known := lasts[w.worker]; !known || w.last.total > b.total {
				lasts[w.worker] = w.last
			}
		}
	}
	last := newestOf(lasts)
	if before := all[0].from; before > 0 && then.overwritten == math.MinInt64 && r.d.Overwritten != 0 {
		until := int64(math.MinInt64)
		for _, b := range firsts {
			until = max(until, b.first-1)
		}
		holes = append(holes, hole{bytes: before, between: Gap{From: r.d.Created, To: min(until, all[0].oldest().last+blockAge)}})
	}
	if then.total > last.total {
		from := int64(math.MaxInt64)
		for _, b := range lasts {
			from = min(from, b.last+1)
		}
		holes = append(holes, hole{bytes: then.total - last.total, between: Gap{From: max(from, last.last-blockAge), To: then.now}})
	}
	return holes
}
