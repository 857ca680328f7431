package ring

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/state"
)

// TestSkipped: what a query delivers, what it looks at in vain and what it need not look at are the packets of the interval, whatever that cuts, and however the
// blocks lie; at no time more than came up to what was delivered.
func TestSkipped(t *testing.T) {
	for _, copies := range []int{0, 1} {
		t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) { skipped(t, copies) })
	}
}

func skipped(t *testing.T, copies int) {
	set := newSetting(t, 1+copies, 32<<20)
	set.cfg.Workers, set.cfg.Replicas = 2, copies
	set.create(t)
	r := set.open(t)
	stages := []Stage{r.Stage(0, table), r.Stage(1, table)}
	players := []*player{newPlayer(stages[0]), newPlayer(stages[1])}
	frames := mix(72, 40_000)
	for at, n := 0, 0; at < len(frames); at += 500 {
		players[n%2].play(t, frames[at:at+500])
		n++
	}
	for _, when := range []string{"recorded", "opened again"} {
		spared := 0
		for _, expression := range []string{"", "port == 53", "port == 443", "ip == 203.0.113.9", "ip == 10.0.3.7", "l7Protocol == DNS", "vlan == 77"} {
			for _, cut := range [][2]int{{0, len(frames)}, {100, 31_000}, {9000, 9010}, {17_000, 39_999}} {
				interval := frames[cut[0]:cut[1]]
				q := Query{From: interval[0].Time, To: interval[len(interval)-1].Time + 1, Filter: mustFilter(t, expression), Hold: true}
				res, err := r.Query(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				delivered, at := 0, 0
				for b := range batches(context.Background(), t, res) {
					delivered += len(b.Packets)
					for len(b.Packets) > 0 && at < len(interval) && interval[at].Time <= b.Packets[len(b.Packets)-1].Time {
						at++
					}
					if s := res.Scan(); int(s.Passed+s.Skipped)+delivered > at {
						t.Fatalf("%s, %q, %v: %d delivered, %d not wanted, %d not looked at, and %d came", when, expression, cut, delivered, s.Passed, s.Skipped, at)
					}
				}
				s := res.Scan()
				if int(s.Matched+s.Passed+s.Skipped) != len(interval) || s.Held != 0 {
					t.Errorf("%s, %q, %v: of %d packets %d delivered, %d not wanted, %d not looked at", when, expression, cut, len(interval), s.Matched, s.Passed, s.Skipped)
				}
				if s.Skipped > s.Packets {
					spared++
				}
				res.Close()
			}
		}
		if when == "opened again" && spared < 8 {
			t.Errorf("%s: %d queries look at a small part", when, spared)
		}
		for _, s := range stages {
			s.Finish()
		}
		closeRing(t, r)
		r = set.open(t)
	}
	closeRing(t, r)
}

// TestPassed holds what a query says that its filter did not want against the frames before what was delivered, at every batch: it reads ahead.
func TestPassed(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(71, 12_000)
	play(t, s, &traffic{frames: frames})
	for _, expression := range []string{"", "port == 53", "port == 443", "ip == 203.0.113.9", "l7Protocol == DNS"} {
		f := mustFilter(t, expression)
		q := Query{From: frames[100].Time, To: frames[11_000].Time, Filter: f, Hold: true}
		res, err := r.Query(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); (res.rounds.Load() == 0 || res.Scan().Blocks > 0 && res.Scan().Packets == 0) && time.Since(start) < longWait; time.Sleep(time.Millisecond) {
			// It looks ahead of its reader.
		}
		if scan := res.Scan(); expression == "" && scan.Empty != "" {
			t.Errorf("nothing is delivered yet, and it is called empty: %s", scan.Empty)
		}
		delivered, at, whole := 0, 100, !f.NeedsL7()
		for b := range batches(context.Background(), t, res) {
			delivered += len(b.Packets)
			for len(b.Packets) > 0 && frames[at].Time <= b.Packets[len(b.Packets)-1].Time {
				at++
			}
			if got := int(res.Scan().Passed); whole && len(b.Packets) > 0 && got != at-100-delivered {
				t.Fatalf("%s: %d delivered of %d, %d were not wanted", expression, delivered, at-100, got)
			}
		}
		if scan := res.Scan(); scan.Passed != scan.Packets-scan.Matched || scan.Matched != uint64(delivered) || scan.Held != 0 || scan.Bytes == 0 && scan.Packets > 0 {
			t.Errorf("%s: %+v", expression, scan)
		}
		res.Close()
	}
	s.Finish()
	closeRing(t, r)
}

// TestUnread: what its reader has not taken of the last batch does not count, nor what came before that.
func TestUnread(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(74, 30_000)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	for _, expression := range []string{"", "port == 53", "ip == 10.0.3.7", "l7Protocol == DNS"} {
		for _, most := range []int{1, 2, 40, 257, 300, 512} {
			res, err := r.Query(context.Background(), Query{From: epoch, To: math.MaxInt64, Filter: mustFilter(t, expression), Hold: true})
			if err != nil {
				t.Fatal(err)
			}
			taken, last, next := 0, int64(0), int64(math.MaxInt64)
			for b := range batches(context.Background(), t, res) {
				n := min(most-taken, len(b.Packets))
				if taken += n; n > 0 {
					last = b.Packets[n-1].Time
				}
				if taken == most {
					if n < len(b.Packets) {
						next = b.Packets[n].Time
					}
					res.Unread(len(b.Packets) - n)
					break
				}
			}
			came := 0
			for came < len(frames) && frames[came].Time <= last {
				came++
			}
			if scan := res.Scan(); taken == most && (int(scan.Matched) != taken || int(scan.Matched+scan.Passed+scan.Skipped) != came) {
				t.Errorf("%q: %d taken, and %d frames came up to the last one: %d matched, %d not wanted, %d not looked at", expression, taken, came, scan.Matched, scan.Passed, scan.Skipped)
			}
			if scan := res.Scan(); taken == most && (scan.Until < last || scan.Until > min(next, frames[len(frames)-1].Time)) {
				t.Errorf("%q: %d taken: looked at up to %d, the last one is of %d, the next one of %d", expression, taken, scan.Until, last, next)
			}
			res.Close()
		}
	}
	closeRing(t, r)
}

// TestUntil: a query says how far it came, also between the packets that are wanted; at its end that is the end of the interval.
func TestUntil(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(75, 60_000)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	q := Query{From: frames[9].Time, To: frames[len(frames)-1].Time + 5, Filter: mustFilter(t, `regexp == "no such thing"`)}
	res, err := r.Query(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if n := res.Scan().Until; n != 0 {
		t.Errorf("before anything was taken it was looked at up to %d", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := res.Next(ctx, new(pipeline.Batch)); err == nil || res.Scan().Until >= q.To {
		t.Errorf("it was stopped: %v, looked at up to %d", err, res.Scan().Until)
	}
	for range batches(context.Background(), t, res) {
	}
	if n := res.Scan().Until; n != q.To {
		t.Errorf("at its end it was looked at up to %d, want %d", n, q.To)
	}
	res.Close()
	closeRing(t, r)
}

// What was dropped before the packets of an interval is not dropped in it, though the last of them lie in a block that is not finished.
func TestScanDropped(t *testing.T) {
	set := newSetting(t, 1, 32<<20)
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	base := mix(12, 8000)
	r.dropped[state.CauseQueue].Store(1000)
	play(t, s, &traffic{frames: stamp(base, 0, time.Microsecond)})
	for _, restart := range []bool{false, true} {
		if restart {
			closeRing(t, r)
			r = set.open(t)
		}
		if have, scan := collect(t, r, Query{From: epoch, To: math.MaxInt64}); len(have) != len(base) || scan.Dropped != 0 {
			t.Errorf("%d packets, %d dropped", len(have), scan.Dropped)
		}
	}
	closeRing(t, r)
}

// What ports lost in an interval is said of it, also by a query that reads nothing, and of a ring that was opened anew.
func TestScanLost(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	set.create(t)
	r := set.open(t)
	record := func(second int, lost uint64) {
		r.Lost(lost)
		s := r.Stage(0, table)
		play(t, s, &traffic{frames: stamp(mix(uint64(second), 10_000), second, 100*time.Microsecond)})
		s.Finish()
	}
	ask := func(from, to int, want uint64) {
		t.Helper()
		waitIdle(t, r)
		for _, expression := range []string{"", "ip == 203.0.113.77"} {
			f, err := filter.Compile(expression, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, scan := collect(t, r, Query{From: epoch + int64(from)*1e9, To: epoch + int64(to)*1e9, Filter: f}); scan.Lost != want {
				t.Errorf("%q from %d to %d s: %d lost, want %d", expression, from, to, scan.Lost, want)
			}
		}
	}
	record(0, 1000) // before the first packet
	record(1, 1100)
	record(2, 1100)
	record(3, 1130)
	ask(0, 10, 130)
	ask(0, 1, 0)
	ask(1, 3, 0)
	ask(2, 4, 30)
	closeRing(t, r)
	r = set.open(t)
	record(5, 7)
	record(6, 9)
	ask(5, 10, 2)
	ask(2, 10, 30+2)
	ask(0, 10, 130+2)
	closeRing(t, r)
}

// The memory in which queries put packets in order can be changed while the ring is open.
func TestSetReorder(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	set.cfg.Workers, set.cfg.ReorderBytes = 16, 1
	set.create(t)
	r := set.open(t)
	var want []packet.Frame
	for w := range set.cfg.Workers { // each a block of the same second
		frames := stamp(mix(uint64(w), 1000), 0, time.Millisecond)
		want = append(want, frames...)
		s := r.Stage(w, table)
		play(t, s, &traffic{frames: frames})
		s.Finish()
	}
	have, scan := collect(t, r, Query{From: epoch, To: math.MaxInt64})
	late, last := uint64(0), int64(0)
	for _, g := range have {
		if g.Time < last {
			late++
		}
		last = max(last, g.Time)
	}
	if len(have) != len(want) || late == 0 || scan.Disorder != late {
		t.Errorf("without memory: %d packets of %d, %d out of order, and %d are said to be", len(have), len(want), late, scan.Disorder)
	}
	r.SetReorder(64 << 20)
	if have, scan := collect(t, r, Query{From: epoch, To: math.MaxInt64}); len(have) != len(want) || scan.Disorder != 0 {
		t.Errorf("with memory: %d packets of %d, %d out of order", len(have), len(want), scan.Disorder)
	}
	closeRing(t, r)
}

// TestBefore looks back before the interval: what is missing there is no gap, and what the ring has there is nothing of the interval.
func TestBefore(t *testing.T) {
	l := newLap(t, 1)
	l.record(t, 20)
	oldest := l.ring.State().Oldest
	q := Query{From: oldest + 1_000_000, To: oldest + 3_000_000, Before: int64(time.Second)}
	have, scan := collect(t, l.ring, q)
	if len(have) < 3000 || have[0].Time >= q.From || len(scan.Gaps) != 0 || scan.From != q.From || scan.To < q.From {
		t.Errorf("%d packets, %+v", len(have), scan)
	}
	q.From = oldest - 1_000_000
	if _, scan = collect(t, l.ring, q); len(scan.Gaps) != 1 || scan.Gaps[0] != (Gap{q.From, oldest - 1000, whyOverwritten}) {
		t.Errorf("with a part that is overwritten: %+v", scan)
	}
	last := l.clock.Add(int64(time.Minute))
	q.From, q.To, q.Before = last-int64(time.Second), last, int64(2*time.Minute)
	if have, scan = collect(t, l.ring, q); len(have) == 0 || scan.From <= scan.To || len(scan.Gaps) != 0 {
		t.Errorf("of a time without packets: %+v", scan)
	}
	l.close(t)
}

// TestGaps notes gaps in any order: each is told, whatever their number, and few of them say more than they were given.
func TestGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &Results{q: Query{From: 0, To: 1_000_000}}
		n := rapid.SampledFrom([]int{1, 5, 30, 3 * mostGaps}).Draw(t, "gaps")
		step := 1_000_000 / int64(n)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		missing := make([]string, 1_000_000)
		for _, i := range rng.Perm(n) {
			from := int64(i)*step + rng.Int64N(step)
			to := from + rng.Int64N(step)
			why := []string{whyDamaged, whyMeanwhile}[rng.IntN(2)]
			q.gap(from-step, to-step, why)
			for at := max(from-step, 0); at <= to-step && at < q.q.To; at++ {
				missing[at] = why
			}
		}
		told := make([]bool, len(missing))
		for _, g := range q.scan.Gaps {
			if g.From > g.To || g.From < 0 || g.To >= q.q.To {
				t.Fatalf("gap %v", g)
			}
			for at := g.From; at <= g.To; at++ {
				told[at] = true
			}
		}
		for at, why := range missing {
			if told[at] != (why != "") && (n < mostGaps || !told[at]) {
				t.Fatalf("%d gaps: time %d is missing: %q, and that is told: %v", n, at, why, told[at])
			}
		}
	})
}

// TestOutside asks for times of which a ring has nothing, such as one that was given in seconds: the answer says what was asked for and what there is.
func TestOutside(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(72, 3)
	begin := time.Date(2026, 11, 27, 12, 20, 11, 375_492_000, time.UTC).UnixNano()
	for i := range frames {
		frames[i].Time = begin + int64(i)*1_000_000_000
	}
	const seconds = "the ring has no packet of the interval from 1970-01-01 00:25:17.306266 UTC to 1970-01-01 00:25:17.309267 UTC: "
	ask := func(from, to int64, want string) {
		t.Helper()
		if _, scan := collect(t, r, Query{From: from, To: to}); scan.Empty != want {
			t.Errorf("it says %q, want %q", scan.Empty, want)
		}
	}
	ask(1517306266000, 1517309267000, seconds+"it is empty")
	play(t, s, &traffic{frames: frames})
	ask(1517306266000, 1517309267000, seconds+"what it has is from 2026-11-27 12:20:11.375492 UTC to 2026-11-27 12:20:13.375492 UTC")
	ask(begin+5_000_000_000, begin+6_000_000_000, "the ring has no packet of the interval from 2026-11-27 12:20:16.375492 UTC to 2026-11-27 12:20:17.375492 UTC: what it has is from 2026-11-27 12:20:11.375492 UTC to 2026-11-27 12:20:13.375492 UTC")
	s.Finish()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
