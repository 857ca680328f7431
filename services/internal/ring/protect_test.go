package ring

import (
	"maps"
	"slices"
	"strings"
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
}

func newLap(t *testing.T, devices int) *lap {
	set := newSetting(t, devices, 32<<20)
	set.cfg.Now = func() int64 { return epoch }
	l := &lap{set: set.create(t), base: mix(12, 10_000)}
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
		play(t, l.stage, &traffic{frames: stamp(l.base, l.rounds, time.Microsecond)})
		waitIdle(t, l.ring)
		l.rounds++
	}
}

// next is the block that will be overwritten next.
func (l *lap) next() (b index.Slot) {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	if s := l.ring.devices[l.ring.turn].current; s.used < len(s.slots) {
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
		have, scan := collect(t, l.ring, Query{From: from, To: to})
		if len(want) == 0 || len(have) != len(want) || len(scan.Gaps) != 0 {
			t.Fatalf("time %d: %d of %d packets were kept, gaps %v", again+1, len(have), len(want), short(scan.Gaps))
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
