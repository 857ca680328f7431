package ring

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/files"
)

// A story is a ring to which things happen, and what of it must hold whatever happens: each packet that was recorded comes, once and as it was, or lies in a gap; of what was
// protected nothing is lost, and no gap is told that was none when it was; from the oldest packet on, as others see it, nothing was overwritten.
type story struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	set    *setting
	clock  atomic.Int64
	ring   *Ring
	stages []Stage
	play   []*player
	base   []packet.Frame
	frames []packet.Frame // all that were recorded, numbered, and in the order of time
	pins   []promise
	did    []string
}

// A promise is a time that was protected, and what a query brought of it then.
type promise struct {
	from, to int64
	ids      []uint64
	gaps     []Gap
}

func newStory(t *testing.T, seed uint64) *story {
	s := bareStory(t, seed)
	devices := 1 + s.rng.IntN(2)
	s.set = newSetting(t, devices, int64(20+4*s.rng.IntN(3))<<20)
	s.set.cfg.Workers, s.set.cfg.Replicas = 1+s.rng.IntN(2), s.rng.IntN(devices)
	s.begin()
	return s
}

// bareStory returns a story without a ring.
func bareStory(t *testing.T, seed uint64) *story {
	s := &story{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3))}
	for _, f := range mix(seed, 300) {
		f.Data = append(slices.Clone(f.Data), make([]byte, max(0, 1400-len(f.Data)))...) // so that a block has few
		f.Len = uint32(len(f.Data))
		s.base = append(s.base, f)
	}
	return s
}

// begin makes the ring.
func (s *story) begin() {
	s.set.cfg.Now = s.clock.Load
	s.clock.Store(epoch)
	s.set.create(s.t)
	s.open()
}

func (s *story) open() {
	s.ring = s.set.open(s.t)
	s.stages, s.play = nil, nil
	for w := range s.set.cfg.Workers {
		s.stages = append(s.stages, s.ring.Stage(w, table))
		s.play = append(s.play, newPlayer(s.stages[w]))
	}
}

func (s *story) close() {
	for _, st := range s.stages {
		st.Finish()
	}
	closeRing(s.t, s.ring)
}

// record has the workers record some frames, often several in a microsecond, and at times after a while without any.
func (s *story) record() {
	if s.rng.IntN(4) == 0 {
		s.clock.Add(s.rng.Int64N(int64(3 * time.Minute)))
	}
	step := []int64{300, 5_000, 700_000}[s.rng.IntN(3)]
	for range 1 + s.rng.IntN(6) {
		n := 100 + s.rng.IntN(900)
		frames := make([]packet.Frame, n)
		for i := range frames {
			f := s.base[s.rng.IntN(len(s.base))]
			f.Data = slices.Clone(f.Data)
			le.PutUint64(f.Data, uint64(len(s.frames)+i))
			f.Time = s.clock.Add(1 + s.rng.Int64N(step))
			frames[i] = f
		}
		s.frames = append(s.frames, frames...)
		s.play[s.rng.IntN(len(s.play))].play(s.t, frames)
		waitIdle(s.t, s.ring)
	}
	s.clock.Add(int64(lag) + 1)   // so that a worker that had nothing is not behind
	for _, st := range s.stages { // the clock goes on for those that have none
		st.Process(&pipeline.Batch{Now: s.clock.Load()})
	}
}

// times returns an interval of whole microseconds, as others ask for, around packets that were recorded.
func (s *story) times() (from, to int64) {
	at := func() int64 {
		i := s.rng.IntN(len(s.frames))
		if s.rng.IntN(2) == 0 { // one of the later ones
			i = len(s.frames) - 1 - s.rng.IntN(min(len(s.frames), 12_000))
		}
		return s.frames[i].Time / 1000 * 1000
	}
	from, to = at(), at()
	if oldest := s.ring.State().Oldest / 1000 * 1000; s.rng.IntN(4) == 0 && oldest < to {
		from = oldest
	}
	if from > to {
		from, to = to, from
	}
	return from, to + 1000
}

// ask asks for an interval, and holds what comes against what was recorded.
func (s *story) ask(from, to int64) (ids []uint64, gaps []Gap) {
	s.t.Helper()
	have, scan := collect(s.t, s.ring, Query{From: from, To: to})
	last := int64(math.MinInt64)
	there := make(map[uint64]bool)
	for i := range have {
		id := frameID(have[i].Data)
		if id >= uint64(len(s.frames)) || there[id] || have[i].Time < last || have[i].Time < from || have[i].Time >= to || have[i].Time != s.frames[id].Time || !bytes.Equal(have[i].Data, s.frames[id].Data) {
			s.fail("from %d to %d: packet %d of %d comes twice, out of order, or was never recorded so", from-epoch, to-epoch, id, have[i].Time-epoch)
		}
		there[id], last = true, have[i].Time
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, g := range scan.Gaps {
		if g.From < from || g.To >= to || g.From > g.To {
			s.fail("from %d to %d: gap %v", from-epoch, to-epoch, short([]Gap{g}))
		}
	}
	for id, f := range s.frames {
		if f.Time >= from && f.Time < to && !there[uint64(id)] && !slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.From <= f.Time && f.Time <= g.To }) {
			s.fail("from %d to %d: packet %d of %d is missing, and in no gap: %v", from-epoch, to-epoch, id, f.Time-epoch, short(scan.Gaps))
		}
	}
	if (scan.Empty != "") != (len(ids) == 0) {
		s.fail("from %d to %d: %d packets, and %q", from-epoch, to-epoch, len(ids), scan.Empty)
	}
	return ids, covered(scan.Gaps)
}

