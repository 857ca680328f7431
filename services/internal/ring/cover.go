package ring

import (
	"cmp"
	"math"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// At the old end of a ring that has wrapped devices and workers do not lose their blocks in the order of time, so what is there just after the oldest packet is there
// in part. What follows says where that ends.

// The reasons of gaps. At the old end: what was overwritten before it was asked for, and since. At the new one: a worker that has more to do than it can.
const (
	whyOverwritten = "overwritten"
	whyMeanwhile   = "overwritten while it was read"
	whyPaused      = "the ring was not recording"
	whyStopped     = "no device takes packets"
	whyBehind      = "not recorded yet: the recording is behind"
	whyDamaged     = "damaged"
	whyMissing     = "a device of the ring is missing"
	whyAbsent      = "a part of the ring is not there"
)

// forget notes that a block is overwritten. What was recorded when the clock was ahead says nothing about now, only about its own time. r.mu is held.
func (r *Ring) forget(b *index.Slot) {
	switch {
	case b.Seq == 0:
	case b.Last <= r.now():
		r.overwritten = max(r.overwritten, b.Last)
	default:
		r.forgetAhead(b.First, b.Last)
	}
}

func (r *Ring) forgetAhead(first, last int64) {
	if r.ahead.Why == "" {
		r.ahead = Gap{first, last, whyOverwritten}
	}
	r.ahead.From, r.ahead.To = min(r.ahead.From, first), max(r.ahead.To, last)
}

// remember joins what devices knew when they were closed: what one did not know nobody knows.
func (r *Ring) remember(d *state.Descriptor) {
	if all := &r.d; all.Overwritten == 0 || d.Overwritten == 0 {
		all.Overwritten = 0
	} else if all.Overwritten = max(all.Overwritten, d.Overwritten); d.Ahead != (state.Pause{}) {
		if all.Ahead == (state.Pause{}) {
			all.Ahead = d.Ahead
		}
		all.Ahead = state.Pause{From: min(all.Ahead.From, d.Ahead.From), To: max(all.Ahead.To, d.Ahead.To)}
	}
}

// forgotten finds out what was overwritten before the ring was opened. Its state says so as of when it was closed, or when a segment was begun, or full, last. If it does not,
// blocks lie in the order in which they ended, so it ended before the oldest blocks that are there. A worker's block may end long after its last packet, so a few of them are
// asked. It reports whether that is so: then blocks may have been overwritten in between, too. r.mu is held.
func (r *Ring) forgotten() (unsaid bool) {
	if r.d.Overwritten != 0 {
		r.overwritten = max(r.overwritten, r.d.Overwritten) // an unfinished block may have taken a place
		if r.d.Ahead != (state.Pause{}) {
			r.forgetAhead(r.d.Ahead.From, r.d.Ahead.To)
		}
	}
	for _, d := range r.devices {
		switch {
		case !slices.ContainsFunc(d.segments, func(s *segment) bool { return s.Floor > 0 }): // nothing was ever overwritten
		case r.d.Overwritten == 0:
			r.forgottenOn(d)
			unsaid = true
		case !r.d.Clean:
			for _, s := range d.segments {
				if s.State == state.Open && s.Floor > 0 {
					r.forgottenIn(s)
				}
			}
		}
	}
	return unsaid
}

// forgottenBetween is forgotten for what was overwritten while older blocks were protected: the totals of the others leave room for it. What a loss of power took of the blocks
// that were on their way leaves room as well, and is absent. r.mu is held.
func (r *Ring) forgottenBetween(all []stretch) {
	for _, h := range holesOf(all) {
		switch g := h.between; {
		case h.isCut(all):
			r.absent = append(r.absent, g)
		case g.To <= r.now():
			r.overwritten = max(r.overwritten, g.To)
		default:
			r.forgetAhead(g.From, g.To)
		}
	}
}

// forgottenOn is forgotten for a device whose state does not say it. r.mu is held.
func (r *Ring) forgottenOn(d *device) {
	left := r.cfg.Workers + writers/2
	for _, s := range d.byAge(r.now()) {
		if left == 0 {
			break
		}
		_ = r.load(s) // what of it can be read
		for i := range s.slots {
			if b := &s.slots[i]; left > 0 && b.Seq != 0 && (s != d.current || i >= s.used) {
				r.forget(b)
				left--
			}
		}
	}
}

// forgottenIn is forgotten for a segment that was being overwritten when the ring was cut off: the index of what was in it before is still there. Without that all of it counts as
// overwritten. r.mu is held.
func (r *Ring) forgottenIn(s *segment) {
	defer s.index.Drop() // it is not that of what is in the segment
	old, err := s.index.Table(r.indexed(s))
	if err != nil {
		old = s.slots
	}
	for i := range old {
		if b := &old[i]; b.Total <= s.Floor && (err != nil || s.slots[i].Seq != b.Seq) {
			r.forget(b)
		}
	}
}

// byAge returns the segments that are not protected in the order in which they are overwritten: first what is left of the one that is.
func (d *device) byAge(now int64) []*segment {
	list := slices.DeleteFunc(slices.Clone(d.segments), func(s *segment) bool { return s.Pinned > now })
	slices.SortFunc(list, func(a, b *segment) int { return cmp.Compare(a.age(), b.age()) })
	if d.current != nil {
		list = slices.DeleteFunc(list, func(s *segment) bool { return s == d.current })
		list = slices.Insert(list, 0, d.current)
	}
	return list
}

// pinned returns the times that protection keeps whole, though they are older than what else is whole. r.mu is held.
func (r *Ring) pinned() (spans []Gap) {
	now := r.now()
	for _, k := range r.d.Kept {
		if k.Until > now {
			spans = append(spans, Gap{From: k.From, To: k.To})
		}
	}
	slices.SortFunc(spans, func(a, b Gap) int { return cmp.Compare(a.From, b.From) })
	return spans
}

// covered returns the time of the oldest packet from which on, or from which to the end of its protection, nothing was overwritten: where that is not the oldest one
// of all, whole microseconds, in which others ask. r.mu is held.
func (r *Ring) covered(oldest int64) int64 {
	from := max(oldest, (r.overwritten/1000+1)*1000)
	for _, g := range r.pinned() {
		if first := r.firstFrom((g.From + 999) / 1000 * 1000); first <= g.To {
			from = min(from, max(first, oldest))
		}
	}
	return from
}

// firstFrom returns the time of the first packet that lies on a device from a time on, or that time if it is within a segment; math.MaxInt64 if there is none. r.mu is held.
func (r *Ring) firstFrom(from int64) int64 {
	first := int64(math.MaxInt64)
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State != state.Empty && s.Last >= from {
				first = min(first, max(s.First, from))
			}
		}
	}
	return first
}

