package ring

import (
	"math/rand/v2"
	"testing"

	"galvo/services/internal/ring/block"
)

// TestCut: of a block that the interval cuts and nobody wants, a few chunks say how many of its packets lie in the interval.
func TestCut(t *testing.T) {
	set := newSetting(t, 1, 32<<20)
	set.create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, table)
	frames := mix(73, 20_000)
	for i := range 40 { // a burst of one time
		frames[7000+i].Time = frames[7000].Time
	}
	play(t, s, &traffic{frames: frames})
	s.Finish()
	waitIdle(t, r)
	rng := rand.New(rand.NewPCG(73, 1))
	at := func() int64 { return frames[rng.IntN(len(frames))].Time + int64(rng.IntN(3)-1) }
	few := 0
	for range 300 {
		q := Query{From: at(), To: at(), Filter: mustFilter(t, "ip == 203.0.113.9")}
		switch rng.IntN(3) {
		case 0:
			q.From = frames[7000].Time
		case 1:
			q.To = frames[7000].Time
		}
		if q.To <= q.From {
			continue
		}
		want := uint64(0)
		for i := range frames {
			if frames[i].Time >= q.From && frames[i].Time < q.To {
				want++
			}
		}
		found, scan := collect(t, r, q)
		if len(found) != 0 {
			t.Fatalf("%d packets", len(found))
		}
		if scan.Skipped+scan.Passed != want {
			t.Fatalf("%d to %d: %d packets lie in the interval, not %d", q.From, q.To, scan.Skipped+scan.Passed, want)
		}
		if scan.Read == 0 && scan.Bytes < block.Size {
			few++
		}
	}
	if few < 100 {
		t.Errorf("%d queries read little", few)
	}
}
