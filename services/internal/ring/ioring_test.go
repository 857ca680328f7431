package ring

import (
	"math"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/ring/uring"
)

// A ring whose device is written through io_uring has all packets, after it wrapped and was opened anew.
func TestUringRing(t *testing.T) {
	u, err := uring.New(func(err error) { t.Error(err) })
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	c := Config{Name: "uring", Dirs: []string{filepath.Join(t.TempDir(), "ring")}, Bytes: 16 << 20, SegmentBytes: 4 << 20, QueueBytes: 16 << 20, Store: u.Directory}
	if err := Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Stage(0, table)
	frames := mix(77, 80_000)
	p := newPlayer(s)
	for rest := frames; len(rest) > 0; rest = rest[10_000:] {
		p.play(t, rest[:10_000])
		waitIdle(t, r)
	}
	s.Finish()
	closeRing(t, r)
	c.Store = nil
	if r, err = Open(c); err != nil {
		t.Fatal(err)
	}
	defer closeRing(t, r)
	if p := r.State().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	have, _ := collect(t, r, Query{From: math.MinInt64, To: math.MaxInt64})
	if len(have) == 0 || len(have) == len(frames) {
		t.Fatalf("%d of %d packets: it did not wrap", len(have), len(frames))
	}
	// At the old end blocks may be missing between others: they were written at once, and overwritten in the order in which they came to the disk.
	n := len(have) / 2
	sameFrames(t, frames[len(frames)-n:], have[len(have)-n:])
}