// covered joins gaps, whatever their reasons.
func covered(gaps []Gap) (joined []Gap) {
	slices.SortFunc(gaps, func(a, b Gap) int { return int(min(max(a.From-b.From, -1), 1)) })
	for _, g := range gaps {
		if n := len(joined); n > 0 && g.From <= joined[n-1].To+1 {
			joined[n-1].To = max(joined[n-1].To, g.To)
		} else {
			joined = append(joined, Gap{From: g.From, To: g.To})
		}
	}
	return joined
}

func (s *story) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s\nafter %v on %d devices, %d copies, %d workers, pins %v, problems %q", s.seed, fmt.Sprintf(format, args...), s.did, len(s.set.cfg.Dirs), s.set.cfg.Replicas, s.set.cfg.Workers,
		s.ring.State().Pins, s.ring.State().Problems)
}

// pin protects an interval, if the ring has room for it. What others of it is protected for as long is.
func (s *story) pin() {
	from, to := s.times()
	var workers sync.WaitGroup
	done := make(chan struct{})
	for _, st := range s.stages { // they have nothing to record
		workers.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
					st.Process(&pipeline.Batch{Now: s.clock.Load()})
				}
			}
		})
	}
	_, err := s.ring.Protect(from, to, epoch+int64(1000*time.Hour))
	close(done)
	workers.Wait()
	if err != nil {
		return
	}
	ids, gaps := s.ask(from, to)
	s.pins = append(s.pins, promise{from, to, ids, gaps})
}

// unpin ends the protection of everything.
func (s *story) unpin() {
	if _, err := s.ring.Protect(epoch-1, s.clock.Load()+1, 1); err != nil {
		s.fail("%v", err)
	}
	if s.pins = nil; len(s.ring.State().Pins) > 0 {
		s.fail("it is still protected")
	}
}

func (s *story) reopen() {
	s.close()
	s.clock.Add(s.rng.Int64N(int64(time.Minute)))
	s.open()
}

// kill ends the recording without a word: what is in the files then is what there is.
func (s *story) kill() {
	s.ring.waitTails()
	left := make(map[string]map[string]*diskFile)
	for dir, d := range s.set.disks {
		d.mu.Lock()
		left[dir] = d.copy()
		d.mu.Unlock()
	}
	s.close()
	for dir, d := range s.set.disks {
		d.files = left[dir]
	}
	s.clock.Add(s.rng.Int64N(int64(time.Minute)))
	s.open()
}

// damage loses a part of what is not segments of a device while the ring is closed, and with it what is protected.
func (s *story) damage() {
	if len(s.pins) > 0 {
		return
	}
	s.close()
	d := s.set.disks[s.set.cfg.Dirs[s.rng.IntN(len(s.set.cfg.Dirs))]]
	switch page := s.rng.IntN(4) * files.PageSize; s.rng.IntN(3) {
	case 0:
		d.lose(files.StateName)
	case 1:
		d.lose(files.TailsName)
	default:
		clear(d.files[files.StateName].b[page : page+files.PageSize])
	}
	s.open()
}

// away records without one of two devices, which comes back with what it had: the same one each time, since what the other one recorded then has no copy.
func (s *story) away() {
	dirs := s.set.cfg.Dirs
	if len(dirs) == 1 {
		return
	}
	s.close()
	s.set.disks["away"] = newDisk(9)
	s.set.cfg.Dirs = slices.Clone(dirs)
	s.set.cfg.Dirs[s.seed%2] = "away"
	s.open()
	s.record()
	s.ask(s.times())
	s.ask(epoch, s.clock.Load()+1)
	for _, st := range s.stages {
		st.Finish()
	}
	s.ring.Close() //nolint:errcheck // it says what is missing
	delete(s.set.disks, "away")
	s.set.cfg.Dirs = dirs
	s.open()
}

// holdPromises asks for what is protected.
func (s *story) holdPromises() {
	s.t.Helper()
	for _, p := range s.pins {
		ids, gaps := s.ask(p.from, p.to)
		if !slices.Equal(ids, p.ids) || !slices.Equal(gaps, p.gaps) {
			s.fail("protected from %d to %d: %d of %d packets, gaps %v, and when it was %v", p.from-epoch, p.to-epoch, len(ids), len(p.ids), short(gaps), short(p.gaps))
		}
	}
}

func (s *story) check() {
	s.holdPromises()
	oldest := s.ring.State().Oldest / 1000 * 1000
	end := s.clock.Load() + 1
	for _, p := range s.ring.State().Pins { // what is older than the rest is whole to the end of its protection
		if p.From <= oldest && oldest <= p.To {
			end = min(end, p.To+1)
		}
	}
	_, scan := collect(s.t, s.ring, Query{From: oldest, To: end})
	for _, g := range scan.Gaps {
		if g.Why != whyPaused && g.Why != whyAbsent { // without a state nobody knows that what is missing was overwritten
			s.fail("from the oldest, %d, to %d: gap %v", oldest-epoch, end-epoch, short([]Gap{g}))
		}
	}
	s.ask(s.times())
	s.ask(epoch, s.clock.Load()+1)
}

func TestStory(t *testing.T) {
	for seed := range uint64(stories) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newStory(t, seed).tell()
		})
	}
}

// tell has things happen, in any order.
func (s *story) tell() {
	acts := []struct {
		name string
		do   func()
	}{{"record", s.record}, {"record", s.record}, {"record", s.record}, {"pin", s.pin}, {"pin", s.pin}, {"unpin", s.unpin}, {"reopen", s.reopen}, {"kill", s.kill}, {"damage", s.damage}, {"away", s.away}}
	s.record()
	for range 25 {
		act := acts[s.rng.IntN(len(acts))]
		s.did = append(s.did, act.name)
		act.do()
		s.check()
	}
	s.close()
}
