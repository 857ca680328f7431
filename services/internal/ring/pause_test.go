package ring

import (
	"slices"
	"testing"
	"time"
)

// TestPauseBeforeOldest overwrites everything that came before a pause, and nothing after it: the pause is a gap yet, opened again and again.
func TestPauseBeforeOldest(t *testing.T) {
	l := newLap(t, 1)
	l.record(t, 3)
	l.close(t)
	from := l.clock.Add(1)
	to := l.clock.Add(int64(time.Hour))
	l.open(t)
	for l.rounds = 400_000; l.ring.overwritten < from-1_000_000; l.record(t, 1) { // frames of an hour and more later
	}
	l.close(t)
	for range 2 {
		l.clock.Add(int64(time.Second))
		l.open(t)
		_, scan := collect(t, l.ring, Query{From: from - 1000, To: to + 1000})
		if !slices.ContainsFunc(covered(scan.Gaps), func(g Gap) bool { return g.From <= from && g.To >= to }) {
			t.Errorf("gaps %v, of the pause from %d to %d; overwritten to %d", short(scan.Gaps), from-epoch, to-epoch, l.ring.overwritten-epoch)
		}
		l.close(t)
	}
}
