package ring

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestPauses: the times in which a ring was not recording are gaps of what is asked about them, whichever of its devices were there, and however it ended.
func TestPauses(t *testing.T) {
	set := newSetting(t, 2, 32<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	clock.Store(epoch)
	set.create(t)
	both := set.cfg.Dirs
	var want []Gap
	var last int64
	for round, how := range []string{"for the first time", "closed", "without a device", "with it again", "cut off"} {
		set.cfg.Dirs = both
		if how == "without a device" {
			set.cfg.Dirs = []string{both[0], "away"}
			set.disks["away"] = newDisk(9)
		}
		clock.Add(int64(time.Hour))
		r := set.open(t)
		clock.Add(5)
		s := r.Stage(0, table)
		if how == "cut off" { // what came last may be lost
			have, _ := collect(t, r, everything)
			last = have[len(have)-1].Time - unsaved
			want[len(want)-1].To -= 5 // of which nothing was written
		}
		if round > 0 {
			want = append(want, Gap{last + 1, clock.Load(), whyPaused})
		}
		frames := mix(uint64(round), 100)
		for i := range frames {
			frames[i].Time = clock.Add(int64(time.Second))
		}
		p := newPlayer(s)
		p.play(t, frames[:50])
		p.play(t, frames[50:])
		if how == "with it again" { // and then the power goes
			waitIdle(t, r)
			r.waitTails()
			r.sync()
			for _, d := range set.disks {
				d.mu.Lock()
				d.off = true
				d.mu.Unlock()
			}
			r.Close()
			for _, d := range set.disks {
				d.powerOn()
			}
			continue
		}
		s.Finish()
		last = clock.Load()
		clock.Add(500)
		if how == "cut off" {
			gaps := func(from, to int64) []Gap {
				_, scan := collect(t, r, Query{From: from, To: to})
				return scan.Gaps
			}
			if diff := cmp.Diff(want, gaps(0, math.MaxInt64)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]Gap{{want[1].From, want[1].From + 9, whyPaused}}, gaps(want[1].From-5, want[1].From+10)); diff != "" {
				t.Error(diff)
			}
			if g := gaps(want[1].To+1, want[2].From); len(g) > 0 {
				t.Errorf("gaps %v while it recorded", g)
			}
		}
		r.Close() // of a device that is away it says so
	}
}

// TestPauseOfBusyWorkers closes a ring while a worker is behind the other, and opens it while batches are under way: what they have is in neither, and in a gap.
func TestPauseOfBusyWorkers(t *testing.T) {
	set := newSetting(t, 1, 32<<20)
	set.cfg.Workers = 2
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	clock.Store(epoch)
	set.create(t)
	r := set.open(t)
	frames := stamp(mix(5, 60), 1, time.Millisecond)
	for w, n := range []int{50, 20} {
		newPlayer(r.Stage(w, table)).play(t, frames[:n])
	}
	clock.Store(frames[59].Time)
	closeRing(t, r)
	clock.Add(int64(time.Hour))
	r = set.open(t)
	for w := range 2 {
		r.Stage(w, table)
	}
	clock.Add(int64(time.Millisecond))
	r.Resume()
	have, scan := collect(t, r, everything)
	want := []Gap{{frames[19].Time + 1, clock.Load(), whyPaused}}
	if diff := cmp.Diff(want, scan.Gaps); diff != "" || len(have) != 70 {
		t.Errorf("%d packets: %s", len(have), diff)
	}
	closeRing(t, r)
}
