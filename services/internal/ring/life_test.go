package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/rule"
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

func table() []pipeline.Interface { return ethernet }

// waitIdle waits until nothing is on its way to the disk.
func waitIdle(t testing.TB, r *Ring) {
	t.Helper()
	for start := time.Now(); ; {
		r.handing.Lock()
		n := len(r.waiting)
		r.handing.Unlock()
		if n == 0 {
			return
		}
		if time.Since(start) > longWait {
			t.Fatalf("%d blocks still wait", n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

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

// TestIdleLink records a packet a second for an hour: less than 60 MiB of the ring are used, and less is written.
func TestIdleLink(t *testing.T) {
	set := newSetting(t, 1, 256<<20)
	var clock atomic.Int64
	set.cfg.Now, set.cfg.SegmentBytes = clock.Load, 64<<20
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frame := mix(1, 1)[0]
	b := pipeline.Batch{Packets: make([]packet.Packet, 1), Meta: make([]pipeline.Meta, 1)}
	before := set.disks["a"].bytes()
	for i := range int64(3600) {
		for tick := range int64(10) { // batches without packets come as on a live port
			b.Now = epoch + i*1e9 + tick*1e8
			clock.Store(b.Now)
			b.Packets = b.Packets[:0]
			if tick == 0 {
				b.Packets = b.Packets[:1]
				b.Packets[0].Frame = frame
				b.Packets[0].Time = b.Now
				b.Packets[0].Decode(packet.LinkEthernet)
			}
			s.Process(&b)
			r.waitTails()
		}
	}
	s.Finish()
	waitIdle(t, r)
	used, written := r.State().Used, set.disks["a"].bytes()-before
	t.Logf("an hour of 1 packet/s uses %.1f MiB of the ring and writes %.1f MiB", float64(used)/(1<<20), float64(written)/(1<<20))
	if used > 60<<20 {
		t.Errorf("%d bytes of the ring", used)
	}
	have, _ := collect(t, r, everything)
	if len(have) != 3600 {
		t.Errorf("%d packets", len(have))
	}
	closeRing(t, r)
}

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

// TestFaults has devices refuse: the ring says so, and loses nothing that it need not.
func TestFaults(t *testing.T) {
	frames := mix(8, 20_000)
	record := func(t *testing.T, r *Ring, frames []packet.Frame) {
		t.Helper()
		s := r.Stage(0, table)
		play(t, s, &traffic{frames: frames})
		s.Finish()
		waitIdle(t, r)
	}
	problems := func(t *testing.T, r *Ring, want string) {
		t.Helper()
		if s := r.State(); !strings.Contains(strings.Join(s.Problems, "\n"), want) {
			t.Errorf("problems %q, want %q", s.Problems, want)
		}
	}
	t.Run("full", func(t *testing.T) {
		set := newSetting(t, 2, 16<<20).create(t)
		set.cfg.DeviceNames = []string{"the left disk", "the right disk"}
		r := set.open(t)
		set.disks["b"].fail = func(name string, write bool, _ int64) error {
			if write {
				return syscall.ENOSPC
			}
			return nil
		}
		record(t, r, frames)
		have, _ := collect(t, r, everything)
		sameFrames(t, frames, have)
		problems(t, r, "the right disk takes no more blocks")
		if r.Close() == nil {
			t.Error("closing says nothing about the device")
		}
	})
	t.Run("all full", func(t *testing.T) {
		set := newSetting(t, 1, 32<<20).create(t)
		r := set.open(t)
		set.disks["a"].fail = func(name string, write bool, off int64) error {
			if write && off >= 2<<20 {
				return syscall.EIO
			}
			return nil
		}
		record(t, r, frames)
		have, _ := collect(t, r, everything)
		s := r.State()
		if len(have) == 0 || uint64(len(have))+s.Dropped["disk"] != uint64(len(frames)) {
			t.Errorf("%d packets and %v dropped of %d", len(have), s.Dropped, len(frames))
		}
		r.Close()
	})
	t.Run("read-only", func(t *testing.T) {
		set := newSetting(t, 2, 16<<20).create(t)
		r := set.open(t)
		record(t, r, frames)
		closeRing(t, r)
		set.disks["a"].fail = func(name string, write bool, _ int64) error {
			if write {
				return syscall.EROFS
			}
			return nil
		}
		r = set.open(t)
		problems(t, r, "read-only file system")
		more := stamp(frames[:5000], 1000, time.Microsecond)
		record(t, r, more)
		have, _ := collect(t, r, everything)
		sameFrames(t, append(slices.Clone(frames), more...), have)
		r.Close()
	})
	t.Run("no device left", func(t *testing.T) {
		set := newSetting(t, 1, 32<<20).create(t)
		r := set.open(t)
		record(t, r, frames)
		set.disks["a"].mu.Lock()
		set.disks["a"].fail = func(_ string, write bool, _ int64) error {
			if write {
				return syscall.EIO
			}
			return nil
		}
		set.disks["a"].mu.Unlock()
		record(t, r, stamp(frames[:5000], 1000, time.Microsecond))
		have, scan := collect(t, r, everything)
		if n := len(scan.Gaps); n == 0 || scan.Gaps[n-1].Why != whyStopped || scan.Gaps[n-1].From != have[len(have)-1].Time+1 || r.State().Dropped["disk"] == 0 {
			t.Errorf("%d packets, gaps %v, dropped %v", len(have), scan.Gaps, r.State().Dropped)
		}
		r.Close()
	})
	t.Run("missing", func(t *testing.T) {
		for _, copies := range []int{0, 1} {
			set := newSetting(t, 2, 32<<20)
			set.cfg.Replicas = copies
			set.create(t)
			r := set.open(t)
			record(t, r, frames)
			closeRing(t, r)
			gone := set.disks["a"]
			set.disks["a"] = newDisk(9)
			r = set.open(t)
			problems(t, r, "device 0 (a) is missing")
			have, _ := collect(t, r, everything)
			if copies == 1 {
				sameFrames(t, frames, have)
			} else if len(have) == 0 || len(have) == len(frames) {
				t.Errorf("%d of %d packets on one of two devices", len(have), len(frames))
			}
			opened := time.Now().UnixNano()
			if _, scan := collect(t, r, Query{From: opened, To: math.MaxInt64}); len(scan.Gaps) != 0 {
				t.Errorf("of what was recorded without the missing device: gaps %v", scan.Gaps)
			}
			missed := func(g Gap) bool { return g.Why == whyMissing && g.To <= opened }
			if _, scan := collect(t, r, Query{From: epoch, To: math.MaxInt64}); slices.ContainsFunc(scan.Gaps, missed) != (copies == 0) {
				t.Errorf("%d copies: gaps %v", copies, scan.Gaps)
			}
			more := stamp(frames[:5000], 1000, time.Microsecond)
			record(t, r, more)
			r.Close()
			set.disks["a"] = gone
			r = set.open(t)
			have, _ = collect(t, r, everything)
			sameFrames(t, append(slices.Clone(frames), more...), have)
			closeRing(t, r)
		}
		set := newSetting(t, 1, 16<<20)
		if _, err := Open(set.cfg); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("opening nothing: %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		for _, copies := range []int{0, 1} {
			set := newSetting(t, 2, 32<<20)
			set.cfg.Replicas = copies
			set.create(t)
			r := set.open(t)
			record(t, r, frames)
			set.disks["a"].files[files.SegmentName(0)].b[block.Size+5000] ^= 1
			have, scan := collect(t, r, everything)
			if copies == 1 {
				sameFrames(t, frames, have)
				closeRing(t, r)
				continue
			}
			problems(t, r, "its checksum is wrong")
			if len(scan.Gaps) != 1 || scan.Gaps[0].Why != "damaged" || len(have) < len(frames)*2/3 {
				t.Errorf("%d of %d packets, gaps %v", len(have), len(frames), scan.Gaps)
			}
			closeRing(t, r)
		}
	})
	t.Run("state", func(t *testing.T) {
		set := newSetting(t, 1, 16<<20).create(t)
		r := set.open(t)
		record(t, r, frames)
		closeRing(t, r)
		clear(set.disks["a"].files[files.StateName].b[2*files.PageSize:])
		r = set.open(t)
		have, _ := collect(t, r, everything)
		sameFrames(t, frames, have)
		closeRing(t, r)
	})
}

// TestRules records with rules: the first one that matches counts, and what none matches is whole.
func TestRules(t *testing.T) {
	must := func(text string) *filter.Filter {
		f, err := filter.Compile(text, testEnv(0))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	rules := []rule.Rule{
		{Filter: must("port == 53"), Action: rule.Keep},
		{Filter: must("l4Protocol == UDP"), Action: rule.Discard},
		{Filter: must("macProtocol == IPv4,IPv6"), Negate: true, Action: rule.SnapLink},
		{Filter: must("port == 443"), Action: rule.SnapHeaders},
		{Filter: must("port == 80"), Action: rule.Snap, Bytes: 60},
		{Filter: must("l4Protocol == ICMP"), Action: rule.SnapNetwork},
	}
	set := newSetting(t, 1, 32<<20)
	set.cfg.Rules = rules
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(11, 20_000)
	w := &witness{}
	both := []pipeline.Stage{s, w}
	worker(t, both, &traffic{frames: frames})
	s.Finish()
	have, _ := collect(t, r, everything)
	k, kinds := 0, make(map[string]int)
	for i := range w.seen {
		p := &w.seen[i].Packet
		udp := p.Layers&packet.HasProto != 0 && p.Proto == 17
		dns := p.Ports() && p.Layers&(packet.TCP|packet.UDP) != 0 && (p.SrcPort == 53 || p.DstPort == 53)
		want, kind := len(p.Data), "whole"
		switch {
		case dns:
		case udp:
			kinds["discarded"]++
			continue
		case p.Layers&(packet.IPv4|packet.IPv6|packet.PartIPv4|packet.PartIPv6) == 0:
			want, kind = int(p.L2End), "link"
		case p.Ports() && (p.SrcPort == 443 || p.DstPort == 443):
			want, kind = int(p.Payload), "headers"
		case p.Ports() && (p.SrcPort == 80 || p.DstPort == 80):
			want, kind = min(60, len(p.Data)), "bytes"
		case p.Layers&packet.HasProto != 0 && p.Proto == 1:
			want, kind = int(p.L4), "network"
		}
		kinds[kind]++
		if k == len(have) || have[k].Time != p.Time || len(have[k].Data) != want || have[k].Len != p.Len || string(have[k].Data) != string(p.Data[:want]) {
			t.Fatalf("packet %d: %d bytes of %d, want %d (%s)", i, len(have[k].Data), have[k].Len, want, kind)
		}
		k++
	}
	t.Log(kinds)
	if k != len(have) || len(kinds) != 6 || r.State().Discarded != uint64(kinds["discarded"]) {
		t.Errorf("%d packets, want %d; %v; state %+v", len(have), k, kinds, r.State())
	}
	closeRing(t, r)
	for _, bad := range [][]rule.Rule{{{}}, {{Filter: must("port == 1"), Action: rule.Snap}}, {{Filter: must("port == 1"), Action: rule.Discard + 1}}, make([]rule.Rule, 65)} {
		set.cfg.Rules = bad
		if _, err := Open(set.cfg); err == nil {
			t.Errorf("rules %v are no error", bad)
		}
	}
}

// TestProtect keeps an interval while the rest is overwritten again and again.
func TestProtect(t *testing.T) {
	set := newSetting(t, 2, 32<<20)
	var clock atomic.Int64
	clock.Store(epoch)
	set.cfg.Now = clock.Load
	set.create(t)
	r := set.open(t)
	base := mix(12, 10_000)
	s := r.Stage(0, table)
	first := stamp(base, 0, time.Microsecond)
	play(t, s, &traffic{frames: first})
	play(t, s, &traffic{frames: stamp(base, 1, time.Microsecond)})
	waitIdle(t, r)
	from, to := first[0].Time, first[len(first)/2].Time
	if _, err := r.Protect(from-1000, from-500, epoch*2); err == nil {
		t.Error("an interval without packets can be protected")
	}
	pins, err := r.Protect(from, to, epoch+int64(time.Hour))
	if err != nil || len(pins) != 1 || pins[0].Bytes == 0 {
		t.Fatalf("%v %v", pins, err)
	}
	for round := 2; round < 30; round++ {
		play(t, s, &traffic{frames: stamp(base, round, time.Microsecond)})
		waitIdle(t, r)
		if round == 15 {
			s.Finish()
			closeRing(t, r)
			r = set.open(t)
			s = r.Stage(0, table)
		}
	}
	have, _ := collect(t, r, Query{From: from, To: to})
	sameFrames(t, first[:len(first)/2], have)
	if len(r.State().Pins) != 1 {
		t.Errorf("pins %v", r.State().Pins)
	}
	if _, err := r.Protect(math.MinInt64, math.MaxInt64, epoch+int64(time.Hour)); err == nil || !strings.Contains(err.Error(), "left to record") {
		t.Errorf("protecting everything: %v", err)
	}
	clock.Store(epoch + int64(2*time.Hour))
	for round := 30; round < 50; round++ {
		play(t, s, &traffic{frames: stamp(base, round, time.Microsecond)})
		waitIdle(t, r)
	}
	if have, _ := collect(t, r, Query{From: from, To: to}); len(have) != 0 || len(r.State().Pins) != 0 {
		t.Errorf("%d packets after the protection", len(have))
	}
	s.Finish()
	closeRing(t, r)
}

// TestProtectOldest keeps the oldest packets, which lie where the next ones were to go: in segments that are overwritten already.
func TestProtectOldest(t *testing.T) {
	set := newSetting(t, 2, 32<<20)
	set.cfg.Now = func() int64 { return epoch }
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	base := mix(12, 10_000)
	round := 0
	record := func(rounds int) {
		for range rounds {
			play(t, s, &traffic{frames: stamp(base, round, time.Microsecond)})
			waitIdle(t, r)
			round++
		}
	}
	next := func() (b index.Slot) { // what the next block is to overwrite
		r.mu.Lock()
		defer r.mu.Unlock()
		if s := r.devices[r.turn].current; s.used < len(s.slots) {
			b = s.slots[s.used]
		}
		return b
	}
	for record(12); next().Seq == 0; record(1) {
	}
	from, to := next().First, next().Last+1
	want, _ := collect(t, r, Query{From: from, To: to})
	if pins, err := r.Protect(from, to, epoch+int64(time.Hour)); err != nil || len(pins) != 1 {
		t.Fatalf("%v %v", pins, err)
	}
	for again := range 2 {
		record(30)
		have, _ := collect(t, r, Query{From: from, To: to})
		if len(want) == 0 || len(have) != len(want) {
			t.Fatalf("time %d: %d of %d packets were kept", again+1, len(have), len(want))
		}
		s.Finish()
		closeRing(t, r)
		r = set.open(t)
		s = r.Stage(0, table)
	}
	s.Finish()
	closeRing(t, r)
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

// TestStageAllocatesNothing counts what a batch allocates, with blocks that fill and are written.
func TestStageAllocatesNothing(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	set.cfg.Rules = []rule.Rule{{Filter: mustFilter(t, "port == 443"), Action: rule.SnapHeaders}}
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(16, 256*40)
	w := &keeper{}
	worker(t, []pipeline.Stage{w}, &traffic{frames: frames})
	i := 0
	// The writers allocate a little for each block; a batch that ends no block allocates nothing.
	if n := testing.AllocsPerRun(30, func() {
		s.Process(&w.batches[i%len(w.batches)])
		i++
	}); n > 0.5 {
		t.Errorf("%.2f allocations per batch", n)
	}
	s.Finish()
	closeRing(t, r)
}

func mustFilter(t testing.TB, text string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(text, testEnv(0))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestEstimate compares a dry run with the query: it reads the same blocks, is right where it says so, and else mostly off by less than it says.
func TestEstimate(t *testing.T) {
	set := newSetting(t, 2, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(17, 60_000)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	near, exact, all := 0, 0, 0
	for _, text := range []string{"", "port == 443", "l7Protocol == DNS", "ip == 10.9.9.9 and port == 7", "ip == 10.0.3.7", "ip == 203.0.113.9", "vlan == 77", "len > 1000", "tcpFlags == syn"} {
		for _, cut := range [][2]int{{0, len(frames) - 1}, {5000, 52_000}, {20_000, 20_400}} {
			q := Query{From: frames[cut[0]].Time, To: frames[cut[1]].Time, Filter: mustFilter(t, text), Hold: true}
			e, err := r.Estimate(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			have, scan := collect(t, r, q)
			n := float64(len(have))
			if math.Abs(float64(e.Packets)-n) > 0.3*n+20 || e.Blocks != scan.Read || e.From != scan.From || e.To != scan.To {
				t.Errorf("%q, %v: %+v, and the query brings %d packets of %d blocks, from %d to %d", text, cut, e, len(have), scan.Read, scan.From, scan.To)
			}
			if (e.Empty == "") != (e.Packets > 0) || e.Exact && e.Empty != scan.Empty {
				t.Errorf("%q, %v: %d packets, because %q, and the query says %q", text, cut, e.Packets, e.Empty, scan.Empty)
			}
			if all++; e.Exact {
				exact++
			}
			switch off := math.Abs(float64(e.Packets) - n); {
			case e.Exact && (off > 0 || e.Error > 0):
				t.Errorf("%q, %v: %+v, and the query brings %d packets", text, cut, e, len(have))
			case off <= float64(e.Error):
				near++
			}
		}
	}
	if near < all*8/10 || exact == 0 {
		t.Errorf("%d of %d estimates are as near as they say, %d are exact", near, all, exact)
	}
	for text, exact := range map[string]bool{`ip == 10.9.9.9 and port == 7`: true, `callIdMedia == "a" and port == 7`: false, `streamRegexp == "a" and port == 7`: false} {
		e, err := r.Estimate(context.Background(), Query{From: epoch, To: epoch + 1, Filter: mustFilter(t, text), Hold: true})
		if err != nil || e.Exact != exact {
			t.Errorf("%q: %+v, %v", text, e, err)
		}
	}
	if e, err := r.Estimate(context.Background(), Query{From: 1000, To: 2000}); err != nil || !strings.HasPrefix(e.Empty, "the ring has no packet of the interval from 1970-01-01 00:00:00.000001 UTC to ") {
		t.Errorf("nothing of the interval: %+v, %v", e, err)
	}
	if e, err := r.Estimate(context.Background(), Query{From: epoch, To: math.MaxInt64, Filter: mustFilter(t, `callId == "a" and ip == 203.0.113.9`)}); err != nil || e.Blocks < 8 {
		t.Errorf("what is replayed as a whole: %+v, %v", e, err)
	}
	closeRing(t, r)
}

// An order in which a few blocks stand for all begins with some that are far apart.
func TestSpread(t *testing.T) {
	for n := range 40 {
		got := slices.Collect(spread(n))
		for i, k := range got[:min(8, n)] {
			if slices.ContainsFunc(got[:i], func(j int) bool { return (j-k)*(j-k) < (n/16)*(n/16) }) {
				t.Errorf("%d: %v", n, got)
			}
		}
		if slices.Sort(got); len(got) != n || n > 0 && (got[0] != 0 || got[n-1] != n-1 || len(slices.Compact(got)) != n) {
			t.Errorf("%d: %v", n, got)
		}
	}
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

func TestClosedWhileRead(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(71, 10_000)
	play(t, s, &traffic{frames: frames})
	ctx := context.Background()
	var open []*Results
	for _, live := range []bool{false, true} {
		res, err := r.Query(ctx, Query{From: epoch, To: math.MaxInt64, Live: live})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	batches := make([]pipeline.Batch, len(open))
	for i, res := range open {
		for len(batches[i].Packets) == 0 { // a live one says after 50 ms that there is nothing yet
			if err := res.Next(ctx, &batches[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeRing(t, r)
	for i, res := range open {
		for k := range batches[i].Packets {
			if string(batches[i].Packets[k].Data) != string(frames[k].Data) {
				t.Fatalf("packet %d has changed", k)
			}
		}
		if err := res.Next(ctx, &batches[i]); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
		res.Close()
		res.Close()
	}
	if _, err := r.Query(ctx, everything); err == nil {
		t.Error("a closed ring can be queried")
	}
}

// Who is in the middle of a ring that is closed takes nothing that cannot be read any more for damaged, and who asks it something hears that it is closed.
func TestClosedUnderWork(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: mix(72, 20_000)})
	s.Finish()
	waitIdle(t, r)
	res, err := r.newResults(context.Background(), everything)
	if err != nil {
		t.Fatal(err)
	}
	tasks, _, _ := newFollower(res).round()
	closeRing(t, r)
	set.disks["a"].fail = func(string, bool, int64) error { return os.ErrClosed }
	for _, task := range tasks {
		res.tokens <- struct{}{}
		if v := res.look(task); v != nil {
			t.Error("a block of a closed ring is read")
		}
	}
	r.mu.Lock()
	for _, s := range r.devices[0].segments {
		s.slots = nil
		_ = r.load(s)
	}
	r.mu.Unlock()
	if scan := res.Scan(); len(tasks) == 0 || len(scan.Gaps) != 0 || len(r.State().Problems) != 0 {
		t.Errorf("of %d blocks: gaps %v, problems %q", len(tasks), scan.Gaps, r.State().Problems)
	}
	res.release()
	if _, err := r.Protect(epoch, math.MaxInt64, math.MaxInt64); !errors.Is(err, ErrClosed) {
		t.Errorf("a time is protected: %v", err)
	}
}

// An estimate of a ring that is closed meanwhile is none.
func TestClosedWhileEstimated(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	var read atomic.Pointer[func()] // is called once
	set.cfg.Store = func(dir string) files.Store {
		return watched{set.disks[dir], func(int, int64) {
			if f := read.Swap(nil); f != nil {
				(*f)()
			}
		}}
	}
	r := set.open(t)
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: mix(73, 20_000)})
	s.Finish()
	waitIdle(t, r)
	closing := func() { closeRing(t, r) }
	read.Store(&closing)
	if e, err := r.Estimate(context.Background(), everything); !errors.Is(err, ErrClosed) {
		t.Errorf("%+v, %v", e, err)
	}
}

// What was written is no longer on its way, and is known to be on the disk for good soon after.
func TestSynced(t *testing.T) {
	set := newSetting(t, 2, 16<<20).create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	play(t, s, &traffic{frames: mix(1, 20_000)})
	s.Finish()
	waitIdle(t, r)
	r.sync()
	r.handing.Lock()
	defer r.handing.Unlock()
	if len(r.flights) != 0 || r.synced.Load() != r.total.Load() || r.total.Load() == 0 {
		t.Errorf("%d blocks are on their way, %d of %d bytes are on the disk", len(r.flights), r.synced.Load(), r.total.Load())
	}
}

// A stage does not wait for who reads, or makes permanent, what the ring is.
func TestStageDoesNotWait(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	set.cfg.QueueBytes = 32 << 20
	r := set.create(t).open(t)
	defer closeRing(t, r)
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	r.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(t, s, &traffic{frames: mix(1, 10_000)})
		s.Finish()
	}()
	select {
	case <-done:
	case <-time.After(longWait):
		t.Error("it waits")
	}
	r.mu.Unlock()
	<-done
	waitIdle(t, r)
}