// holes returns the times of the query's interval of which packets are not there any more, or cannot be read.
func (q *Results) holes() (gaps []Gap) {
	r, from, to := q.ring, q.q.From, q.q.To-1
	begin := from
	first := q.Scan().From
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < r.d.Created {
		from = max(from, min(first, r.d.Created))
	}
	missing := 0
	for _, d := range r.devices {
		if d.missing {
			missing++
		}
	}
	if until := min(to, r.now(), r.began); missing > int(r.d.Copies) && from <= until {
		gaps = append(gaps, Gap{from, until, whyMissing})
	}
	if !r.cfg.ReadOnly && !slices.ContainsFunc(r.devices, (*device).usable) {
		if _, newest := r.stored(); max(from, newest+1) <= min(to, r.now()) {
			gaps = append(gaps, Gap{max(from, newest+1), min(to, r.now()), whyStopped})
		}
	}
	gaps = append(gaps, r.damagedIn(begin, from, to)...)
	gaps = append(gaps, r.pausesIn(from, to)...)
	gaps = append(gaps, r.absentIn(from, to)...)
	return append(gaps, r.overwrittenIn(from, to, whyOverwritten)...)
}

// damagedIn returns the times from begin to to, both included, of which there were blocks that make no sense, and of which nothing is known but where they lay. With copies
// that counts where as many devices have such blocks that one may have been on these alone. from is where they begin if nothing says it. r.mu is held.
func (r *Ring) damagedIn(begin, from, to int64) (gaps []Gap) {
	of := make([][]Gap, len(r.devices))
	for i, d := range r.devices {
		for _, s := range d.segments {
			of[i] = append(of[i], s.tornTimes()...)
		}
	}
	for i := range of {
		for _, g := range of[i] {
			without := 0
			for k, d := range r.devices {
				if k == i || d.missing || slices.ContainsFunc(of[k], func(o Gap) bool { return o.From <= g.To && g.From <= o.To }) {
					without++
				}
			}
			if g.From == math.MinInt64 {
				g.From = from
			}
			g.From, g.To = max(g.From, begin), min(g.To, to, r.now())
			if g.From <= g.To && without > int(r.d.Copies) {
				gaps = append(gaps, g)
			}
		}
	}
	return gaps
}

