package capture

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/services/api"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
	"galvo/services/internal/volume"
)

// toDisk returns a sink that names files after the second of a time, and the directory that they are in.
func toDisk(t testing.TB, dir string, start int64) *sink.Disk {
	t.Helper()
	v, err := volume.Open("data", "data", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	d, err := sink.NewDisk(v, "", time.Unix(0, start), func(t time.Time) string { return fmt.Sprintf("%d.pcapng", t.Unix()) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// files returns the packets of each file by its name, and the statistics of the first interface of all files added up.
func files(t *testing.T, dir string) (byName map[string][]packet.Packet, names []string, sum pcapng.Statistics) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	byName = map[string][]packet.Packet{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(p), ".pcapng")
		names = append(names, name)
		byName[name] = read(t, b)
		s := statisticsOf(t, b)
		if n := uint64(len(byName[name])); isComplete(b) && (s.Delivered != n || s.Accepted != n+s.Dropped || s.Received < s.Accepted+s.Lost) {
			t.Errorf("%s has %d packets, and says %+v", name, n, s)
		}
		sum.Received += s.Received
		sum.Accepted += s.Accepted
		sum.Delivered += s.Delivered
		sum.Dropped += s.Dropped
		sum.Lost += s.Lost
	}
	return byName, names, sum
}

// isComplete reports whether a file ends with statistics.
func isComplete(file []byte) (complete bool) {
	for len(file) > 12 {
		complete = le.Uint32(file) == 5
		file = file[le.Uint32(file[4:]):]
	}
	return complete
}

func TestSplitBySize(t *testing.T) {
	const limit, frames = 4000, 1000
	const start = 4_000_000_000 // s: younger than the clock, since older ones do not wait for a worker that has none yet
	dir := t.TempDir()
	cs := newCaptures(t, Options{Source: Source{Workers: 2}})
	var latest string
	out := toDisk(t, dir, (start-5)*1e9)
	c, wait := begin(t, cs, Spec{Filter: every(t, 2), Expression: "every second", SplitBytes: limit, Latest: out.Latest}, out)
	for i := range uint64(frames) {
		cs.Stage(int(i % 2)).Process(batchOf(int(i%2), frame(i, 60+int(i%7)*100, int64(start+i)*1e9, 0)))
	}
	cs.Stage(0).Finish()
	cs.Stage(1).Finish()
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	byName, names, sum := files(t, dir)
	next := uint64(0)
	slices.SortFunc(names, func(a, b string) int { return len(a)*10 - len(b)*10 + strings.Compare(a, b) })
	for i, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name+".pcapng")); err != nil || info.Size() > limit {
			t.Errorf("%s has %d bytes, and at most %d are allowed", name, info.Size(), limit)
		}
		packets := byName[name]
		if i > 0 && name != fmt.Sprint(packets[0].Time/1e9) {
			t.Errorf("file %s begins with the packet of %d", name, packets[0].Time/1e9)
		}
		for _, p := range packets {
			if number(p.Data) != next {
				t.Fatalf("%s: packet %d, want %d", name, number(p.Data), next)
			}
			next += 2
		}
	}
	if next != frames {
		t.Errorf("%d packets, want %d", next/2, frames/2)
	}
	if want := (pcapng.Statistics{Received: frames, Accepted: frames / 2, Delivered: frames / 2}); sum != want {
		t.Errorf("statistics of all files: %+v, want %+v", sum, want)
	}
	v := cs.Finished()[0]
	if latest, _ = out.Latest(); v.FileName != latest || v.Files != uint64(len(names)) || len(names) < 50 {
		t.Errorf("%d files, the list says %d and %q", len(names), v.Files, v.FileName)
	}
}

