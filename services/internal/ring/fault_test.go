package ring

import (
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

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
