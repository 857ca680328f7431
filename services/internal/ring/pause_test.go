package ring

import (
	"slices"
	"testing"
	"time"

	"galvo/services/internal/ring/state"
)

// TestPauseBeforeOldest: a pause is a gap until what came after it is overwritten, too.
func TestPauseBeforeOldest(t *testing.T) {
	l := newLap(t, 1)
	l.close(t)
	from := l.clock.Add(1)
	l.clock.Add(int64(time.Hour))
	l.open(t)
	to := l.clock.Load()
	l.rounds = 400_000 // an hour and more later
	l.record(t, 1)
	l.clock.Add(int64(time.Minute))
	pauses := func() []Gap {
		l.ring.mu.Lock()
		defer l.ring.mu.Unlock()
		return l.ring.pausesIn(from, to)
	}
	for overwritten, want := range map[int64]bool{from - 1: true, to + int64(2*time.Hour): false} { // as if the packets before the pause had been overwritten, and those after it
		l.ring.mu.Lock()
		before := slices.Clone(l.ring.d.Pauses)
		l.ring.overwritten = overwritten
		l.ring.pause()
		l.ring.mu.Unlock()
		if have := pauses(); (len(have) > 0) != want || want && have[0] != (Gap{from, to, whyPaused}) {
			t.Errorf("overwritten to %d: the pause is %v", overwritten-epoch, short(have))
		}
		l.ring.mu.Lock()
		l.ring.d.Pauses = append([]state.Pause(nil), before...)
		l.ring.mu.Unlock()
	}
	l.close(t)
}
