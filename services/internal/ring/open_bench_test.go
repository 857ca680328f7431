package ring

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A large is a ring of two devices, each of which has a copy of each block, that has as much on the disk as opening it reads: the state, the tables of full segments, the
// ends of the blocks that lie first in each, and of all blocks of the segment that is being written. The files have holes for the rest.
type large struct {
	cfg      Config
	segments int
	bytes    int64 // of a segment
}

// largeID is the ring's.
const largeID = 0x6c61726765

// blockOf is what a block of the ring is, the n-th.
func blockOf(n uint64) block.Header {
	const bytes, length = 1_000_000, int64(8 * time.Millisecond)
	first := epoch + int64(n)*length
	return block.Header{Ring: largeID, Generation: 1, Seq: n, First: first, Last: first + length - 1, Packets: 1000, Bytes: bytes, Total: n * bytes, Synced: n * bytes}
}

// head is a file that keeps only the first pages of what is written at once: of an index its table.
type head struct{ *files.OSFile }

func (h head) WriteAt(b []byte, at int64) (int, error) {
	_, err := h.File.WriteAt(b[:min(len(b), 32*files.PageSize)], at)
	return len(b), err
}

func newLarge(t testing.TB, dir string, segments int, bytes int64) *large {
	l := &large{segments: segments, bytes: bytes}
	l.cfg = Config{Name: "large", Dirs: []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}, Replicas: 1, QueueBytes: 16 << 20, Workers: 1}
	b, err := files.Pages(block.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(b)
	for i, dir := range l.cfg.Dirs {
		if err := l.make(dir, i, b); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// make makes the files of a device.
func (l *large) make(dir string, device int, b []byte) error {
	store := files.Open(dir)
	entries := make([]state.Segment, l.segments)
	var w index.Writer
	defer w.Free()
	blocks := index.DataBlocks(l.bytes)
	block.Empty(b, largeID)
	empty, err := block.ParseHeader(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for n := range entries {
		f, err := os.Create(filepath.Join(dir, files.SegmentName(n)))
		if err != nil {
			return err
		}
		if err := f.Truncate(l.bytes); err != nil {
			return err
		}
		s := &segment{slots: make([]index.Slot, blocks)}
		last := n == l.segments-1
		s.Floor = 1 // it was overwritten
		for i := range s.slots {
			h := blockOf(uint64(n*blocks + i + 1))
			h.DataStart, h.DataEnd, h.FlowsEnd = empty.DataStart, empty.DataEnd, empty.FlowsEnd
			if last && i >= blocks/2 {
				h = blockOf(uint64(i + 1 - blocks/2)) // overwritten next
				h.Total, h.Bytes, h.DataStart, h.DataEnd, h.FlowsEnd = 1, 1, empty.DataStart, empty.DataEnd, empty.FlowsEnd
			}
			s.slots[i] = index.SlotOf(&h)
			if !last && i >= writers*burst+1 {
				continue
			}
			h.DataSum, h.Sum = empty.DataSum, empty.Sum
			block.Finish(b, &h)
			if _, err := f.WriteAt(b[block.Size-block.TrailerPages:], int64(i+1)*block.Size-block.TrailerPages); err != nil {
				return err
			}
			if i == 0 || last {
				if _, err := f.WriteAt(b[:files.PageSize], int64(i)*block.Size); err != nil {
					return err
				}
			}
		}
		s.span()
		entries[n] = s.Segment
		entries[n].State = state.Closed
		if last {
			entries[n].State = state.Open
		} else if err := w.Write(new(index.Index), &index.Segment{File: head{&files.OSFile{File: f}}, Bytes: l.bytes, Number: n, Ring: largeID}, s.slots); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := createTails(store, 1, b); err != nil {
		return err
	}
	f, err := store.Create(files.StateName, state.Size(l.segments))
	if err != nil {
		return err
	}
	st := state.File{File: f, Turns: make([]uint64, state.Size(l.segments)/(2*files.PageSize))}
	for range 3 {
		for n := 0; n < l.segments; n += state.EntriesPerPage {
			entry := func(n int) *state.Segment {
				if n < len(entries) {
					return &entries[n]
				}
				return nil
			}
			if err := st.WriteSegment(n, b[:files.PageSize], entry); err != nil {
				return err
			}
		}
		d := l.descriptor(device)
		if err := st.WriteDescriptor(&d, b[:files.PageSize]); err != nil {
			return err
		}
	}
	return f.Close()
}

func (l *large) descriptor(device int) state.Descriptor {
	return state.Descriptor{
		Name: "large", Ring: largeID, Device: uint16(device), Devices: 2, Copies: 1, Generation: 1, SegmentBytes: l.bytes, Segments: uint32(l.segments), Created: epoch - 1,
		Saved: epoch, Overwritten: math.MinInt64,
	}
}

// rewrite changes what the state of a device says of the ring.
func (l *large) rewrite(t testing.TB, device int, change func(*state.Descriptor)) {
	f, err := files.Open(l.cfg.Dirs[device]).Open(files.StateName, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := state.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := files.Pages(files.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(b)
	change(&c.Descriptor)
	if err := (&state.File{File: f, Turns: c.Turns}).WriteDescriptor(&c.Descriptor, b); err != nil {
		t.Fatal(err)
	}
}

// zero makes bytes of a device's state zeros.
func (l *large) zero(t testing.TB, device int, at, n int64) {
	f, err := os.OpenFile(filepath.Join(l.cfg.Dirs[device], files.StateName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
}

// largeStates are what a ring may be like when it is opened.
var largeStates = []struct {
	name string
	make func(t testing.TB, l *large)
}{
	{"closed", func(t testing.TB, l *large) {
		for i := range l.cfg.Dirs {
			l.rewrite(t, i, func(d *state.Descriptor) { d.Clean = true })
		}
	}},
	{"killed", func(testing.TB, *large) {}},
	{"missing", func(t testing.TB, l *large) { l.cfg.Dirs[1] += ".away" }},
	{"differ", func(t testing.TB, l *large) { l.rewrite(t, 0, func(d *state.Descriptor) { d.Generation++ }) }},
	{"page damaged", func(t testing.TB, l *large) { l.zero(t, 0, files.PageSize, files.PageSize) }},
	{"state damaged", func(t testing.TB, l *large) { l.zero(t, 0, 0, 2*files.PageSize) }},
	{"no state", func(t testing.TB, l *large) {
		for _, dir := range l.cfg.Dirs {
			if err := os.Remove(filepath.Join(dir, files.StateName)); err != nil {
				t.Fatal(err)
			}
		}
	}},
}

// dropCaches makes the kernel forget what it has read, if this process may.
func dropCaches() {
	if f, err := os.OpenFile("/proc/sys/vm/drop_caches", os.O_WRONLY, 0); err == nil {
		io.WriteString(f, "3") //nolint:errcheck // then it is warm
		f.Close()              //nolint:errcheck // likewise
	}
}

// BenchmarkOpen opens a ring of two devices of 4 TB each, in several states.
func BenchmarkOpen(b *testing.B) {
	l := newLarge(b, benchDir(b), 3725, 1<<30)
	small := make(map[string][]byte) // files, by their paths
	for _, dir := range l.cfg.Dirs {
		for _, name := range []string{files.StateName, files.TailsName} {
			path := filepath.Join(dir, name)
			content, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			small[path] = content
		}
	}
	for _, st := range largeStates {
		b.Run(st.name, func(b *testing.B) {
			var reads, bytes atomic.Int64
			least := time.Hour
			for b.Loop() {
				for path, content := range small {
					if err := os.WriteFile(path, content, 0o600); err != nil {
						b.Fatal(err)
					}
				}
				l := &large{cfg: l.cfg, segments: l.segments, bytes: l.bytes}
				l.cfg.Dirs = slices.Clone(l.cfg.Dirs)
				st.make(b, l)
				l.cfg.Store = func(dir string) files.Store {
					return &watched{files.Open(dir), func(n int, _ int64) { reads.Add(1); bytes.Add(int64(n)) }}
				}
				dropCaches()
				reads.Store(0)
				bytes.Store(0)
				began := time.Now()
				r, err := Open(l.cfg)
				least = min(least, time.Since(began))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(reads.Load()), "reads")
				b.ReportMetric(float64(bytes.Load())/1e6, "read-MB")
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapInuse)/1e6, "heap-MB")
				r.stock.wait(nil)
				b.ReportMetric(time.Since(began).Seconds()*1e3, "known-ms") // what is missing
				r.Close()                                                   //nolint:errcheck // a device may be missing
				runtime.GC()
			}
			b.ReportMetric(least.Seconds()*1e3, "ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