// A packet that alone is larger than a file may be gets a file of its own.
func TestSplitSmallerThanAPacket(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{SplitBytes: 1}, toDisk(t, dir, 0))
	cs.Stage(0).Process(batchOf(0, frame(0, 500, 1e9, 0), frame(1, 500, 1e9, 0), frame(2, 500, 2e9, 0)))
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	byName, names, _ := files(t, dir)
	if want := []string{"0", "1", "2"}; !slices.Equal(names, want) {
		t.Fatalf("files %v, want %v", names, want)
	}
	for name, packets := range byName {
		if len(packets) != 1 {
			t.Errorf("%s has %d packets", name, len(packets))
		}
	}
}

// Intervals are counted from the first packet on where time is that of the packets; each file is named after the begin of its interval.
func TestSplitByTime(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{SplitTime: 10 * time.Second, SplitBytes: 1200, Block: true}, toDisk(t, dir, 7e9))
	var number uint64
	for _, at := range []int64{103, 105, 112, 113, 113, 113, 127, 126, 145} { // seconds; 126 is late
		cs.Stage(0).Process(batchOf(0, frame(number, 300, at*1e9, 0)))
		number++
	}
	cs.Stage(0).Finish()
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	byName, names, sum := files(t, dir)
	got := map[string]int{}
	for _, n := range names {
		got[n] = len(byName[n])
	}
	want := map[string]int{"7": 2, "112": 1, "113": 2, "113_1": 1, "123": 2, "143": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("packets by file: %v, want %v", got, want)
	}
	if sum.Delivered != number {
		t.Errorf("statistics of all files: %+v", sum)
	}
}

// On a live source a file is complete when its time is over, whether packets come or not.
func TestSplitByTheClock(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	start := time.Now().UnixNano()
	c, wait := begin(t, cs, Spec{SplitTime: 300 * time.Millisecond}, toDisk(t, dir, start))
	cs.Stage(0).Process(batchOf(0, frame(0, 100, start, 0)))
	until(t, "the first file is complete", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.pcapng", start/1e9)))
		return err == nil && isComplete(b)
	})
	cs.Stage(0).Process(batchOf(0, frame(1, 100, time.Now().UnixNano(), 0)))
	until(t, "the second file", func() bool { p, _ := filepath.Glob(dir + "/*.pcapng"); return len(p) == 2 })
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	_, _, sum := files(t, dir)
	if want := (pcapng.Statistics{Received: 2, Accepted: 2, Delivered: 2}); sum != want {
		t.Errorf("statistics of all files: %+v, want %+v", sum, want)
	}
}

// Where time is that of the packets, a file is complete when the source has come past its time.
func TestSplitByTheSource(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{SplitTime: 10 * time.Second, Block: true}, toDisk(t, dir, 7e9))
	cs.Stage(0).Process(batchOf(0, frame(0, 100, 103e9, 0)))
	complete := func(name string) bool {
		b, err := os.ReadFile(filepath.Join(dir, name+".pcapng"))
		return err == nil && isComplete(b)
	}
	empty := batchOf(0)
	empty.Now = 112e9
	cs.Stage(0).Process(empty)
	cs.Stage(0).Process(batchOf(0, frame(1, 100, 112e9, 0)))
	until(t, "the second packet is written", func() bool { return c.delivered.Load() == 2 })
	if complete("7") {
		t.Error("the first file is complete before its time is over")
	}
	empty.Now = 114e9
	cs.Stage(0).Process(empty)
	until(t, "the first file is complete", func() bool { return complete("7") })
	cs.Stage(0).Process(batchOf(0, frame(2, 100, 115e9, 0)))
	cs.Stage(0).Finish()
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	byName, _, sum := files(t, dir)
	if len(byName["7"]) != 2 || len(byName["113"]) != 1 || sum.Delivered != 3 {
		t.Errorf("%d and %d packets; %+v", len(byName["7"]), len(byName["113"]), sum)
	}
}

