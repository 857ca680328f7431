package ring

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"galvo/services/internal/ring/state"
)

// discover finds out by its blocks what no device's state says of the ring. r.mu is held.
func (r *Ring) discover() {
	if !slices.ContainsFunc(r.devices, func(d *device) bool { return d.rebuilt }) {
		return
	}
	r.countAll(true)
	all := r.stock.all()
	if len(all) == 0 {
		return
	}
	if r.stock.copies {
		r.d.Copies = max(r.d.Copies, 1)
	}
	dropped, counted := uint64(0), uint64(0)
	for i := range all {
		r.d.Generation = max(r.d.Generation, all[i].opening)
		dropped = max(dropped, all[i].dropped)
	}
	for _, n := range r.droppedNow() {
		counted += n
	}
	if dropped > counted { // blocks go on counting
		r.dropped[state.CauseQueue].Add(dropped - counted)
	}
	if all[0].from == 0 { // nothing came before, and what came later, and is not there, is known to be absent
		if r.d.Created == 0 {
			r.d.Created = firstOf(all)
		}
		for _, d := range r.devices {
			for _, s := range d.segments {
				s.Floor = 0
			}
		}
	}
	if r.d.Saved == 0 {
		r.pausesOf(all)
	}
	r.absences(all)
}

// pausesOf notes that the ring was not recording between the packets of two openings. r.mu is held.
func (r *Ring) pausesOf(all []stretch) {
	spans := make(map[uint32]state.Pause)
	for i := range all {
		b := &all[i]
		p, ok := spans[b.opening]
		if !ok {
			p = state.Pause{From: math.MaxInt64, To: math.MinInt64}
		}
		spans[b.opening] = state.Pause{From: min(p.From, b.first), To: max(p.To, b.last)}
	}
	order := slices.Sorted(maps.Keys(spans))
	for i := 1; i < len(order); i++ {
		if p := (state.Pause{From: spans[order[i-1]].To + 1, To: spans[order[i]].From - 1}); p.From <= p.To {
			r.d.AddPause(p, math.MinInt64)
		}
	}
}

// absences notes when blocks were finished that are not there: the totals of the others leave room for them. r.mu is held.
func (r *Ring) absences(all []stretch) {
	missing, newest := uint64(0), int64(math.MinInt64)
	for i := range all {
		newest = max(newest, all[i].last)
	}
	part := r.isPart()
	for _, h := range holesOf(all) {
		missing += h.bytes
		g := h.around
		if !part {
			g = h.between
		}
		g.To = min(g.To, newest)
		r.absent = append(r.absent, g)
	}
	if missing == 0 && !part {
		return
	}
	if part && missing > 0 || r.lacks() {
		r.absent = append(r.absent, Gap{newest + 1, r.now(), whyAbsent}) // as far as anybody knows
	}
	if missing > 0 {
		r.rebuilt = append(r.rebuilt, fmt.Sprintf("%d captured bytes that were recorded later than the oldest block are not there: segments or devices are missing, or they were protected, or cut off by a loss of power", missing))
	}
}

// isPart reports whether there may be more of the ring than is there now: segments, or devices that nobody named. r.mu is held.
func (r *Ring) isPart() bool {
	known := func(d *device) bool { return !d.rebuilt }
	return r.lacks() || r.cfg.ReadOnly && (!slices.ContainsFunc(r.devices, known) || len(r.devices) < int(r.d.Devices))
}

// lacks reports whether a segment or a device is not there. r.mu is held.
func (r *Ring) lacks() bool {
	return slices.ContainsFunc(r.devices, func(d *device) bool { return d.missing || slices.ContainsFunc(d.segments, (*segment).absent) })
}

// absentIn returns within which of some times, both included, packets were recorded that are not there. r.mu is held.
func (r *Ring) absentIn(from, to int64) (gaps []Gap) {
	for _, g := range r.absent {
		if g.From, g.To = max(from, g.From), min(to, g.To); g.From <= g.To {
			gaps = append(gaps, g)
		}
	}
	for _, g := range r.overwrittenIn(from, to, whyOverwritten) {
		gaps = without(gaps, g)
	}
	return gaps
}
