package ring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// TestFilesChange deletes and cuts files under a ring that records. It is said soon, what is recorded then is there when the ring is opened anew, and so is all that did not lie in them.
func TestFilesChange(t *testing.T) {
	frames := mix(21, 20_000)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		said   string
		stops  bool
	}{
		{"segment deleted", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, files.SegmentName(0))) }, "000000.pcapng is left out: somebody has deleted the file", false},
		{"segment cut", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, files.SegmentName(0)), 5000); err != nil {
				t.Fatal(err)
			}
		}, "000000.pcapng is left out: somebody has changed the size of the file: it has 5000 bytes, not 4194304", false},
		{"state deleted", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, files.StateName)) }, "takes no more blocks: state: somebody has deleted the file", true},
		{"all deleted", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, "takes no more blocks: ", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, r := onDisk(t, 1, 8*index.MinSegment, frames)
			test.change(t, c.Dirs[0])
			for start := time.Now(); !strings.Contains(strings.Join(r.State().Problems, "\n"), test.said); time.Sleep(10 * time.Millisecond) {
				if time.Since(start) > longWait {
					t.Fatalf("it says %q", r.State().Problems)
				}
			}
			if failed := r.State().Devices[0].Failed; (failed != "") != test.stops {
				t.Errorf("the device: %q", failed)
			}
			s := r.Stage(0, table)
			more := stamp(frames[:10_000], 1000, time.Microsecond)
			play(t, s, &traffic{frames: more})
			s.Finish()
			waitIdle(t, r)
			have, scan := collect(t, r, Query{From: more[0].Time, To: more[len(more)-1].Time + 1})
			if test.stops {
				if len(have) != 0 || r.State().Dropped["disk"] != uint64(len(more)) {
					t.Errorf("%d packets, dropped %v", len(have), r.State().Dropped)
				}
				r.Close() //nolint:errcheck // it says what is wrong with the device
				return
			}
			sameFrames(t, more, have)
			closeRing(t, r)
			r, err := Open(c)
			if err != nil {
				t.Fatal(err)
			}
			defer closeRing(t, r)
			have, _ = collect(t, r, Query{From: more[0].Time, To: more[len(more)-1].Time + 1})
			sameFrames(t, more, have)
			have, scan = collect(t, r, everything)
			if n := len(have); n < 15_000 || n >= 30_000 || len(scan.Gaps) == 0 {
				t.Errorf("%d packets, gaps %v", n, short(scan.Gaps))
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestReadBesideWriter reads a ring that another opening of it goes on overwriting: that is no damage.
func TestReadBesideWriter(t *testing.T) {
	c, w := onDisk(t, 1, 8*index.MinSegment, mix(22, 30_000))
	defer closeRing(t, w)
	c.ReadOnly = true
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := w.Stage(0, table)
	for round := range 6 {
		play(t, s, &traffic{frames: stamp(mix(23, 20_000), 1000+round, time.Microsecond)})
		waitIdle(t, w)
		if round > 3 { // all of it is another one by now
			have, scan := collect(t, r, everything)
			for _, g := range scan.Gaps {
				if g.Why == whyDamaged {
					t.Errorf("round %d: %d packets, gaps %v, %q", round, len(have), short(scan.Gaps), r.State().Problems)
				}
			}
		}
	}
	s.Finish()
}