// The last file of a capture from a ring says what was scanned, within its size, also if nothing is in it and though its interval was over before the ring's was.
func TestSplitSaysWhatWasScanned(t *testing.T) {
	const limit = 2000
	spec := Spec{SplitTime: time.Second, SplitBytes: limit, Block: true, Scan: func() api.Scan { return api.Scan{Blocks: 7} }}
	for _, frames := range []uint64{0, 1, 50} {
		for _, interfaces := range []func() []pipeline.Interface{func() []pipeline.Interface { return nil }, nil} {
			if frames > 0 && interfaces != nil {
				continue
			}
			dir := t.TempDir()
			cs := newCaptures(t, Options{Source: Source{Interfaces: interfaces}})
			out := toDisk(t, dir, 7e9)
			c, wait := begin(t, cs, spec, out)
			for i := range frames {
				cs.Stage(0).Process(batchOf(0, frame(i, 100, int64(103e9+i), 0)))
			}
			cs.Stage(0).Finish()
			d := newDrain(t.Context(), c, nil) // another one, that looks now
			d.split, d.marks[0] = split{files: toDisk(t, t.TempDir(), 0), open: true, until: 104e9}, math.MaxInt64
			if d.expireFile(time.Now(), false); !d.split.open {
				t.Error("the file that was to say what was scanned is complete before that is known")
			}
			c.Finish("end")
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			name, _ := out.Latest()
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !strings.Contains(string(b), "of 7 blocks") || len(b) > limit {
				t.Errorf("%d packets, interfaces of its own %t: %s has %d bytes, %v", frames, interfaces == nil, name, len(b), err)
			}
		}
	}
}

