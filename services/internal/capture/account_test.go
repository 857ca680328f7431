package capture

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/api"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// A moody is a sink that is slow, blocks for good, or fails, after it took some bytes.
type moody struct {
	mood  string
	after int // bytes

	mu sync.Mutex

	taken bytes.Buffer
	until time.Time
	wake  chan struct{}
}

func newMoody(mood string, after int) *moody {
	return &moody{mood: mood, after: after, wake: make(chan struct{}, 100)}
}

func (m *moody) Write(b []byte) (int, error) {
	room := m.after - m.size()
	if m.mood == "good" || room >= len(b) {
		return m.take(b), nil
	}
	switch m.mood {
	case "slow":
		time.Sleep(3 * time.Millisecond)
		return m.take(b), nil
	case "fails":
		return m.take(b[:max(room, 0)]), &sink.End{Words: "no space left on the storage", Failed: true}
	}
	n := m.take(b[:max(room, 0)])
	for { // blocks
		m.mu.Lock()
		until := m.until
		m.mu.Unlock()
		if !until.IsZero() {
			time.Sleep(min(time.Until(until), 5*time.Millisecond))
			return n, &sink.End{Words: "client disconnected", Err: os.ErrDeadlineExceeded}
		}
		<-m.wake
	}
}

func (m *moody) take(b []byte) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken.Write(b)
	return len(b)
}

func (m *moody) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken.Len()
}

func (m *moody) bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.taken.Bytes())
}

func (m *moody) Flush() error { return nil }

func (m *moody) Close() error { return nil }

func (m *moody) Interrupt(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until = at
	m.wake <- struct{}{}
}

func total(v *api.Capture) uint64 { return v.Captured + v.Dropped + v.Ignored + v.Held }

// running is what a test knows of a capture.
type running struct {
	c     *Capture
	sink  *moody
	wait  func() error
	since uint64 // frames processed before it was attached
	yes   func(n uint64) bool
	spec  Spec
}

// Captures with all kinds of filters, limits and sinks come and go while workers run; whenever the workers pause the counters of each must
// add up to the frames that passed since it began, and at its end to what is in its file.
func TestCountersAddUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	for workers := 1; workers <= 3; workers++ {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) { addUp(t, rand.New(rand.NewPCG(seed, 0)), workers, rounds) })
	}
}

func addUp(t *testing.T, rng *rand.Rand, workers, rounds int) {
	var lost atomic.Uint64
	cs := newCaptures(t, Options{Source: Source{Workers: workers, Lost: func() []uint64 { return []uint64{lost.Load(), 0} }},
		Max: 8, Directory: t.TempDir(), Report: func(err error) { t.Error(err) }})
	var alive []*running
	var frames uint64
	now := int64(1_700_000_000e9)
	for range rounds {
		for len(alive) < 6 && rng.IntN(3) != 0 {
			alive = append(alive, startRandom(t, cs, rng, frames))
		}
		frames += playRound(cs, rng, workers, frames, &now)
		lost.Add(uint64(rng.IntN(3)))
		for _, v := range cs.List() {
			for _, r := range alive {
				if r.c.ID() == v.ID && r.spec.MaxPackets+r.spec.MaxBytes == 0 && r.sink.mood != "fails" && total(&v) != frames-r.since {
					t.Fatalf("%s: %d frames passed, counters are %+v", r.sink.mood, frames-r.since, v.Counters)
				}
			}
		}
		for i := 0; i < len(alive); i++ {
			if rng.IntN(8) != 0 {
				continue
			}
			cs.Stop(alive[i].c.ID(), "stopped") // not found: it has ended
			checkEnd(t, cs, alive[i], frames)
			alive = append(alive[:i], alive[i+1:]...)
		}
	}
	for _, r := range alive {
		cs.Stop(r.c.ID(), "stopped")
		checkEnd(t, cs, r, frames)
	}
	if n := len(cs.List()); n != 0 {
		t.Errorf("%d captures still run", n)
	}
	cs.Close(t.Context(), "the end")
	if files, _ := os.ReadDir(cs.Directory); len(files) != 1 {
		t.Errorf("the directory holds %v", files)
	}
}

