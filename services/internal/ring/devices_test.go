package ring

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A trip is a story of a ring on several devices, of which some are not there, or not as they should be, at times: one of them at a time where each block has a copy, and else any
// but the last one.
type trip struct {
	*story
	away  map[string]*absence             // by directory
	older map[string]map[string]*diskFile // what lay on devices at some time
}

// An absence is why a device is not what it was.
type absence struct {
	how  string
	gone *testDisk // what lay there, if it is another one now
}

func newTrip(t *testing.T, seed uint64) *trip {
	s := bareStory(t, seed)
	devices := 2 + s.rng.IntN(2)
	s.set = newSetting(t, devices, int64(20+4*s.rng.IntN(3))<<20)
	s.set.cfg.Workers, s.set.cfg.Replicas = 1+s.rng.IntN(2), s.rng.IntN(2)
	s.begin()
	return &trip{story: s, away: make(map[string]*absence), older: make(map[string]map[string]*diskFile)}
}

// close ends the recording: what is wrong with devices is said, and known.
func (s *trip) close() {
	for _, st := range s.stages {
		st.Finish()
	}
	if err := s.ring.Close(); err != nil && len(s.away) == 0 {
		s.fail("%v", err)
	}
}

func (s *trip) reopen() {
	s.close()
	s.clock.Add(s.rng.Int64N(int64(1e9 * 60)))
	s.open()
}

// refusals are what a device says that is there, and does not do what it is asked for.
var refusals = map[string]func(write bool) error{
	"full": func(write bool) error {
		if write {
			return syscall.ENOSPC
		}
		return nil
	},
	"writes fail": func(write bool) error {
		if write {
			return syscall.EIO
		}
		return nil
	},
	"read-only": func(write bool) error {
		if write {
			return syscall.EROFS
		}
		return nil
	},
	"reads fail": func(write bool) error {
		if !write {
			return syscall.EIO
		}
		return nil
	},
}

// refuseWith has a device refuse; nil ends that.
func (d *testDisk) refuseWith(refuse func(write bool) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail = nil; refuse != nil {
		d.fail = func(_ string, write bool, _ int64) error { return refuse(write) }
	}
}

// leave takes a device away, in one way or another.
func (s *trip) leave() {
	dirs := s.set.cfg.Dirs
	dir := dirs[s.rng.IntN(len(dirs))]
	if s.away[dir] != nil || len(s.away) == len(dirs)-1 {
		return
	}
	ways := append(slices.Sorted(maps.Keys(refusals)), "missing", "pulled", "crash")
	how := ways[s.rng.IntN(len(ways))]
	a := &absence{how: how}
	s.away[dir] = a
	s.did = append(s.did, how+" "+dir)
	d := s.set.disks[dir]
	if refuse := refusals[how]; refuse != nil {
		d.refuseWith(refuse)
		if how == "read-only" { // as an appliance has it: it is opened anew
			s.reopen()
		}
		return
	}
	switch how {
	case "missing":
		s.close()
	case "pulled": // while the ring goes on without it for a while
		s.ring.waitTails()
		d.mu.Lock()
		d.off = true
		d.mu.Unlock()
		s.record()
		s.close()
		d.powerOn()
	case "crash": // the power goes, and one of the devices does not come again
		s.cut()
	}
	a.gone = d
	s.set.disks[dir] = newDisk(9)
	s.open()
}

// cut cuts the power of all devices.
func (s *trip) cut() {
	s.ring.waitTails()
	s.ring.sync()
	for _, d := range s.set.disks {
		d.mu.Lock()
		d.off = true
		d.mu.Unlock()
	}
	for _, st := range s.stages {
		st.Finish()
	}
	s.ring.Close() //nolint:errcheck // there is no power
	for _, d := range s.set.disks {
		d.powerOn()
	}
	s.clock.Add(s.rng.Int64N(int64(1e9 * 60)))
}

// back brings devices back.
func (s *trip) back() {
	if len(s.away) == 0 {
		return
	}
	s.close()
	for dir, a := range s.away {
		if s.rng.IntN(4) == 0 && len(s.away) > 1 { // not yet
			continue
		}
		if a.gone != nil {
			s.set.disks[dir] = a.gone
		}
		s.set.disks[dir].refuseWith(nil)
		delete(s.away, dir)
		s.did = append(s.did, dir)
	}
	s.open()
}