// A full device ends the capture with a file that is complete, statistics and all, and what did not fit is counted.
func TestStorageFull(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=2m"); err != nil {
		need.Missing(t, "mount", err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{QueueBytes: 8 << 20}, toDisk(t, dir, 1e9))
	const frames = 4000
	for i := range uint64(frames) {
		cs.Stage(0).Process(batchOf(0, frame(i, 1000, int64(i+1)*1e9, 0)))
	}
	cs.Stage(0).Finish()
	<-c.Done()
	wait()
	byName, _, sum := files(t, dir)
	v := cs.Finished()[0]
	if v.State != Finished || v.Reason != "storage full" || v.Captured == 0 || v.Dropped == 0 {
		t.Errorf("%+v", v)
	}
	if n := uint64(len(byName["1"])); n != v.Captured || n != sum.Delivered {
		t.Errorf("%d packets in the file, %d captured, %d delivered as its statistics say", n, v.Captured, sum.Delivered)
	}
	if v.Captured+v.Dropped+v.Ignored+v.Held != sum.Received || sum.Dropped != v.Dropped {
		t.Errorf("the counters %+v and the statistics %+v differ", v.Counters, sum)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bfree*uint64(st.Bsize) > 1<<20 {
		t.Errorf("%d bytes are free, %v: the device is not full", st.Bfree*uint64(st.Bsize), err)
	}
	v2, err := volume.Open("data", "data", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v2.Close()
	if err := os.Remove(filepath.Join(dir, "1.pcapng")); err != nil {
		t.Fatal(err)
	}
	if f, err := v2.Create("", "x", 0); err != nil {
		t.Errorf("there is room again: %v", err)
	} else {
		f.Discard()
	}
}

// Files of one name are numbered on, though earlier ones were deleted meanwhile.
func TestSplitNumbersGoOn(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	c, wait := begin(t, cs, Spec{SplitBytes: 1}, toDisk(t, dir, 1e9))
	for i := range uint64(6) {
		cs.Stage(0).Process(batchOf(0, frame(i, 100, 1e9+int64(i), 0)))
		until(t, "the packet is written", func() bool { return c.delivered.Load() == i+1 })
		if i == 3 {
			for _, name := range []string{"1", "1_1"} {
				if err := os.Remove(filepath.Join(dir, name+".pcapng")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	c.Finish("end")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if _, names, _ := files(t, dir); !slices.Equal(names, []string{"1_2", "1_3", "1_4", "1_5"}) {
		t.Errorf("files %v", names)
	}
}

// A full is a disk that is full from a write on.
type full struct {
	*sink.Disk
	writes int // until then
}

func (f *full) Write(b []byte) (int, error) {
	if f.writes--; f.writes < 0 {
		return 0, &sink.End{Words: "storage full", Err: unix.ENOSPC}
	}
	return f.Disk.Write(b)
}

// Wherever a device turns out to be full, also where a file has just begun, each file is one that can be read, and their counters add up.
func TestStorageFullBetweenFiles(t *testing.T) {
	const frames = 6
	for writes := range 9 {
		for _, single := range []bool{false, true} {
			dir := t.TempDir()
			cs := newCaptures(t, Options{})
			out := toDisk(t, dir, 1e9)
			c, wait := begin(t, cs, Spec{SplitBytes: 1, SingleInterface: single, Latest: out.Latest}, &full{out, writes})
			for i := range uint64(frames) {
				cs.Stage(0).Process(batchOf(0, frame(i, 1000, int64(i+1)*1e9, 0)))
			}
			cs.Stage(0).Finish()
			c.Finish("end")
			wait()
			_, names, sum := files(t, dir)
			v := cs.Finished()[0]
			if v.Captured+v.Dropped != sum.Received || sum.Delivered != v.Captured || sum.Dropped != v.Dropped || uint64(len(names)) != v.Files {
				t.Errorf("full after %d writes, single %t: %+v, in %d files %+v", writes, single, v, len(names), sum)
			}
		}
	}
}

// A stopped device does not keep the capture for ever.
func TestDiskInterrupt(t *testing.T) {
	d := toDisk(t, t.TempDir(), 0)
	d.Interrupt(time.Now())
	if _, err := d.Write([]byte("x")); err == nil {
		t.Error("written after the time was over")
	}
	if err := d.Complete([]byte("end")); err != nil {
		t.Errorf("what completes the file: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A sink that fails otherwise fails its capture.
func TestDiskGone(t *testing.T) {
	dir := t.TempDir()
	cs := newCaptures(t, Options{})
	out := toDisk(t, dir, 0)
	c, wait := begin(t, cs, Spec{SplitBytes: 1}, out)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	cs.Stage(0).Process(batchOf(0, frame(0, 500, 1e9, 0), frame(1, 500, 2e9, 0)))
	<-c.Done()
	if err := wait(); err == nil || cs.Finished()[0].State != Failed {
		t.Errorf("%v, %+v", err, cs.Finished()[0])
	}
}

// What a capture of everything to a storage device costs, as one file and in files of 100 MB. Each file is synced when it is complete.
func BenchmarkEverythingToDisk(b *testing.B) {
	for _, size := range []uint64{0, 100_000_000} {
		b.Run(fmt.Sprint("files of ", size, " bytes"), func(b *testing.B) {
			dir := b.TempDir()
			cs := newCaptures(b, Options{Source: Source{Workers: 1}})
			c, wait := begin(b, cs, Spec{QueueBytes: 64_000_000, SplitBytes: size}, toDisk(b, dir, time.Now().UnixNano()))
			batches := mixed(64)
			batch := batchOf(0, batches[0].Packets...)
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				for k, p := range batches[i%len(batches)].Packets {
					batch.Packets[k].Data, batch.Packets[k].Len = p.Data, p.Len
				}
				cs.Stage(0).Process(batch)
			}
			c.Finish("end")
			wait()
			f := cs.Finished()[0]
			b.ReportMetric(float64(cpuTime()-before)/float64(f.Captured), "cpu-ns/packet")
			b.ReportMetric(float64(f.Bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
			b.ReportMetric(float64(f.Dropped)/float64(f.Captured+f.Dropped)*100, "%dropped")
		})
	}
}
