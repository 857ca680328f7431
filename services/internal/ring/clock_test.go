package ring

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
)

// restless gives frames the stamps of a clock that is set back and forth, stands still, and of a card that hands over packets out of order.
func restless(rng *rand.Rand, frames []packet.Frame) {
	now := epoch
	for i := range frames {
		switch rng.IntN(6000) {
		case 0:
			now -= int64(time.Hour)
		case 1:
			now += int64(time.Hour)
		case 2:
			now -= rng.Int64N(int64(3 * time.Second))
		case 3:
			now += rng.Int64N(int64(90 * time.Second))
		}
		if rng.IntN(3) > 0 {
			now += rng.Int64N(int64(time.Millisecond))
		}
		frames[i].Time = now
		if rng.IntN(20) == 0 {
			frames[i].Time -= rng.Int64N(int64(time.Millisecond))
		}
	}
}

// TestRestlessClock records with such stamps, by two workers, and asks about intervals that begin and end at stamps: what was recorded in them comes, once, and in order, whether
// the index is asked or not; of a ring that has wrapped, what is still there, and the rest is in gaps.
func TestRestlessClock(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 9))
		set := newSetting(t, 1+int(seed%2), 24<<20)
		var clock atomic.Int64
		set.cfg.Workers, set.cfg.Now = 2, clock.Load
		clock.Store(epoch - int64(100*time.Hour))
		set.create(t)
		r := set.open(t)
		stages := []Stage{r.Stage(0, table), r.Stage(1, table)}
		players := []*player{newPlayer(stages[0]), newPlayer(stages[1])}
		var all []packet.Frame
		for round := range []int{3, 12}[seed/2] {
			frames := stamp(mix(seed*100+uint64(round), 4000), round, time.Microsecond)
			restless(rng, frames)
			all = append(all, frames...)
			for len(frames) > 0 {
				n := min(1+rng.IntN(500), len(frames))
				clock.Store(frames[n-1].Time)
				players[rng.IntN(2)].play(t, frames[:n])
				frames = frames[n:]
			}
			waitIdle(t, r)
		}
		clock.Store(epoch + int64(1000*time.Hour))
		for _, s := range stages {
			s.Finish()
		}
		waitIdle(t, r)
		for _, when := range []string{"recorded", "opened again"} {
			here, scan := collect(t, r, everything)
			there := make(map[uint64]bool)
			for i := range here {
				there[frameID(here[i].Data)] = true
			}
			if seed < 2 && len(there) != len(all) {
				t.Fatalf("seed %d, %s: %d of %d packets; %+v", seed, when, len(there), len(all), scan)
			}
			silent := 0
			for i := range all {
				if !there[frameID(all[i].Data)] && !slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.From <= all[i].Time && all[i].Time <= g.To }) {
					silent++
				}
			}
			if silent > 0 {
				t.Errorf("seed %d, %s: of %d packets %d are there, and %d of the others in no gap: %v", seed, when, len(all), len(there), silent, short(scan.Gaps))
			}
			for range 30 {
				q := Query{From: all[rng.IntN(len(all))].Time, To: all[rng.IntN(len(all))].Time}
				if q.From >= q.To {
					q.From, q.To = q.To, q.From+1
				}
				text := damageFilters[rng.IntN(len(damageFilters))]
				q.Filter, q.Hold = mustFilter(t, text), true
				var want []uint64 // of a filter that asks for nothing else
				for i := range all {
					if f := &all[i]; q.From <= f.Time && f.Time < q.To && there[frameID(f.Data)] {
						want = append(want, frameID(f.Data))
					}
				}
				var found [2][]uint64
				for k := range found {
					q.everything = k == 1
					have, scan := collect(t, r, q)
					if !slices.IsSortedFunc(have, func(a, b got) int { return cmp.Compare(a.Time, b.Time) }) || scan.Disorder > 0 {
						t.Errorf("seed %d, %s: %q from %d to %d: out of order", seed, when, text, q.From-epoch, q.To-epoch)
					}
					for i := range have {
						found[k] = append(found[k], frameID(have[i].Data))
					}
					slices.Sort(found[k])
				}
				slices.Sort(want)
				if !slices.Equal(found[0], found[1]) || text == "" && !slices.Equal(found[0], want) {
					t.Errorf("seed %d, %s: %q from %d to %d: %d packets, read as a whole %d, and %d were recorded", seed, when, text, q.From-epoch, q.To-epoch, len(found[0]), len(found[1]), len(want))
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = set.open(t)
		}
		closeRing(t, r)
	}
}

// TestClockStepsBack sets the clock back by an hour: everything is kept, and delivered in the order of the stamps.
func TestClockStepsBack(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	a := stamp(mix(13, 5000), 0, time.Millisecond)
	b := stamp(mix(14, 5000), 0, time.Millisecond)
	for i := range b {
		b[i].Time -= int64(time.Hour)
	}
	play(t, s, &traffic{frames: slices.Concat(a, b)})
	s.Finish()
	have, _ := collect(t, r, everything)
	sameFrames(t, slices.Concat(b, a), have)
	have, _ = collect(t, r, Query{From: epoch, To: math.MaxInt64})
	sameFrames(t, a, have)
	closeRing(t, r)
}