func startRandom(t *testing.T, cs *Captures, rng *rand.Rand, frames uint64) *running {
	k := uint64(1 + rng.IntN(5))
	r := &running{
		yes:   func(n uint64) bool { return n%k == 0 },
		since: frames,
		sink:  newMoody([]string{"good", "good", "slow", "blocks", "fails"}[rng.IntN(5)], rng.IntN(300_000)),
		spec:  Spec{QueueBytes: uint64(rng.IntN(4 << 20)), SnapLen: uint32(rng.IntN(2) * 100), Format: []Format{Pcapng, Pcap, PcapNanos}[rng.IntN(3)]},
	}
	if k > 1 {
		r.spec.Filter, r.spec.Expression = every(t, k), fmt.Sprintf("every %d", k)
	}
	switch rng.IntN(6) {
	case 0:
		r.spec.MaxPackets = uint64(1 + rng.IntN(2000))
	case 1:
		r.spec.MaxBytes = uint64(1 + rng.IntN(200_000))
	}
	r.c, r.wait = begin(t, cs, r.spec, r.sink)
	return r
}

// playRound makes the workers process a few batches at the same time, and returns the number of frames.
func playRound(cs *Captures, rng *rand.Rand, workers int, number uint64, now *int64) (frames uint64) {
	batches := make([][]*pipeline.Batch, workers)
	for range rng.IntN(40) {
		w := rng.IntN(workers)
		var packets []packet.Packet
		for range rng.IntN(200) {
			*now += int64(rng.IntN(2000))
			packets = append(packets, frame(number+frames, 60+rng.IntN(1400), *now, uint16(rng.IntN(2))))
			frames++
		}
		b := batchOf(w, packets...)
		b.Now = *now
		batches[w] = append(batches[w], b)
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for _, b := range batches[w] {
				cs.Stage(w).Process(b)
			}
		})
	}
	all.Wait()
	return frames
}

func checkEnd(t *testing.T, cs *Captures, r *running, frames uint64) {
	t.Helper()
	err := r.wait()
	<-r.c.Done()
	var v api.Capture
	for _, f := range cs.Finished() {
		if f.ID == r.c.ID() {
			v = f
		}
	}
	limits := r.spec.MaxPackets + r.spec.MaxBytes
	if limits == 0 && r.sink.mood != "fails" && total(&v) != frames-r.since {
		t.Errorf("%s: %d frames passed, finished with %+v", r.sink.mood, frames-r.since, v)
	}
	if total(&v) > frames-r.since {
		t.Errorf("%s: counts more than the %d frames that passed: %+v", r.sink.mood, frames-r.since, v)
	}
	if r.spec.MaxPackets != 0 && v.Captured > r.spec.MaxPackets || r.spec.MaxBytes != 0 && v.Bytes > r.spec.MaxBytes {
		t.Errorf("exceeds its limits %d packets, %d bytes: %+v", r.spec.MaxPackets, r.spec.MaxBytes, v)
	}
	if v.Reason == "packet limit" && err == nil && v.Captured != r.spec.MaxPackets {
		t.Errorf("ended by its limit of %d packets with %d: %+v", r.spec.MaxPackets, v.Captured, v)
	}
	if r.sink.mood == "good" && err != nil {
		t.Errorf("a good sink: %v", err)
	}
	checkFile(t, r, &v, err)
}

// checkFile compares what the sink took with the counters. The end of a stream that was broken off may be cut.
func checkFile(t *testing.T, r *running, v *api.Capture, runErr error) {
	t.Helper()
	file := r.sink.taken.Bytes()
	packets, err := readSome(file)
	if err != nil && runErr == nil {
		t.Errorf("%s: the file cannot be read: %v", r.sink.mood, err)
	}
	var size uint64
	last := map[uint16]uint64{}
	for _, p := range packets {
		n := number(p.Data)
		if !r.yes(n) || n < r.since {
			t.Fatalf("packet %d is in the file", n)
		}
		size += uint64(len(p.Data))
		last[p.Iface] = n
	}
	if uint64(len(packets)) != v.Captured || size != v.Bytes {
		t.Errorf("%s: the file has %d packets, %d bytes, the counters are %+v", r.sink.mood, len(packets), size, v)
	}
}

