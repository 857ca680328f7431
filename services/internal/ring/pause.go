package ring

import (
	"time"

	"galvo/services/internal/ring/state"
)

// unsaved is how long what a worker has recorded may be nowhere on a device, ns, if the disks keep up.
const unsaved = int64(time.Second)

// pause notes the time in which the ring was not recording: since it was closed, or, if it was cut off, since a second before the latest packet that is there, because
// workers save at different times. What was whole when somebody protected it was on the disk by then. r.mu is held.
func (r *Ring) pause() {
	oldest, newest := r.stored()
	if !r.d.Clean && oldest <= newest {
		newest = max(oldest, newest-unsaved)
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

// resume notes that the ring records from now on, if it was not yet. r.mu is held.
func (r *Ring) resume() {
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