// tornTimes returns when the packets of blocks that make no sense may have been recorded. Blocks lie in the order in which they ended, which is as long after their first
// and their last packet as a block may take. Ring.mu is held.
func (s *segment) tornTimes() (gaps []Gap) {
	for at := 0; at < len(s.torn); {
		first := s.torn[at]
		end := first + 1
		for at++; at < len(s.torn) && s.torn[at] == end; at++ {
			end++
		}
		g := Gap{math.MinInt64, math.MaxInt64, whyDamaged}
		if first > 0 && end < len(s.slots) && s.slots[first-1].Seq != 0 && s.slots[end].Seq != 0 {
			a, b := &s.slots[first-1], &s.slots[end]
			g.From, g.To = min(a.Last, b.First)-blockAge, max(a.Last, b.Last)+blockAge
		}
		if s.State == state.Closed {
			g.From, g.To = max(g.From, s.First), min(g.To, s.Last)
		}
		gaps = append(gaps, g)
	}
	return gaps
}

// stored returns the times of the first and the last packet that lie on a device: oldest > newest if there is none. r.mu is held.
func (r *Ring) stored() (oldest, newest int64) {
	oldest, newest = math.MaxInt64, math.MinInt64
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Open {
				s.span()
			}
			if s.State != state.Empty {
				oldest, newest = min(oldest, s.First), max(newest, s.Last)
			}
		}
	}
	return oldest, newest
}

// overwrittenIn returns the times within some, both included, of which packets were overwritten: what is protected was not. r.mu is held.
func (r *Ring) overwrittenIn(from, to int64, why string) (gaps []Gap) {
	old := []Gap{{from, min(to, r.overwritten), why}}
	if r.ahead.Why != "" {
		old = append(old, Gap{max(from, r.overwritten+1, r.ahead.From), min(to, r.ahead.To), why})
	}
	for _, p := range r.pinned() {
		old = without(old, p)
	}
	for _, g := range old {
		if g.From <= g.To {
			gaps = append(gaps, g)
		}
	}
	return gaps
}

// drops is how many packets were missing when blocks ended: the least and the most of those that were asked.
type drops struct {
	known       bool
	least, most uint64
}

func (d *drops) add(n uint64) {
	if !d.known {
		*d = drops{true, n, n}
	}
	d.least, d.most = min(d.least, n), max(d.most, n)
}

// account notes what had been dropped and lost when a block ended.
func (s *Scan) account(h *block.Header) {
	s.drops.add(h.Dropped)
	if h.Flags&block.FlagLost != 0 {
		s.losses.add(h.Lost)
	}
}

// askEnds asks the first and the last block of the interval what the ring had not taken, and the ports had lost, by then: a query may read neither.
func (q *Results) askEnds() {
	first, last, ok := q.ends()
	if !ok {
		return
	}
	for _, b := range []end{first, last} {
		q.count(func(s *Scan) { s.drops.add(b.dropped) })
		if first.seq == last.seq || q.ring.losses.all() == 0 {
			continue // nothing was lost in between
		}
		q.trailer(b.place, b.seq, func(h *block.Header, _ block.Bloom) {
			q.count(func(s *Scan) { s.account(h) })
		})
	}
}

// askStock tells what is missing, if that was not known yet when the query began.
func (q *Results) askStock() {
	if q.ring.ofStock() == "" {
		return
	}
	if q.ring.stock.wait(q.ctx.Done()); q.ctx.Err() == nil {
		for _, g := range q.holes() {
			q.gap(g.From, g.To, g.Why)
		}
	}
}

// An end is the first or the last block of an interval.
type end struct {
	place
	seq     uint64
	dropped uint64 // by the ring, when the block ended
}

// ends returns the blocks of the interval with the lowest and the highest number; not ok if there are none. Of segments that lie
// in the interval as a whole their numbers say which may have them, so that the blocks of few segments need be listed.
func (q *Results) ends() (first, last end, ok bool) {
	r := q.ring
	asked := func(first, last int64) bool { return q.in(first, last) && last >= q.told }
	lo, hi := uint64(math.MaxUint64), uint64(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Closed && s.First >= q.told && s.Last < q.q.To {
				lo, hi = min(lo, s.SeqLo), max(hi, s.SeqHi)
			}
		}
	}
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Empty || s.State == state.Closed && (!asked(s.First, s.Last) || s.SeqLo > lo && s.SeqHi < hi) || r.load(s) != nil {
				continue
			}
			for i := range s.slots {
				b := &s.slots[i]
				if b.Seq == 0 || !asked(b.First, b.Last) {
					continue
				}
				ok = true
				e := end{place{s, i}, b.Seq, b.Dropped}
				if b.Seq <= lo {
					first, lo = e, b.Seq
				}
				if b.Seq >= hi {
					last, hi = e, b.Seq
				}
			}
		}
	}
	return first, last, ok
}