// remember keeps what lies on a device for later.
func (s *trip) remember() {
	dir := s.set.cfg.Dirs[s.rng.IntN(len(s.set.cfg.Dirs))]
	if s.away[dir] != nil {
		return
	}
	running := s.rng.IntN(2) == 0
	if !running {
		s.close()
	}
	d := s.set.disks[dir]
	d.mu.Lock()
	s.older[dir] = d.copy()
	d.mu.Unlock()
	s.did = append(s.did, fmt.Sprint(dir, " running ", running))
	if !running {
		s.open()
	}
}

// exchange puts an older copy of a device in its place.
func (s *trip) exchange() {
	for _, dir := range slices.Sorted(maps.Keys(s.older)) {
		if s.away[dir] != nil || len(s.away) > 0 {
			continue
		}
		s.close()
		s.set.disks[dir].files = s.older[dir]
		for _, f := range s.older[dir] {
			f.disk = s.set.disks[dir]
		}
		delete(s.older, dir)
		s.pins = nil
		s.did = append(s.did, dir)
		s.open()
		return
	}
}

// promise has the ring protect a time, while all devices are there: what is protected on one that is away nobody can read.
func (s *trip) promise() {
	if len(s.away) == 0 {
		s.pin()
	}
}

// release ends the protection of everything.
func (s *trip) release() {
	if len(s.away) == 0 {
		s.unpin()
	}
}

func (s *trip) check() {
	s.t.Helper()
	if len(s.away) == 0 {
		s.holdPromises()
	}
	s.ask(s.times())
	s.ask(epoch, s.clock.Load()+1)
	if st := s.ring.State(); st.Used > st.Size || st.Oldest > st.Newest {
		s.fail("state %+v", st)
	}
}

// tell has things happen, in any order.
func (s *trip) tell() {
	acts := []struct {
		name string
		do   func()
	}{
		{"record", s.record}, {"record", s.record}, {"record", s.record}, {"leave", s.leave}, {"leave", s.leave}, {"back", s.back}, {"back", s.back}, {"reopen", s.reopen},
		{"promise", s.promise}, {"release", s.release}, {"remember", s.remember}, {"exchange", s.exchange}, {"cut", func() { s.cut(); s.open() }},
	}
	s.record()
	for range 25 {
		act := acts[s.rng.IntN(len(acts))]
		s.did = append(s.did, act.name)
		act.do()
		s.check()
	}
	s.close()
}

func TestDevicesComeAndGo(t *testing.T) {
	for seed := range uint64(trips) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newTrip(t, seed).tell()
		})
	}
}

// newPair returns a story of two devices, each of which has a copy of each block or not, with what was recorded to both.
func newPair(t *testing.T, copies int) *trip {
	s := bareStory(t, 7)
	s.set = newSetting(t, 2, 24<<20)
	s.set.cfg.Workers, s.set.cfg.Replicas = 1, copies
	s.begin()
	s.record()
	return &trip{story: s, away: make(map[string]*absence)}
}

// without opens the ring without a device; with opens it with that again.
func (s *trip) without(dir string) {
	s.close()
	s.away[dir] = &absence{gone: s.set.disks[dir]}
	s.set.disks[dir] = newDisk(9)
	s.clock.Add(1e9)
	s.open()
}

func (s *trip) with(dir string) {
	s.close()
	s.set.disks[dir] = s.away[dir].gone
	delete(s.away, dir)
	s.clock.Add(1e9)
	s.open()
}

// reasons returns why something is missing of all that was recorded.
func (s *trip) reasons() (whys []string) {
	s.t.Helper()
	s.ask(epoch, s.clock.Load()+1)
	_, scan := collect(s.t, s.ring, Query{From: epoch, To: s.frames[len(s.frames)-1].Time + 1})
	for _, g := range scan.Gaps {
		whys = append(whys, g.Why)
	}
	slices.Sort(whys)
	return slices.Compact(whys)
}

