package ring

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// A lap is a ring on disks in memory that is recorded to round by round.
type lap struct {
	set    *setting
	ring   *Ring
	stage  Stage
	base   []packet.Frame
	rounds int
	clock  atomic.Int64
}

func newLap(t *testing.T, devices int) *lap {
	set := newSetting(t, devices, 32<<20)
	l := &lap{set: set, base: mix(12, 10_000)}
	l.clock.Store(epoch)
	set.cfg.Now = l.clock.Load
	set.create(t)
	l.open(t)
	return l
}

func (l *lap) open(t *testing.T) {
	t.Helper()
	l.ring = l.set.open(t)
	l.stage = l.ring.Stage(0, table)
}

func (l *lap) close(t *testing.T) {
	t.Helper()
	l.stage.Finish()
	closeRing(t, l.ring)
}

func (l *lap) record(t *testing.T, rounds int) {
	t.Helper()
	for range rounds {
		l.play(t, stamp(l.base, l.rounds, time.Microsecond))
	}
}

func (l *lap) play(t *testing.T, frames []packet.Frame) {
	t.Helper()
	l.clock.Store(frames[len(frames)-1].Time)
	play(t, l.stage, &traffic{frames: frames})
	waitIdle(t, l.ring)
	l.rounds++
}

// next is the block that will be overwritten next.
func (l *lap) next() (b index.Slot) {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	if s := l.ring.devices[l.ring.turn].current; s != nil && s.used < len(s.slots) {
		b = s.slots[s.used]
	}
	return b
}

// copy returns what is in the files of a disk now, as a kill leaves it. d.mu is held.
func (d *testDisk) copy() map[string]*diskFile {
	c := maps.Clone(d.files)
	for name, f := range c {
		c[name] = &diskFile{disk: d, name: name, b: slices.Clone(f.b)}
	}
	return c
}

// TestKilledAfterPin kills who records when the protection of the segment in use is on the disk, and the segment has no index yet: the next one overwrites nothing of it.
func TestKilledAfterPin(t *testing.T) {
	l := newLap(t, 1)
	for l.record(t, 12); l.next().Seq == 0; l.record(t, 1) {
	}
	from, to := l.next().First, l.next().Last+1
	want, _ := collect(t, l.ring, Query{From: from, To: to})
	d := l.set.disks["a"]
	var left map[string]*diskFile
	d.fail = func(name string, write bool, off int64) error {
		if write && strings.HasSuffix(name, ".pcapng") && off >= int64(index.DataBlocks(index.MinSegment))*block.Size && left == nil {
			left = d.copy()
		}
		return nil
	}
	if _, err := l.ring.Protect(from, to, epoch+int64(time.Hour)); err != nil {
		t.Fatal(err)
	}
	l.ring.Close() //nolint:errcheck // what it writes is not kept
	if d.fail = nil; left == nil {
		t.Fatal("no index was written")
	}
	d.files = left
	for again := range 2 {
		l.open(t)
		l.record(t, 30)
		if have, _ := collect(t, l.ring, Query{From: from, To: to}); len(want) == 0 || len(have) != len(want) {
			t.Fatalf("time %d: %d of %d packets were kept", again+1, len(have), len(want))
		}
		l.close(t)
	}
}

// TestOverwrittenBehindPin loses the newest description of a ring in which what is older than the packets that were overwritten is there, since it was protected: they are in a gap
// for all that, and still are when the ring was opened once more.
func TestOverwrittenBehindPin(t *testing.T) {
	l := newLap(t, 1)
	var times []int64
	record := func(until func(next index.Slot) bool) {
		for done := false; !done; done = until(l.next()) {
			frames := stamp(l.base[:1000], l.rounds, time.Millisecond)
			for i := range frames {
				f := &frames[i]
				f.Data = append(f.Data[:len(f.Data):len(f.Data)], make([]byte, max(0, 1400-len(f.Data)))...) // so that a block has few
				f.Len = uint32(len(f.Data))
				times = append(times, f.Time)
			}
			l.play(t, frames)
		}
	}
	record(func(index.Slot) bool { return l.rounds == 30 })
	first := times[len(times)-8000]
	if _, err := l.ring.Protect(epoch-1, first, epoch+int64(time.Hour)); err != nil {
		t.Fatal(err)
	}
	record(func(next index.Slot) bool { return l.rounds > 200 && next.Seq == 0 })
	if _, err := l.ring.Protect(epoch-1, l.clock.Load()+1, 1); err != nil {
		t.Fatal(err)
	}
	record(func(next index.Slot) bool { return next.Seq != 0 && next.First < first })
	l.close(t)
	pages := l.set.disks["a"].files[files.StateName].b[:2*files.PageSize]
	older, newer := pages[:files.PageSize], pages[files.PageSize:]
	if le.Uint64(older[8:]) > le.Uint64(newer[8:]) {
		older, newer = newer, older
	}
	newer[100] ^= 1
	all := Query{From: epoch, To: l.clock.Load() + 1}
	for again := range 2 {
		l.open(t)
		have, scan := collect(t, l.ring, all)
		if len(have) == 0 || have[0].Time > first {
			t.Fatalf("opened %d times: %d packets, and none of the protected ones", again+1, len(have))
		}
		there := make(map[int64]bool)
		for i := range have {
			there[have[i].Time] = true
		}
		untold := 0
		for _, at := range times {
			if !there[at] && !slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.From <= at && at <= g.To }) {
				untold++
			}
		}
		if untold > 0 {
			t.Errorf("opened %d times: %d packets are missing, and in no gap: %v", again+1, untold, short(scan.Gaps))
		}
		l.close(t)
	}
}

