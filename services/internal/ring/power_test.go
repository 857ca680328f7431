package ring

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
)

// TestPowerCut cuts the power at random writes. After each cut everything that was more than a second old is there, once and whole, and recording goes on.
func TestPowerCut(t *testing.T) {
	cuts := powerCuts
	rng := rand.New(rand.NewPCG(5, 5))
	base := mix(4, 400)
	for cut := range cuts {
		set := newSetting(t, 2, 16<<20)
		set.cfg.Replicas = cut & 1
		var clock atomic.Int64
		clock.Store(epoch)
		set.cfg.Now = clock.Load
		set.create(t)
		r := set.open(t)
		s := r.Stage(0, table)
		worker := newPlayer(s)
		gap := []time.Duration{200 * time.Microsecond, 2 * time.Millisecond, 20 * time.Millisecond}[cut%3]
		limit := []int{400, 60, 20}[cut%3]
		at := 10 + rng.IntN(limit)
		for _, d := range set.disks {
			d.cutAt = at + d.writes
		}
		var all []packet.Frame
		safe := int64(math.MinInt64) // packets up to here were recorded a second, by the clock of the packets, before the cut
		for round := 0; !set.anyOff(); round++ {
			frames := stamp(base, round, gap)
			for len(frames) > 0 && !set.anyOff() {
				n := min(50, len(frames))
				all = append(all, frames[:n]...)
				worker.play(t, frames[:n])
				frames = frames[n:]
				now := all[len(all)-1].Time
				clock.Store(now)
				// The disk has the time that a real one has, on the clock of the packets: what was given to it a tick ago is there.
				waitIdle(t, r)
				r.waitTails()
				r.sync()
				if !set.anyOff() {
					safe = now - int64(time.Second)
				}
			}
		}
		for _, d := range set.disks {
			d.mu.Lock()
			d.off = true
			d.mu.Unlock()
		}
		r.Close()
		for _, d := range set.disks {
			d.powerOn()
		}
		before := cpu() // disks in memory are not waited for
		r = set.open(t)
		if took := cpu() - before; took > 2*time.Second {
			t.Errorf("cut %d: opening took %v of a processor", cut, took)
		}
		have, scan := collect(t, r, everything)
		overwritten := int64(math.MinInt64) // up to here the ring has wrapped
		var paused Gap
		for _, g := range scan.Gaps {
			switch g.Why {
			case whyOverwritten:
				overwritten = max(overwritten, g.To)
			case whyPaused:
				paused = g
			default:
				t.Errorf("cut %d: gap %v", cut, g)
			}
		}
		if n := len(have); n < len(all) && have[n-1].Time < all[len(all)-1].Time && (paused.From > max(have[0].Time, have[n-1].Time-unsaved)+1 || paused.To != all[len(all)-1].Time) {
			t.Errorf("cut %d: the last packet is of %d, not of %d, and it was not recording in %v", cut, have[n-1].Time, all[len(all)-1].Time, paused)
		}
		k := 0
		for i, h := range have {
			for k < len(all) && all[k].Time < h.Time {
				if all[k].Time <= safe && all[k].Time > overwritten {
					t.Fatalf("cut %d (write %d, gap %v): packet %d is missing, %v before the cut; state %+v", cut, at, gap, k, time.Duration(all[len(all)-1].Time-all[k].Time), r.State().Problems)
				}
				k++
			}
			if k == len(all) || all[k].Time != h.Time || string(all[k].Data) != string(h.Data) {
				t.Fatalf("cut %d: packet %d of the result was never recorded so, or comes twice", cut, i)
			}
			k++
		}
		for ; k < len(all); k++ {
			if all[k].Time <= safe {
				t.Fatalf("cut %d (write %d, gap %v): the packet %v before the cut is missing; %+v %v", cut, at, gap, time.Duration(all[len(all)-1].Time-all[k].Time), scan, r.State().Problems)
			}
		}
		s = r.Stage(0, table)
		more := stamp(base, 1_000_000, gap)
		play(t, s, &traffic{frames: more})
		s.Finish()
		again, _ := collect(t, r, Query{From: more[0].Time, To: math.MaxInt64})
		sameFrames(t, more, again)
		closeRing(t, r)
	}
}

func (s *setting) anyOff() bool {
	for _, d := range s.disks {
		d.mu.Lock()
		off := d.off
		d.mu.Unlock()
		if off {
			return true
		}
	}
	return false
}

// waitTails waits until no tail is being written.
func (r *Ring) waitTails() {
	for _, s := range r.stages {
		for len(s.saved) < cap(s.saved) {
			time.Sleep(50 * time.Microsecond)
		}
	}
}
