package ring

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"

	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// When devices differ, or one is missing, or a state says less than it should, what all blocks of the ring are says whether some are missing. A large ring has millions, and a
// disk needs a minute to give their lists. So recording does not wait for it, only who asks, and what is remembered of them is their stretches.

// A stock is what blocks a ring had when it was opened.
type stock struct {
	done   chan struct{} // closed when it is known, and what follows from it; nil if nobody needs it
	forgot bool          // what was overwritten is found out by it
	differ,
	lacking bool // devices may lack blocks; the states said so
	opened struct { // how the ring was then
		now, overwritten int64
		total            uint64
	}

	mu       sync.Mutex
	left     map[*segment]bool // not counted yet
	early    map[*segment]bool // counted before the others
	openings map[uint32]stretches
	seen     map[uint64]bool // numbers of blocks; nil if states say whether there are copies
	copies   bool
}

// mostSeen is how many blocks are remembered to see whether one comes twice.
const mostSeen = 1 << 16

// count takes in blocks of a segment, once.
func (k *stock) count(s *segment, slots []index.Slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.left[s] {
		return
	}
	delete(k.left, s)
	for i := range slots {
		k.add(&slots[i])
	}
}

// countEarly is count for a segment that is listed because no state says anything of it.
func (k *stock) countEarly(s *segment, slots []index.Slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.early == nil {
		k.early, k.seen = make(map[*segment]bool), make(map[uint64]bool)
	}
	k.early[s] = true
	for i := range slots {
		k.add(&slots[i])
	}
}

// add takes in a block. k.mu is held.
func (k *stock) add(b *index.Slot) {
	if k.openings == nil {
		k.openings = make(map[uint32]stretches)
	}
	k.openings[b.Generation] = k.openings[b.Generation].add(b)
	if k.seen == nil || b.Seq == 0 {
		return
	}
	if k.seen[b.Seq] {
		k.copies = true
	} else if len(k.seen) < mostSeen {
		k.seen[b.Seq] = true
	}
}

// all returns the stretches in the order of what they begin with.
func (k *stock) all() (all []stretch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, list := range k.openings {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b stretch) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	return all
}

// missed returns how many segments were not counted yet.
func (k *stock) missed() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.left)
}

// wait returns when the stock is known, or something else has ended.
func (k *stock) wait(ended <-chan struct{}) {
	if k.done != nil {
		select {
		case <-k.done:
		case <-ended:
		}
	}
}

// beginStock counts what is in memory, and notes which segments are to be counted. r.mu is held.
func (r *Ring) beginStock() {
	k := &r.stock
	k.left = make(map[*segment]bool)
	if k.seen == nil && slices.ContainsFunc(r.devices, func(d *device) bool { return d.rebuilt }) {
		k.seen = make(map[uint64]bool)
	}
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Empty || s.State == state.Closed && k.early[s] {
				continue
			}
			k.left[s] = true
			if s.slots != nil {
				k.count(s, s.slots)
			}
		}
	}
	for _, img := range r.waiting { // of one that is only read
		b := index.SlotOf(&img.Header)
		k.add(&b)
	}
}

// listers is how many segments are listed at once.
const listers = 4

// countAll counts the segments that were not counted yet. It reports whether it came to the end: it does not if the ring is closed. With locked r.mu is held.
func (r *Ring) countAll(locked bool) (whole bool) {
	k := &r.stock
	k.mu.Lock()
	var left []*segment
	for s := range k.left {
		left = append(left, s)
	}
	k.mu.Unlock()
	var list []*listing
	lock := func() func() {
		if locked {
			return func() {}
		}
		r.mu.Lock()
		return r.mu.Unlock
	}
	unlock := lock()
	slices.SortFunc(left, func(a, b *segment) int { return cmp.Compare(a.SeqHi, b.SeqHi) }) // those that are overwritten next come first, and stretches grow at their end
	for _, s := range left {
		list = append(list, r.listing(s))
	}
	unlock()
	var mu sync.Mutex
	inParallel(len(list), listers, func(i int) {
		select {
		case <-r.stop:
			return
		default:
		}
		l := list[i]
		r.read(l)
		k.count(l.s, l.slots)
		if l.damaged != nil {
			mu.Lock()
			defer mu.Unlock()
			defer lock()()
			r.tell(l)
		}
	})
	return k.missed() == 0
}

// inParallel calls f with each number below n, so many at once.
func inParallel(n, most int, f func(i int)) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range min(n, most) {
		wait.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
}

// needsStock reports whether the blocks of the ring are to be counted, and notes what for. r.mu is held.
func (r *Ring) needsStock(unsaid bool) bool {
	k := &r.stock
	k.forgot, k.differ, k.lacking = unsaid && !r.isPart(), r.differ(), r.d.Lacking
	k.opened.now, k.opened.overwritten, k.opened.total = r.now(), r.overwritten, r.total.Load()
	if !k.forgot && !k.differ {
		r.remembers = true
		return false
	}
	r.d.Lacking = r.d.Lacking || k.differ // until it is known, so that the next opening looks, too
	k.done = make(chan struct{})
	return true
}

// takeStock finds out what the blocks of the ring say. With locked r.mu is held.
func (r *Ring) takeStock(locked bool) {
	k := &r.stock
	if r.ofStock() == "" || !r.countAll(locked) {
		return
	}
	all := k.all()
	if !locked {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	if k.forgot {
		r.forgottenBetween(all)
	}
	r.remembers = true
	if k.differ {
		r.d.Lacking = k.lacking
		r.compare(all)
	}
	k.mu.Lock()
	k.openings = nil
	k.mu.Unlock()
	close(k.done)
}

// ofStock says that it is not known yet whether blocks are missing; empty if it is.
func (r *Ring) ofStock() string {
	k := &r.stock
	if k.done == nil {
		return ""
	}
	select {
	case <-k.done:
		return ""
	default:
		return fmt.Sprintf("whether blocks are missing, and what was overwritten, is being found out, since devices differ, or are missing or damaged: %d segments are to be looked at", k.missed())
	}
}

// firstOf returns the time of the first packet of stretches.
func firstOf(all []stretch) int64 {
	first := int64(math.MaxInt64)
	for i := range all {
		first = min(first, all[i].first)
	}
	return first
}