// TestPinThatCannotBeKept: a protection that is not on the disk is none.
func TestPinThatCannotBeKept(t *testing.T) {
	l := newLap(t, 1)
	l.record(t, 5)
	d := l.set.disks["a"]
	d.mu.Lock()
	d.fail = func(name string, write bool, _ int64) error {
		if write && name == files.StateName {
			return syscall.EIO
		}
		return nil
	}
	d.mu.Unlock()
	for range 2 { // the device fails, and then it has failed
		if pins, err := l.ring.Protect(epoch, epoch+1e6, epoch+int64(time.Hour)); err == nil {
			t.Errorf("it is protected: %v", pins)
		}
		if pins := l.ring.State().Pins; len(pins) != 0 {
			t.Errorf("it is shown as protected: %v", pins)
		}
	}
	l.stage.Finish()
	l.ring.Close() //nolint:errcheck // it says what is wrong with the device
}

// TestTwoPins protects two times until the same hour: what is between them is overwritten, and in a gap; of either end of them nothing is said to be missing that never was.
func TestTwoPins(t *testing.T) {
	for _, devices := range []int{1, 2} {
		l := newLap(t, devices)
		l.record(t, 6*devices) // all of it is there
		at := func(round int) int64 { return epoch + int64(round*devices)*10_000_000 }
		spans := [][2]int64{{at(0), at(0) + 10_000_000}, {at(4) + 5_000_000, at(4) + 10_000_000}}
		for _, span := range spans {
			if pins, err := l.ring.Protect(span[0], span[1], epoch+int64(time.Hour)); err != nil {
				t.Fatal(pins, err)
			}
		}
		for _, how := range []string{"recorded", "opened again"} {
			l.record(t, 20*devices)
			for _, span := range spans {
				have, scan := collect(t, l.ring, Query{From: span[0], To: span[1]})
				if n := int(span[1]-span[0]) / 1000; len(have) != n || len(scan.Gaps) != 0 {
					t.Errorf("%d devices, %s: %d of %d packets that are protected, gaps %v", devices, how, len(have), n, short(scan.Gaps))
				}
			}
			have, scan := collect(t, l.ring, Query{From: spans[0][1], To: spans[1][0]})
			if n := int(spans[1][0]-spans[0][1]) / 1000; len(have) == n || len(scan.Gaps) != 1 || scan.Gaps[0] != (Gap{spans[0][1], spans[1][0] - 1, whyOverwritten}) {
				t.Errorf("%d devices, %s: %d of %d packets between what is protected, gaps %v", devices, how, len(have), n, short(scan.Gaps))
			}
			s := l.ring.State()
			want := []Pin{{spans[0][0], spans[0][1] - 1, epoch + int64(time.Hour), 0}, {spans[1][0], spans[1][1] - 1, epoch + int64(time.Hour), 0}}
			for i := range s.Pins {
				if i < len(want) {
					want[i].Bytes = s.Pins[i].Bytes
				}
			}
			if !slices.Equal(s.Pins, want) || s.Oldest != epoch {
				t.Errorf("%d devices, %s: protected is %v, the oldest packet of %d", devices, how, s.Pins, s.Oldest)
			}
			l.close(t)
			l.open(t)
		}
		pins, err := l.ring.Protect(spans[0][0], spans[0][1], 1)
		if err != nil || len(pins) != 1 || pins[0].From != spans[1][0] {
			t.Errorf("after the end of the first one: %v, %v", pins, err)
		}
		l.record(t, 20*devices)
		if have, scan := collect(t, l.ring, Query{From: spans[0][0], To: spans[0][1]}); len(have) != 0 || len(scan.Gaps) != 1 {
			t.Errorf("%d packets that are not protected any more, gaps %v", len(have), short(scan.Gaps))
		}
		l.close(t)
	}
}

// TestQueryFromMicrosecond asks as others do, from the microsecond of the oldest packet on: of a ring that has wrapped nothing of that is missing, nor of what was protected.
func TestQueryFromMicrosecond(t *testing.T) {
	l := newLap(t, 2)
	for i := range l.base {
		l.base[i].Iface = 0
	}
	record := func(n int) {
		for range n {
			frames := stamp(l.base, l.rounds, time.Microsecond)
			for i := range frames {
				frames[i].Time += int64(300 + i%500)
			}
			l.play(t, frames)
		}
	}
	record(12)
	oldest := l.ring.State().Oldest / 1000 * 1000
	end := oldest + 8_000_000
	gaps := func(how string) {
		t.Helper()
		from := l.ring.State().Oldest / 1000 * 1000
		if _, scan := collect(t, l.ring, Query{From: from, To: end}); len(scan.Gaps) != 0 {
			t.Errorf("%s: from %d gaps %v, pins %v", how, from, short(scan.Gaps), l.ring.State().Pins)
		}
	}
	gaps("wrapped")
	if _, err := l.ring.Protect(oldest, end, epoch+int64(time.Hour)); err != nil {
		t.Fatal(err)
	}
	record(24)
	gaps("protected")
	have, _ := collect(t, l.ring, Query{From: oldest, To: end})
	if len(have) != 8000 {
		t.Errorf("%d packets are protected", len(have))
	}
	l.close(t)
	l.open(t)
	gaps("opened again")
	l.close(t)
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
