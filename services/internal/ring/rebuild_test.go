package ring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// lose removes files from a device.
func (d *testDisk) lose(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		delete(d.files, n)
	}
}

func idsOf(list []got) (ids []uint64) {
	for i := range list {
		ids = append(ids, frameID(list[i].Data))
	}
	return ids
}

// of returns which of some packets lie in files of a device; in all of them if none is named.
func (w *wreck) of(all []uint64, dir string, names ...string) (ids []uint64) {
	there := make(map[uint64]bool)
	for i := range w.blocks[dir] {
		if b := &w.blocks[dir][i]; len(names) == 0 || slices.Contains(names, b.file) {
			for _, id := range b.all() {
				there[id] = true
			}
		}
	}
	for _, id := range all {
		if there[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// readOnly opens what is there for reading alone, by a program that knows nothing of the ring, which changes nothing.
func (w *wreck) readOnly(t *testing.T, dirs ...string) *Ring {
	t.Helper()
	before := make(map[string]map[string]*diskFile)
	for dir, d := range w.set.disks {
		before[dir] = d.copy()
	}
	r, err := Open(Config{Dirs: dirs, ReadOnly: true, Store: w.set.cfg.Store})
	if err != nil {
		t.Fatal(err)
	}
	for dir, d := range w.set.disks {
		if len(d.files) != len(before[dir]) {
			t.Errorf("%s has %d files, and had %d", dir, len(d.files), len(before[dir]))
		}
		for name, f := range before[dir] {
			if !bytes.Equal(f.b, d.files[name].b) {
				t.Errorf("%s/%s was written", dir, name)
			}
		}
	}
	return r
}

// alone holds a ring that was opened without a state, of which these packets are there, against what it was.
func (w *wreck) alone(t *testing.T, name string, r *Ring, want []uint64) (gaps []Gap) {
	t.Helper()
	defer closeRing(t, r)
	last := w.whole[len(w.whole)-1].Time + 1
	have, scan := collect(t, r, Query{From: math.MinInt64, To: last})
	if !slices.Equal(idsOf(have), want) {
		t.Errorf("%s: %d of %d packets", name, len(have), len(want))
	}
	there := make(map[uint64]bool)
	for i := range have {
		id := frameID(have[i].Data)
		there[id] = true
		if f := w.frames[id]; f == nil || !bytes.Equal(f.Data, have[i].Data) || f.Time != have[i].Time {
			t.Fatalf("%s: packet %d is not as it was", name, i)
		}
	}
	silent := 0
	for id, f := range w.frames {
		if !there[id] && !slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.From <= f.Time && f.Time <= g.To }) {
			silent++
		}
	}
	if silent > 0 {
		t.Errorf("%s: %d packets that are not there are in no gap: %v", name, silent, short(scan.Gaps))
	}
	for _, text := range damageFilters[1:3] {
		q := Query{From: math.MinInt64, To: last, Filter: mustFilter(t, text), Hold: true}
		narrow, _ := collect(t, r, q)
		q.everything = true
		if read, _ := collect(t, r, q); !slices.Equal(idsOf(narrow), idsOf(read)) {
			t.Errorf("%s: %q brings %d packets, and read as a whole %d", name, text, len(narrow), len(read))
		}
	}
	v, err := r.Verify(context.Background(), nil)
	if err != nil || v.Found != 0 || v.Blocks == 0 {
		t.Errorf("%s: %+v, %v", name, v, err)
	}
	if s := r.State(); len(s.Rebuilt) == 0 || len(s.Problems) != 0 {
		t.Errorf("%s: it says %q, problems %q", name, s.Rebuilt, s.Problems)
	}
	var out bytes.Buffer
	n, _, err := r.Export(context.Background(), math.MinInt64, math.MaxInt64, &out)
	if packets := len(times(t, out.Bytes())); err != nil || n*block.Size != out.Len() || packets != len(want) {
		t.Errorf("%s: %d blocks are exported, with %d packets of %d, %v", name, n, packets, len(want), err)
	}
	return scan.Gaps
}

// TestSegmentsAlone reads rings of which only segments are left: everything that is in them comes, once, and in order, for narrow queries too, and what is not is in a gap.
func TestSegmentsAlone(t *testing.T) {
	for _, test := range []struct{ devices, copies, rounds int }{{1, 0, 3}, {1, 0, 20}, {2, 0, 20}, {2, 1, 20}} {
		w := newWreck(t, test.devices, test.copies, 77, test.rounds)
		all, dirs := idsOf(w.whole), w.set.cfg.Dirs
		whole := func(name string, dirs ...string) {
			t.Helper()
			for _, g := range w.alone(t, fmt.Sprint(test, ", ", name), w.readOnly(t, dirs...), all) {
				if g.Why != whyOverwritten || test.rounds == 3 {
					t.Errorf("%v, %s: gap %v", test, name, g)
				}
			}
		}
		w.reset()
		for _, d := range w.set.disks {
			d.lose(files.StateName, files.TailsName)
		}
		whole("no state", dirs...)
		if test.devices == 2 {
			whole("the other way round", "b", "a")
			if test.copies == 0 {
				w.alone(t, "one of two devices", w.readOnly(t, "b"), w.of(all, "b"))
			} else {
				whole("one of two devices with copies", "b")
			}
			for i, dir := range dirs {
				w.reset()
				w.set.disks[dir].lose(files.StateName)
				whole("one device has no state", dirs[0], dirs[1])
				w.set.disks[dirs[1-i]].files = nil
				if test.copies == 1 {
					whole("one device has no state, and the other is not there", dir)
				}
			}
		}
		w.reset() // some segments, as somebody copied them
		rng := rand.New(rand.NewPCG(uint64(test.rounds), uint64(test.devices)))
		var kept []uint64
		for _, dir := range dirs {
			names := w.segmentNames(dir)
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			w.set.disks[dir].lose(append(names[:3:3], files.StateName, files.TailsName)...)
			kept = append(kept, w.of(all, dir, names[3:]...)...)
		}
		some := slices.DeleteFunc(slices.Clone(all), func(id uint64) bool { return !slices.Contains(kept, id) })
		w.alone(t, fmt.Sprint(test, ", some segments"), w.readOnly(t, dirs...), some)
	}
}

// TestStateMadeAnew opens rings for recording that have lost their state: they go on, with all that they had.
func TestStateMadeAnew(t *testing.T) {
	for _, test := range []struct{ devices, copies int }{{1, 0}, {2, 0}, {2, 1}} {
		w := newWreck(t, test.devices, test.copies, 77, 20)
		generation := uint32(0)
		for _, list := range w.blocks {
			for _, b := range list {
				generation = max(generation, b.header.Generation)
			}
		}
		for how, do := range map[string]func(dir string, d *testDisk){
			"no state":              func(_ string, d *testDisk) { d.lose(files.StateName) },
			"no state and no tails": func(_ string, d *testDisk) { d.lose(files.StateName, files.TailsName) },
			"damaged":               func(_ string, d *testDisk) { clear(d.files[files.StateName].b[:2*files.PageSize]) },
			"one device": func(dir string, d *testDisk) {
				if dir == "a" {
					d.lose(files.StateName)
				}
			},
		} {
			if test.devices == 2 && how != "one device" && damages < 10 {
				continue // a long one
			}
			name := fmt.Sprint(test, ", ", how)
			w.reset()
			for dir, d := range w.set.disks {
				do(dir, d)
			}
			r := w.set.open(t)
			s := r.State()
			if problems := strings.Join(s.Problems, "\n"); !strings.Contains(problems, "its 6 segments") || s.Name != "test" || r.d.Generation <= generation {
				t.Errorf("%s: %q, %+v, generation %d after %d", name, problems, s, r.d.Generation, generation)
			}
			closeRing(t, r)
			r = w.set.open(t)
			if s := r.State(); len(s.Problems)+len(s.Rebuilt) > 0 || s.Name != "test" {
				t.Errorf("%s, opened again: %+v", name, s)
			}
			have, _ := collect(t, r, Query{From: math.MinInt64, To: w.whole[len(w.whole)-1].Time + 1})
			if !slices.Equal(idsOf(have), idsOf(w.whole)) {
				t.Errorf("%s: %d of %d packets", name, len(have), len(w.whole))
			}
			stage := r.Stage(0, table)
			base := mix(80, 10_000)
			for round := range 7 { // more than there is room for
				frames := stamp(base, 100+round, time.Microsecond)
				play(t, stage, &traffic{frames: frames})
				waitIdle(t, r)
				if have, scan := collect(t, r, Query{From: frames[0].Time, To: frames[len(frames)-1].Time + 1}); len(have) != len(frames) ||
					slices.ContainsFunc(scan.Gaps, func(g Gap) bool { return g.Why != whyPaused }) { // by the clock: long after the packets
					t.Fatalf("%s: %d packets of %d, gaps %v", name, len(have), len(frames), short(scan.Gaps))
				}
			}
			stage.Finish()
			if v, err := r.Verify(context.Background(), nil); err != nil || v.Found != 0 {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
			closeRing(t, r)
		}
	}
}

// TestStateNotMadeAnew: of a device whose segments are not all there nothing is written.
func TestStateNotMadeAnew(t *testing.T) {
	w := newWreck(t, 1, 0, 77, 20)
	names := w.segmentNames("a")
	for _, test := range []struct {
		name string
		do   func(d *testDisk)
		want string
	}{
		{"a segment is missing", func(d *testDisk) { d.lose(names[1]) }, "segments are not there: 000001.pcapng"},
		{"a segment is cut", func(d *testDisk) { d.files[names[2]].b = d.files[names[2]].b[:block.Size] }, "000002.pcapng has 1048576 bytes"},
		{"there is one", func(d *testDisk) { d.lose(names[1:]...) }, "there are 1 segments"},
		{"no blocks", func(d *testDisk) {
			for _, n := range names {
				clear(d.files[n].b)
			}
		}, "it does not end like a block of a ring"},
		{"nothing", func(d *testDisk) { d.lose(names...) }, "no ring lies there"},
		{"another version", func(d *testDisk) {
			for _, n := range names {
				for at := block.Size; at <= len(d.files[n].b); at += block.Size {
					b := d.files[n].b[at-block.Size : at]
					if _, err := block.ParseHeader(b); err == nil {
						trailer := b[theTrailer:]
						trailer[8+8]++ // the version
						clear(trailer[8+64:][:4])
						le.PutUint32(trailer[8+64:], crc32.Checksum(trailer, crc32.MakeTable(crc32.Castagnoli)))
					}
				}
			}
		}, "it has version 3"},
	} {
		w.reset()
		d := w.set.disks["a"]
		d.lose(files.StateName)
		test.do(d)
		before := d.copy()
		r, err := Open(w.set.cfg)
		if err == nil {
			closeRing(t, r)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if len(d.files) != len(before) {
			t.Errorf("%s: %d files, before %d", test.name, len(d.files), len(before))
		}
		for name, f := range d.files {
			if before[name] == nil || !bytes.Equal(f.b, before[name].b) {
				t.Errorf("%s: %s was written", test.name, name)
			}
		}
	}
}

// TestStateCannotBeRead: who reads takes it for lost, who writes leaves the device alone.
func TestStateCannotBeRead(t *testing.T) {
	w := newWreck(t, 1, 0, 77, 20)
	w.reset()
	errIO := errors.New("input/output error")
	w.set.disks["a"].fail = func(name string, write bool, at int64) error {
		if name == files.StateName && !write && at >= 0 {
			return errIO
		}
		return nil
	}
	if r, err := Open(w.set.cfg); !errors.Is(err, errIO) {
		closeRing(t, r)
		t.Errorf("it opens for writing: %v", err)
	}
	r := w.readOnly(t, "a")
	if have, _ := collect(t, r, Query{From: math.MinInt64, To: w.whole[len(w.whole)-1].Time + 1}); !slices.Equal(idsOf(have), idsOf(w.whole)) || len(r.State().Problems) == 0 {
		t.Errorf("%d of %d packets, problems %q", len(have), len(w.whole), r.State().Problems)
	}
	closeRing(t, r)
}

// TestStateOnReadOnlyDisk: what cannot be written can be read, without a state too.
func TestStateOnReadOnlyDisk(t *testing.T) {
	w := newWreck(t, 2, 0, 77, 20)
	w.reset()
	w.set.disks["a"].lose(files.StateName)
	w.set.disks["a"].fail = func(_ string, write bool, _ int64) error {
		if write {
			return syscall.EROFS
		}
		return nil
	}
	r := w.set.open(t)
	have, _ := collect(t, r, Query{From: math.MinInt64, To: w.whole[len(w.whole)-1].Time + 1})
	if s := r.State(); !slices.Equal(idsOf(have), idsOf(w.whole)) || s.Devices[0].Missing || !strings.Contains(s.Devices[0].Failed, "read-only") {
		t.Errorf("%d of %d packets, %+v", len(have), len(w.whole), s)
	}
	r.Close() //nolint:errcheck // it says what is wrong with the device
}
