package ring

import (
	"cmp"
	"slices"

	"galvo/services/internal/ring/state"
)

// sketchBytes is the memory for sketches, which say of a segment what is not in it: a part of that of the readers, of which windows take half. The newest segments have them; of
// an older one a query reads a page.
func (r *Ring) sketchBytes() int { return int(r.cfg.ReorderBytes / 16) }

// warm reads what every query asks of the segments that were full when the ring was opened, beginning with the newest.
func (r *Ring) warm() {
	left := r.sketchBytes()
	for _, s := range r.closedByAge() {
		select {
		case <-r.stop:
			return
		default:
		}
		n, err := s.index.Warm(r.indexed(s), left)
		if err == nil { // else the query that asks says so
			left -= n
		}
	}
}

// closedByAge returns the segments that are full, the newest first.
func (r *Ring) closedByAge() (list []*segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Closed {
				list = append(list, s)
			}
		}
	}
	slices.SortFunc(list, func(a, b *segment) int { return cmp.Compare(b.SeqHi, a.SeqHi) })
	return list
}

// shed gives up the sketches of the oldest segments, for which there is no more room.
func (r *Ring) shed() {
	left := r.sketchBytes()
	for _, s := range r.closedByAge() {
		if left -= s.index.Sketch(); left < 0 {
			s.index.Shed()
		}
	}
}
