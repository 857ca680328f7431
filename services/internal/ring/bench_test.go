package ring

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
	"galvo/services/internal/ring/uring"
)

// nowhere is a Store that keeps no block: what a stage and the writers cost without a disk.
type nowhere struct{ *testDisk }

func (n nowhere) Open(name string, write bool) (files.File, error) {
	f, err := n.testDisk.Open(name, write)
	return nothing{f}, err
}

type nothing struct{ files.File }

func (nothing) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// BenchmarkStage runs the generator's traffic, of 334 bytes a packet, through a worker: without a ring, and with one whose writers keep nothing.
func BenchmarkStage(b *testing.B) {
	frames := mix(41, 200_000)
	inOnePiece(frames)
	b.Run("without", func(b *testing.B) { benchWorker(b, frames) })
	b.Run("with", func(b *testing.B) {
		set := newSetting(b, 1, 256<<20)
		set.cfg.SegmentBytes, set.cfg.QueueBytes = 64<<20, 64<<20
		set.create(b)
		set.cfg.Store = func(dir string) files.Store { return nowhere{set.disks[dir]} }
		r := set.open(b)
		s := r.Stage(0, table)
		benchWorker(b, frames, s)
		s.Finish()
		if n := r.State().Dropped["queue"]; n > r.State().Packets/10 {
			b.Logf("%d packets dropped", n)
		}
		closeRing(b, r)
	})
}

// inOnePiece puts the bytes of frames into one piece of memory, as those of a receive ring are.
func inOnePiece(frames []packet.Frame) {
	n := 0
	for _, f := range frames {
		n += len(f.Data)
	}
	all := make([]byte, 0, n)
	for i, f := range frames {
		at := len(all)
		all = append(all, f.Data...)
		frames[i].Data, frames[i].Iface = all[at:len(all):len(all)], 0
	}
}

// benchWorker reports what a packet costs on all processors: the least of all rounds, because what else runs on the machine only adds.
func benchWorker(b *testing.B, frames []packet.Frame, stages ...pipeline.Stage) {
	p := newPlayer(stages...)
	p.play(b, frames)
	least := time.Duration(math.MaxInt64)
	for b.Loop() {
		before := cpu()
		p.play(b, frames)
		least = min(least, cpu()-before)
	}
	b.ReportMetric(float64(least.Nanoseconds())/float64(len(frames)), "cpu-ns/packet")
}

// A chest is a stage that builds blocks, and keeps what an index is made of.
type chest struct {
	builder *block.Builder
	image   block.Image
	shelves index.Shelves
	slots   []index.Slot
}

func (c *chest) Process(batch *pipeline.Batch) {
	for i := range batch.Packets {
		p := &batch.Packets[i]
		if c.builder.Image != nil && !c.builder.Room(len(p.Data)) {
			c.builder.Finish(&c.image)
			c.slots = append(c.slots, index.SlotOf(&c.image.Header))
			c.shelves.Keep(&c.slots[len(c.slots)-1], &c.image, &index.Shelves{})
			c.builder.Reset()
		}
		if c.builder.Image == nil {
			c.builder.Begin(&c.image, block.Header{Seq: uint64(len(c.slots) + 1)}, block.AppendHead(nil, ethernet))
		}
		c.builder.Add(p, &batch.Meta[i], len(p.Data))
	}
}