// What one device recorded alone is there once when the other one is back, and is told as missing when only that one is left.
func TestRecordedAlone(t *testing.T) {
	for _, later := range []bool{false, true} { // something is recorded to both again
		s := newPair(t, 1)
		bytes, size := s.ring.State().Bytes, s.ring.State().Size
		s.without("b")
		if st := s.ring.State(); st.Bytes != bytes || st.Size != size {
			t.Errorf("without a device: %d bytes of %d, room for %d of %d", st.Bytes, bytes, st.Size, size)
		}
		s.record()
		s.with("b")
		if later {
			s.record()
		}
		if whys := s.reasons(); !slices.Equal(whys, []string{whyPaused}) {
			t.Errorf("both are there, and %q", whys)
		}
		bytes = s.ring.State().Bytes
		s.without("a")
		if whys := s.reasons(); !slices.Contains(whys, whyAbsent) || s.ring.State().Bytes != bytes {
			t.Errorf("recorded later %v: only the one that was away is there, and %q; %d bytes of %d", later, whys, s.ring.State().Bytes, bytes)
		}
		s.with("a")
		if whys := s.reasons(); !slices.Equal(whys, []string{whyPaused}) || s.ring.State().Problems != nil {
			t.Errorf("both are there again, and %q, %q", whys, s.ring.State().Problems)
		}
		s.close()
	}
}

// When one device recorded, and then the other one, the ring was recording; nor do flows of these times have one number.
func TestRecordedByTurns(t *testing.T) {
	s := newPair(t, 1)
	pauses := 0
	for _, dir := range []string{"a", "b"} {
		s.without(dir)
		s.record()
		pauses++
		s.close()
		s.set.disks[dir] = s.away[dir].gone
		delete(s.away, dir)
		s.open()
		s.close()
	}
	openings := make(map[uint32]bool)
	s.open()
	_, scan := collect(t, s.ring, Query{From: epoch, To: s.frames[len(s.frames)-1].Time + 1})
	for _, f := range s.frames {
		for _, g := range scan.Gaps {
			if g.From <= f.Time && f.Time <= g.To {
				t.Fatalf("the packet of %d is said to be missing: %v", f.Time-epoch, short(scan.Gaps))
			}
		}
	}
	s.ring.mu.Lock()
	for _, d := range s.ring.devices {
		for _, g := range d.segments {
			if s.ring.load(g) != nil {
				t.Error("a segment cannot be listed")
			}
			for i := range g.slots {
				if g.slots[i].Seq != 0 {
					openings[g.slots[i].Generation] = true
				}
			}
		}
	}
	s.ring.mu.Unlock()
	if len(openings) != 3 {
		t.Errorf("blocks of openings %v", openings)
	}
	s.close()
}

// What a device had that was exchanged with an older copy of itself is told as missing, also when the ring is opened once more.
func TestOlderCopy(t *testing.T) {
	s := newPair(t, 0)
	s.close()
	old := s.set.disks["b"].copy()
	s.open()
	s.record()
	s.close()
	s.set.disks["b"].files = old
	for range 2 {
		s.open()
		if whys := s.reasons(); !slices.Contains(whys, whyAbsent) {
			t.Errorf("%q", whys)
		}
		s.record()
		s.close()
	}
}

// A time that is protected while a device is away is so on that one when it is back.
func TestProtectedWithoutADevice(t *testing.T) {
	s := newPair(t, 0)
	from, to := s.frames[0].Time/1000*1000, s.frames[len(s.frames)-1].Time/1000*1000
	s.without("b")
	if _, err := s.ring.Protect(from, to, epoch+int64(1000*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.with("b")
	want, _ := s.ask(from, to)
	for s.ring.overwrittenUpTo() < to { // what is not protected
		s.record()
	}
	s.reopen()
	if have, gaps := s.ask(from, to); !slices.Equal(have, want) || len(gaps) > 0 {
		t.Errorf("%d of %d packets, gaps %v", len(have), len(want), short(gaps))
	}
	s.close()
}

// What one device recorded alone, and has overwritten in part, is no more missing than what else was overwritten.
func TestRecordedAloneAndOverwritten(t *testing.T) {
	s := newPair(t, 1)
	s.without("a")
	s.record()
	s.with("a")
	for alone := s.frames[len(s.frames)-1].Time; s.ring.overwrittenUpTo() <= alone; s.record() {
		s.without("a")
		s.with("a")
		if st := s.ring.State(); st.Problems != nil {
			t.Fatalf("overwritten up to %d of %d: %q", s.ring.overwrittenUpTo()-epoch, alone-epoch, st.Problems)
		}
	}
	s.close()
}

func (r *Ring) overwrittenUpTo() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overwritten
}
