package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// stamp numbers frames, so that each one is unlike all others, and gives them times step apart.
func stamp(frames []packet.Frame, round int, step time.Duration) []packet.Frame {
	out := make([]packet.Frame, len(frames))
	for i, f := range frames {
		f.Data = slices.Clone(f.Data)
		n := uint64(round*len(frames) + i)
		le.PutUint64(f.Data[:8], n) // the destination address and a part of the source's
		f.Time = epoch + int64(n)*int64(step)
		out[i] = f
	}
	return out
}

// TestWrap overwrites a ring on two devices more than twice, by two workers: what is in the interval that it covers comes back byte for byte, in the order of
// time, and once.
func TestWrap(t *testing.T) {
	for _, copies := range []int{0, 1} {
		t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) {
			set := newSetting(t, 2, 12<<20)
			set.cfg.Workers, set.cfg.Replicas = 2, copies
			set.create(t)
			r := set.open(t)
			stages := []Stage{r.Stage(0, table), r.Stage(1, table)}
			base := mix(3, 10_000)
			var all []packet.Frame
			for round := range 20 {
				frames := stamp(base, round, time.Microsecond)
				all = append(all, frames...)
				var two [2][]packet.Frame
				for i, f := range frames {
					two[i/17%2] = append(two[i/17%2], f)
				}
				for i, s := range stages {
					play(t, s, &traffic{frames: two[i]})
				}
				waitIdle(t, r)
			}
			for _, s := range stages {
				s.Finish()
			}
			waitIdle(t, r)
			before := int64(0) // time of the oldest packet
			for _, when := range []string{"recorded", "opened again"} {
				have, scan := collect(t, r, everything)
				scan.Gaps = slices.DeleteFunc(scan.Gaps, func(g Gap) bool { return g.Why == whyPaused }) // by the clock: long after the packets
				if len(scan.Gaps) != 1 || scan.Gaps[0].Why != whyOverwritten || len(have) < 20_000 || len(have) > 100_000 {
					t.Fatalf("%s: %d of %d packets, gaps %v", when, len(have), len(all), scan.Gaps)
				}
				// The workers' oldest blocks go one by one. What is there of that time is in order, and from where the ring says all is.
				oldest := r.State().Oldest
				if scan.Gaps[0].From != have[0].Time || scan.Gaps[0].To/1000+1 != oldest/1000 {
					t.Errorf("%s: the gap %v ends before the oldest packet at %d", when, scan.Gaps[0], oldest)
				}
				at := slices.IndexFunc(have, func(g got) bool { return g.Time >= oldest })
				for j := range at {
					if n := le.Uint64(have[j].Data); j > 0 && have[j].Time <= have[j-1].Time || have[j].Time != all[n].Time || string(have[j].Data) != string(all[n].Data) {
						t.Fatalf("%s: packet %d of those before the oldest is out of order, or was never recorded so", when, j)
					}
				}
				// The workers are a round apart, and a block of 3,000 packets each is what goes at once.
				if at > 16_000 || len(have)-at < 1000 {
					t.Errorf("%s: %d of %d packets are older than the oldest", when, at, len(have))
				}
				if before == 0 {
					before = oldest
				} else if oldest != before {
					t.Errorf("opening the ring has cost what is between %d and %d", before, oldest)
				}
				from := slices.IndexFunc(all, func(f packet.Frame) bool { return f.Time >= oldest })
				sameFrames(t, all[from:], have[at:])
				since, scan := collect(t, r, Query{From: oldest, To: all[len(all)-1].Time + 1})
				if len(scan.Gaps) != 0 {
					t.Errorf("%s: gaps %v from the oldest on", when, scan.Gaps)
				}
				sameFrames(t, all[from:], since)
				st := r.State()
				if st.Dropped["queue"]+st.Dropped["disk"] != 0 || st.Bytes == 0 || len(st.Problems) != 0 {
					t.Errorf("%s: state %+v", when, st)
				}
				closeRing(t, r)
				r = set.open(t)
			}
			closeRing(t, r)
		})
	}
}

// TestOverwrittenWhileRead lets a query wait while the ring wraps: it goes on with the oldest that there is, and says what is missing.
func TestOverwrittenWhileRead(t *testing.T) {
	set := newSetting(t, 1, 24<<20)
	set.cfg.ReorderBytes = 8 << 20
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	base := mix(15, 10_000)
	for round := range 5 {
		play(t, s, &traffic{frames: stamp(base, round, time.Microsecond)})
		waitIdle(t, r)
	}
	res, err := r.Query(context.Background(), everything)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var b pipeline.Batch
	if err := res.Next(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	for round := 5; round < 30; round++ {
		play(t, s, &traffic{frames: stamp(base, round, time.Microsecond)})
		waitIdle(t, r)
	}
	n := len(b.Packets)
	for b := range batches(context.Background(), t, res) {
		n += len(b.Packets)
	}
	scan := res.Scan()
	if !slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.Why == "overwritten while it was read" }) || n == 0 || n >= 50_000 {
		t.Errorf("%d packets, %+v", n, scan)
	}
	res.Close()
	s.Finish()
	closeRing(t, r)
}

// TestOverwrittenWhileFollowed lets a reader of what is being recorded rest while the ring wraps: whatever he does not get lies in a gap that he is told.
func TestOverwrittenWhileFollowed(t *testing.T) {
	set := newSetting(t, 1, 24<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	set.cfg.ReorderBytes = 8 << 20
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	base := mix(15, 10_000)
	var all []packet.Frame
	record := func(round int) {
		frames := stamp(base, round, time.Microsecond)
		all = append(all, frames...)
		play(t, s, &traffic{frames: frames})
		clock.Store(frames[len(frames)-1].Time)
		waitIdle(t, r)
	}
	record(0)
	end := epoch + 31*10_000*1000
	res, err := r.Query(context.Background(), Query{From: epoch, To: end, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var b pipeline.Batch
	had := make(map[int64]bool)
	take := func() error {
		err := res.Next(context.Background(), &b)
		for i := range b.Packets {
			had[b.Packets[i].Time] = true
		}
		return err
	}
	if err := take(); err != nil {
		t.Fatal(err)
	}
	for round := 1; round < 30; round++ {
		record(round)
	}
	clock.Store(end + 3e9) // and no worker has a batch
	for err == nil {
		err = take()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	scan, missing, silent := res.Scan(), 0, 0
	for _, f := range all {
		if had[f.Time] {
			continue
		}
		missing++
		if !slices.ContainsFunc(scan.Gaps, func(g Gap) bool {
			return g.From <= f.Time && f.Time <= g.To && g.Why == "overwritten while it was read"
		}) {
			silent++
		}
	}
	if missing == 0 || missing == len(all) || silent > 0 {
		t.Errorf("of %d packets %d are missing, %d of these without a word; %+v", len(all), missing, silent, scan)
	}
	s.Finish()
	closeRing(t, r)
}
