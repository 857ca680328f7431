package ring

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// TestLiveMark asks a query that waits up to which time it has delivered everything: who ends a capture by that must not miss its last packets.
func TestLiveMark(t *testing.T) {
	set := newSetting(t, 1, 32<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	r := set.create(t).open(t)
	defer closeRing(t, r)
	p := newPlayer(r.Stage(0, table))
	frames := mix(22, 4000)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := r.Query(ctx, Query{From: epoch, To: math.MaxInt64, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var b pipeline.Batch
	for at, n := 0, 0; at < len(frames); at += 1000 {
		p.play(t, frames[at:at+1000])
		clock.Store(frames[at+999].Time)
		for idle := false; !idle || n < at+900; idle = len(b.Packets) == 0 { // what has the time of the mark waits
			mark := b.Mark()
			if err := res.Next(ctx, &b); err != nil {
				t.Fatal(err)
			}
			if n += len(b.Packets); len(b.Packets) > 0 && mark > b.Packets[0].Time {
				t.Fatalf("packet %d comes, of a time up to which every one was said to be delivered", n-len(b.Packets))
			}
		}
	}
	soon := clock.Load() + int64(time.Second)
	end, err := r.Query(ctx, Query{From: epoch, To: soon, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	b = pipeline.Batch{}
	for err == nil && b.Mark() < soon {
		if err = end.Next(ctx, &b); len(b.Packets) == 0 {
			clock.Add(int64(500 * time.Millisecond))
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the end of the interval is said to be reached before the query ends: %v", err)
	}
}

// TestLive follows a ring that is being written: a query from the past goes on without a break to what comes, and ends at its end time.
func TestLive(t *testing.T) {
	set := newSetting(t, 2, 32<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	set.cfg.Workers = 2
	set.create(t)
	r := set.open(t)
	stages := []Stage{r.Stage(0, table), r.Stage(1, table)}
	base := mix(6, 2000)
	var all []packet.Frame
	record := func(round int) {
		frames := stamp(base, round, 10*time.Microsecond)
		all = append(all, frames...)
		for len(frames) > 0 {
			n := min(100, len(frames))
			for i, s := range stages {
				var part []packet.Frame
				for k, f := range frames[:n] {
					if k%2 == i {
						part = append(part, f)
					}
				}
				play(t, s, &traffic{frames: part})
			}
			clock.Store(frames[n-1].Time)
			frames = frames[n:]
		}
	}
	record(0)
	end := epoch + 20*2000*10_000
	ctx, cancel := context.WithTimeout(context.Background(), 2*longWait)
	defer cancel()
	res, err := r.Query(ctx, Query{From: epoch, To: end, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var have []got
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		var b pipeline.Batch
		for {
			if failed = res.Next(ctx, &b); failed != nil {
				return
			}
			for i := range b.Packets {
				g := got{Frame: b.Packets[i].Frame}
				g.Data = slices.Clone(g.Data)
				have = append(have, g)
			}
		}
	})
	for round := 1; round < 20; round++ {
		record(round)
		time.Sleep(20 * time.Millisecond)
	}
	clock.Store(end + 3e9) // and no worker has a batch
	done.Wait()
	if !errors.Is(failed, io.EOF) {
		t.Error(failed)
	}
	sameFrames(t, all, have)
	if s := res.Scan(); s.Matched != uint64(len(all)) || len(s.Gaps) != 0 {
		t.Errorf("%+v", s)
	}
	for _, s := range stages {
		s.Finish()
	}
	res.Close()
	closeRing(t, r)
}

// TestLiveHold follows a ring with a filter that needs verdicts: each flow comes from its first packet on.
func TestLiveHold(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	w := &witness{}
	p := newPlayer(s, w)
	frames := mix(61, 6000)
	f := mustFilter(t, "l7Protocol == TLS,HTTP,SSH")
	clock.Store(epoch)
	p.play(t, frames[:1000])
	ctx, cancel := context.WithTimeout(context.Background(), 2*longWait)
	defer cancel()
	res, err := r.Query(ctx, Query{From: epoch, To: math.MaxInt64, Filter: f, Hold: true, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	var have []packet.Frame
	var b pipeline.Batch
	take := func() {
		if err := res.Next(ctx, &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			f := b.Packets[i].Frame
			f.Data = slices.Clone(f.Data)
			have = append(have, f)
		}
	}
	for at := 1000; at < len(frames); at += 100 {
		p.play(t, frames[at:at+100])
		clock.Store(frames[at+99].Time)
		take()
	}
	want := w.want(f, epoch, math.MaxInt64, true)
	// The last flows never get a verdict; their packets are judged when they have waited long enough.
	for clock.Add(int64(10 * time.Second)); len(have) < len(want); {
		before := len(have)
		take()
		if len(have) == before && ctx.Err() != nil {
			break
		}
	}
	slices.SortStableFunc(have, func(a, b packet.Frame) int { return int(a.Time - b.Time) })
	if len(have) != len(want) {
		t.Fatalf("%d packets, want %d; %+v", len(have), len(want), res.Scan())
	}
	for i := range want {
		if string(have[i].Data) != string(want[i].Data) {
			t.Fatalf("packet %d differs", i)
		}
	}
	res.Close()
	s.Finish()
	closeRing(t, r)
}

// TestClosedWhileRead closes a ring under its readers: they are told, and what they hold stays valid.
// A query does not leave out what a worker that has much to do has not recorded yet, and says so where that takes too long.
func TestWorkerBehind(t *testing.T) {
	r := newSetting(t, 1, 32<<20).create(t).open(t)
	s := r.Stage(0, table)
	frames := mix(7, 100)
	play(t, s, &traffic{frames: frames})
	busy := &s.(*stage).inside
	busy.Lock()
	time.AfterFunc(300*time.Millisecond, busy.Unlock)
	have, scan := collect(t, r, everything)
	sameFrames(t, frames, have)
	if len(scan.Gaps) != 0 {
		t.Errorf("gaps %+v", scan.Gaps)
	}
	play(t, s, &traffic{frames: frames}) // forgets how far it was
	busy.Lock()
	_, scan = collect(t, r, everything)
	busy.Unlock()
	if len(scan.Gaps) != 1 || scan.Gaps[0].Why != whyBehind || scan.Gaps[0].To < time.Now().Add(-time.Minute).UnixNano() {
		t.Errorf("gaps %+v, want one of what is not recorded yet", scan.Gaps)
	}
	closeRing(t, r)
}
