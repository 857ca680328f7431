package ring

import (
	"cmp"
	"math"
	"slices"
	"time"

	"galvo/services/internal/ring/state"
)

// unsaved is how long what a worker has recorded may be nowhere on a device, ns, if the disks keep up.
const unsaved = int64(time.Second)

// agree puts together what devices know of when the ring was not recording. One that was away does not know of what was recorded meanwhile, so the ring was recording when one
// of them says so. r.mu is held.
func (r *Ring) agree() {
	said := slices.DeleteFunc(slices.Clone(r.devices), func(d *device) bool { return d.missing || d.rebuilt })
	if len(said) == 0 {
		return
	}
	off := said[0].pauses()
	for i, d := range said {
		r.d.Saved = max(r.d.Saved, d.said.Saved)
		if i > 0 {
			off = both(off, d.pauses())
		}
	}
	r.d.Pauses = nil
	for _, g := range off {
		if g.To != math.MaxInt64 { // the last one begins now
			r.d.AddPause(state.Pause{From: g.From, To: g.To}, math.MinInt64)
		}
	}
}

// pauses returns when the ring was not recording as far as a device knows, which is for ever since it was closed, or cut off. Ring.mu is held.
func (d *device) pauses() (off []Gap) {
	until := d.said.Saved
	if !d.said.Clean && !d.doubt { // a description that may be older says nothing of the pause after it
		for _, s := range d.segments {
			if s.State != state.Empty {
				until = max(until, s.Last-unsaved)
			}
		}
	}
	for _, p := range d.said.Pauses {
		off = append(off, Gap{From: p.From, To: p.To})
		until = max(until, p.To)
	}
	return append(off, Gap{From: until + 1, To: math.MaxInt64})
}

// both returns the times that are in two lists, in order.
func both(a, b []Gap) (list []Gap) {
	for _, x := range a {
		for _, y := range b {
			if from, to := max(x.From, y.From), min(x.To, y.To); from <= to {
				list = append(list, Gap{From: from, To: to})
			}
		}
	}
	slices.SortFunc(list, func(a, b Gap) int { return cmp.Compare(a.From, b.From) })
	n := 0
	for _, g := range list { // what one list says of a time in parts is said once
		if n > 0 && g.From <= list[n-1].To {
			list[n-1].To = max(list[n-1].To, g.To)
			continue
		}
		list[n] = g
		n++
	}
	return list[:n]
}

// pause notes the time in which the ring was not recording: since a worker had more when it was closed, or, if it was cut off, since a second before the latest packet that is
// there, because workers save at different times. What was whole when somebody protected it was on the disk by then. r.mu is held.
func (r *Ring) pause() {
	oldest, newest := r.stored()
	if oldest <= newest {
		behind := unsaved
		if r.d.Clean { // the state says it, and there may be younger packets of other workers
			behind = int64(lag)
		}
		newest = max(oldest, newest-behind)
	}
	newest = max(newest, r.d.Saved)
	if newest == 0 {
		return
	}
	pauses := []Gap{{From: newest + 1, To: r.now()}}
	for _, g := range r.pinned() {
		pauses = without(pauses, g)
	}
	for _, g := range pauses {
		if g.From <= g.To {
			r.d.AddPause(state.Pause{From: g.From, To: g.To}, min(oldest, r.overwritten)) // what was overwritten last may have come before a pause
			r.paused = true
		}
	}
}

// wholeUntil returns the time up to which all workers' frames were recorded when the ring is closed. What a worker receives later, and what waits for it then, is not in
// the ring, though packets of others may be that are younger. r.mu is held.
func (r *Ring) wholeUntil() int64 {
	t := r.now()
	for _, s := range r.stages {
		t = min(t, s.until)
	}
	return t
}

// Resume says that the ring records from now on, if it did not yet.
func (r *Ring) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.d.Pauses); r.paused && n > 0 {
		r.d.Pauses[n-1].To = max(r.d.Pauses[n-1].To, r.now())
	}
}

// pausesIn returns when the ring was not recording within some time, both included, but for what was overwritten anyway. r.mu is held.
func (r *Ring) pausesIn(from, to int64) (gaps []Gap) {
	for _, p := range r.d.Pauses {
		if g := (Gap{max(from, p.From), min(to, p.To), whyPaused}); g.From <= g.To {
			gaps = append(gaps, g)
		}
	}
	for _, g := range r.overwrittenIn(from, to, whyOverwritten) {
		gaps = without(gaps, g)
	}
	return gaps
}