// A capture ends exactly at its limit: nothing behind the last packet is looked at.
func TestLimitEndsTheLooking(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cs := newCaptures(t, Options{})
		k, limit := uint64(1+rng.IntN(4)), uint64(1+rng.IntN(300))
		m := newMoody("good", 0)
		_, wait := begin(t, cs, Spec{Filter: every(t, k), Expression: "x", MaxPackets: limit}, m)
		now := int64(0)
		for n := uint64(0); n < 3000; {
			n += playRound(cs, rng, 1, n, &now)
		}
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		want := (limit-1)*k + 1
		if f := cs.Finished()[0]; total(&f) != want || f.Captured != limit || f.Dropped != 0 {
			t.Errorf("every %d up to %d: %d frames were looked at, want %d: %+v", k, limit, total(&f), want, f)
		}
	}
}

// So it does if the last packet is the first or the last one of a batch.
func TestLimitAtTheEdgeOfABatch(t *testing.T) {
	for limit := uint64(1); limit <= 6; limit++ {
		cs := newCaptures(t, Options{})
		_, wait := begin(t, cs, Spec{MaxPackets: limit}, newMoody("good", 0))
		for i := range uint64(4) {
			cs.Stage(0).Process(batchOf(0, frame(2*i, 60, 1, 0), frame(2*i+1, 60, 1, 1)))
		}
		wait()
		if v := cs.Finished()[0]; v.Captured != limit || total(&v) != limit {
			t.Errorf("limit %d: %+v", limit, v)
		}
	}
}

// A capture that never runs dry ends when it is stopped, and its client sees packets meanwhile.
func TestStopUnderLoad(t *testing.T) {
	cs := newCaptures(t, Options{})
	m := newMoody("slow", 0)
	c, wait := begin(t, cs, Spec{}, m)
	packets := make([]packet.Packet, 200)
	for i := range packets {
		packets[i] = frame(uint64(i), 1400, 1, 0)
	}
	stopped := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for {
			select {
			case <-stopped:
				return
			default:
				cs.Stage(0).Process(batchOf(0, packets...))
			}
		}
	})
	until(t, "packets arrive", func() bool { return m.size() > 20_000_000 })
	cs.Stop(c.ID(), "stopped")
	if wait(); cs.Finished()[0].Reason != "stopped" {
		t.Errorf("%+v", cs.Finished()[0])
	}
	close(stopped)
	feeding.Wait()
}

func TestReasons(t *testing.T) {
	for mood, want := range map[string]string{"fails": Failed + ": no space left on the storage", "blocks": Finished + ": stopped by admin"} {
		cs := newCaptures(t, Options{})
		c, wait := begin(t, cs, Spec{}, newMoody(mood, 400))
		for i := range uint64(100) {
			cs.Stage(0).Process(batchOf(0, frame(i, 100, int64(i), 0)))
		}
		if mood == "blocks" {
			if err := cs.Stop(c.ID(), "stopped by admin"); err != nil {
				t.Error(err)
			}
		}
		err := wait()
		f := cs.Finished()[0]
		if got := f.State + ": " + f.Reason; err == nil || got != want {
			t.Errorf("%s: %s, want %s; Run returned %v", mood, got, want, err)
		}
		if f.Captured+f.Dropped != total(&f) || f.Captured == 100 {
			t.Errorf("%s: %+v", mood, f)
		}
		var e *api.Error
		if err := cs.Stop(c.ID(), "again"); !errors.As(err, &e) || e.Kind != api.NotFound {
			t.Errorf("stopping it again: %v", err)
		}
	}
}