// BenchmarkClose makes the index of a segment whose keys nobody has touched for a while.
func BenchmarkClose(b *testing.B) {
	for _, from := range []struct {
		name   string
		frames func(testing.TB) []packet.Frame
		blocks int
	}{
		{"generator", func(testing.TB) []packet.Frame { return mix(41, 200_000) }, 61},
		{"corpus", func(t testing.TB) []packet.Frame { return corpus(t, 200_000) }, 23},
	} {
		b.Run(from.name, func(b *testing.B) {
			c := &chest{builder: block.NewBuilder(), image: block.Image{Buf: make([]byte, block.Size)}}
			worker(b, []pipeline.Stage{c}, &traffic{frames: from.frames(b)})
			if len(c.slots) < from.blocks {
				b.Fatalf("%d blocks are too few", len(c.slots))
			}
			slots, keys := c.slots[:from.blocks], 0
			for i := range slots {
				keys += len(slots[i].Keys)
			}
			var w index.Writer
			defer w.Free()
			file, other := nothing{}, make([]byte, 64<<20)
			least := time.Hour
			for b.Loop() {
				for i := range other { // the processor's cache has had other things in it
					other[i]++
				}
				before := cpu()
				if err := w.Write(new(index.Index), &index.Segment{File: file, Bytes: int64(from.blocks+1) * block.Size}, slots); err != nil {
					b.Fatal(err)
				}
				least = min(least, cpu()-before)
			}
			b.ReportMetric(float64(keys), "keys")
			b.ReportMetric(float64(least.Nanoseconds())/float64(keys), "cpu-ns/key")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpu returns the time that the process has used on all processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchDir is where benchmarks write: on a disk, not in memory.
func benchDir(b *testing.B) string {
	if dir := os.Getenv("GALVO_BENCH_DIR"); dir != "" {
		dir, err := os.MkdirTemp(dir, "ring")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return b.TempDir()
}

// BenchmarkWrite overwrites a ring on the disk with full blocks as fast as the writers take them.
func BenchmarkWrite(b *testing.B) {
	b.Run("pwrite", func(b *testing.B) { benchWrite(b, files.Open) })
	b.Run("io_uring", func(b *testing.B) {
		u, err := uring.New(func(err error) { b.Error(err) })
		if err != nil {
			b.Skip(err)
		}
		benchWrite(b, u.Directory)
	})
}

func benchWrite(b *testing.B, store func(string) files.Store) {
	c := Config{Store: store, Report: func(err error) { b.Error(err) }, Name: "bench", Dirs: []string{filepath.Join(benchDir(b), "ring")}, Bytes: 2 << 30, SegmentBytes: 256 << 20}
	if err := Create(context.Background(), c); err != nil {
		b.Fatal(err)
	}
	r, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	k := &keeper{}
	worker(b, []pipeline.Stage{k}, &traffic{frames: mix(41, 3000)})
	bl := block.NewBuilder()
	head := block.AppendHead(nil, ethernet)
	before := cpu()
	for b.Loop() {
		// A full block is made once for each image; then only its number changes.
		img := r.take()
		for ; img == nil; img = r.take() {
			time.Sleep(50 * time.Microsecond)
		}
		if img.Header.Packets == 0 {
			bl.Begin(img, block.Header{Generation: r.d.Generation, Ring: r.d.Ring}, head)
			for i := range k.batches {
				for j := range k.batches[i].Packets {
					if p := &k.batches[i].Packets[j]; bl.Room(len(p.Data)) {
						bl.Add(p, &k.batches[i].Meta[j], len(p.Data))
					}
				}
			}
			bl.Finish(img)
			keys := img.Keys
			bl.Reset()
			img.Keys = keys
		}
		r.handing.Lock()
		img.Header.Seq = r.seq.Add(1)
		img.Header.Total = r.total.Add(uint64(img.Header.Bytes))
		r.waiting[img.Header.Seq] = img
		r.flights[img.Header.Seq] = img.Header.Total
		r.handing.Unlock()
		r.queue <- img
	}
	waitIdle(b, r)
	used, took := cpu()-before, b.Elapsed()
	gb := float64(b.N) * block.Size / 1e9
	b.ReportMetric(gb/took.Seconds(), "GB/s")
	b.ReportMetric(used.Seconds()/gb, "cpu-s/GB")
	b.ReportMetric(0, "ns/op")
	closeRing(b, r)
	if fio, err := exec.LookPath("fio"); err == nil {
		rate := overwrite(b, fio, c.Dirs[0], b.N)
		b.ReportMetric(rate, "fio-GB/s")
		b.ReportMetric(gb/took.Seconds()/rate, "x-fio")
	}
}

// overwrite lets fio overwrite the segments of a ring, in the same blocks and through io_uring, and returns GB/s.
func overwrite(b *testing.B, fio, dir string, blocks int) float64 {
	segments, err := filepath.Glob(filepath.Join(dir, "*.pcapng"))
	if err != nil || len(segments) == 0 {
		b.Fatal(dir, err)
	}
	out, err := exec.Command(fio, "--name=x", "--filename="+strings.Join(segments, ":"), "--file_service_type=sequential", "--bs=1M", "--rw=write", "--ioengine=io_uring",
		"--iodepth=8", "--direct=1", "--overwrite=1", "--allow_file_create=0", "--end_fsync=1", "--fallocate=none", fmt.Sprintf("--size=%d", int64(len(segments))*256<<20), fmt.Sprintf("--io_size=%d", int64(blocks)*block.Size),
		"--output-format=json").Output()
	if err != nil {
		b.Fatal("fio: ", err)
	}
	var said struct {
		Jobs []struct {
			Write struct {
				Bytes   float64 `json:"io_bytes"`
				Runtime float64 // ms
			}
		}
	}
	if err := json.Unmarshal(out, &said); err != nil || len(said.Jobs) != 1 || said.Jobs[0].Write.Runtime == 0 {
		b.Fatalf("fio: %v: %s", err, out)
	}
	w := said.Jobs[0].Write
	return w.Bytes / w.Runtime / 1e6
}

// round changes the hosts of frames, and moves their time.
func round(frames []packet.Frame, n int, length int64) []packet.Frame {
	var p packet.Packet
	out := make([]packet.Frame, len(frames))
	for i, f := range frames {
		f.Data = append([]byte(nil), f.Data...)
		p.Frame = f
		p.Decode(packet.LinkEthernet)
		if p.Layers&packet.IPv4 != 0 {
			f.Data[p.L3+13] ^= byte(n)
			f.Data[p.L3+17] ^= byte(n)
		}
		f.Time += int64(n) * length
		out[i] = f
	}
	return out
}

// filled makes a ring on the disk that holds so many bytes of traffic, and twelve packets of a host that comes in three places.
func filled(b *testing.B, bytes int64) *Ring {
	c := Config{Name: "bench", Dirs: []string{filepath.Join(benchDir(b), "ring")}, Bytes: bytes + 512<<20, SegmentBytes: 256 << 20}
	if err := Create(context.Background(), c); err != nil {
		b.Fatal(err)
	}
	r, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	base := mix(42, 200_000)
	length := base[len(base)-1].Time - epoch + 1000
	s := r.Stage(0, table)
	p := newPlayer(s)
	written := int64(0)
	for n := 0; written < bytes; n++ {
		frames := round(base, n, length)
		if n == 1 || n == 3 || n == 5 {
			for i := range 4 {
				rare := &frames[1000*i+500]
				var q packet.Packet
				q.Frame = *rare
				q.Decode(packet.LinkEthernet)
				if q.Layers&packet.IPv4 != 0 {
					copy(rare.Data[q.L3+12:], []byte{203, 0, 113, 77})
				}
			}
		}
		p.play(b, frames)
		for i := range frames {
			written += int64(len(frames[i].Data)) + 32
		}
		waitIdle(b, r)
	}
	s.Finish()
	waitIdle(b, r)
	closeRing(b, r)
	if r, err = Open(c); err != nil {
		b.Fatal(err)
	}
	return r
}

// drain takes all packets of a query.
func drain(b *testing.B, r *Ring, q Query) (n uint64, scan Scan) {
	res, err := r.Query(context.Background(), q)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Close()
	var batch pipeline.Batch
	for {
		err := res.Next(context.Background(), &batch)
		if err == io.EOF {
			return n, res.Scan()
		}
		if err != nil {
			b.Fatal(err)
		}
		n += uint64(len(batch.Packets))
	}
}

// dropIndexes makes the ring like one that was just opened: nothing is known of its closed segments.
func (r *Ring) dropIndexes() {
	for _, d := range r.devices {
		for _, s := range d.segments {
			s.index.Drop()
			if s.State == state.Closed {
				s.slots = nil
			}
		}
	}
}

// BenchmarkQuery asks rings of several sizes for a rare host with the same twelve packets in each, for a port that is in every block, and for everything. It
// finds the ring opened a while ago, when what every query asks for has been read, or just opened, and reads past the page cache. In the same round it reads all blocks with nothing done to them: x-raw is the ratio to that, of
// the shortest times.
func BenchmarkQuery(b *testing.B) {
	for _, gb := range []float64{0.5, 1, 2, 4, 8} {
		b.Run(fmt.Sprint(gb, "GB"), func(b *testing.B) {
			r := filled(b, int64(gb*1e9))
			defer closeRing(b, r)
			for _, ask := range []struct {
				name, text string
				warm       bool // the ring was opened a while ago
			}{{"rare", "ip == 203.0.113.77", true}, {"rare, just opened", "ip == 203.0.113.77", false}, {"wide", "port == 443", false}, {"all", "", false}} {
				b.Run(ask.name, func(b *testing.B) {
					q := Query{From: math.MinInt64, To: math.MaxInt64, Filter: mustFilter(b, ask.text)}
					var n uint64
					var scan Scan
					query, raw, used := time.Hour, time.Hour, time.Duration(0)
					for b.Loop() {
						r.dropIndexes()
						if ask.warm {
							r.warm()
						}
						began, before := time.Now(), cpu()
						n, scan = drain(b, r, q)
						query, used = min(query, time.Since(began)), used+cpu()-before
						began = time.Now()
						rawScan(b, r)
						raw = min(raw, time.Since(began))
					}
					b.ReportMetric(query.Seconds()*1e3, "ms")
					b.ReportMetric(query.Seconds()/raw.Seconds(), "x-raw")
					b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms")
					b.ReportMetric(float64(n), "packets")
					b.ReportMetric(float64(scan.Read), "blocks")
					b.ReportMetric(0, "ns/op") // both together say nothing
				})
			}
		})
	}
}

// BenchmarkIndexSize says what the indexes take of a ring's data, in percent: bloom filters with the exact index, and flow tables.
func BenchmarkIndexSize(b *testing.B) {
	for _, from := range measured {
		b.Run(from.name, func(b *testing.B) {
			var s sizes
			for b.Loop() {
				s = indexSizes(b, from.frames(b))
			}
			b.ReportMetric(s.index(), "index-%")
			b.ReportMetric(s.table(), "flows-%")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// rawReaders is how many blocks are read at once.
const rawReaders = 4

// rawScan reads every block of a ring past the page cache and looks at none.
func rawScan(b *testing.B, r *Ring) {
	var next atomic.Int64
	var places []place
	for _, s := range r.devices[0].segments {
		if s.State == state.Empty {
			continue
		}
		for i := range index.DataBlocks(r.d.SegmentBytes) {
			places = append(places, place{s, i})
		}
	}
	done := make(chan error)
	for range rawReaders {
		go func() {
			buf, err := files.Pages(block.Size)
			for err == nil {
				i := int(next.Add(1)) - 1
				if i >= len(places) {
					break
				}
				_, err = places[i].s.file.ReadAt(buf, int64(places[i].i)*block.Size)
			}
			files.Free(buf)
			done <- err
		}()
	}
	for range rawReaders {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
