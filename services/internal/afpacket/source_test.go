package afpacket

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
	"galvo/services/internal/pipeline"
)

// numbered makes n frames of some flows; the last 4 bytes of each say which frame of its flow it is.
func numbered(n, flows, size int) []rig.Frame {
	list := make([]rig.Frame, n)
	for i := range list {
		ip := v4(byte(2*(i%flows)), byte(2*(i%flows)+1), 0)
		ip = append(ip, make([]byte, max(0, size-14-len(ip)))...)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint32(ip[len(ip)-4:], uint32(i/flows))
		list[i].Data = ethernet(byte(2*(i%flows)), byte(2*(i%flows)+1), "0800", ip)
	}
	return list
}

// mustPlay plays frames, and it is an error if one of them did not arrive at the other end.
func mustPlay(t testing.TB, p rig.Player, frames []rig.Frame) {
	t.Helper()
	r, err := p.Play(context.Background(), frames)
	if err != nil || r.Sent != len(frames) || r.Dropped != 0 {
		t.Error(r, err)
	}
}

// playBeside plays frames beside the test, which waits for it before its network goes away.
func playBeside(t *testing.T, p rig.Player, frames []rig.Frame) {
	t.Helper()
	var playing sync.WaitGroup
	t.Cleanup(playing.Wait)
	playing.Go(func() { mustPlay(t, p, frames) })
}

func TestOrderWithinFlows(t *testing.T) {
	const n, flows, workers = 20_000, 16, 2
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, workers)
	addPort(t, ps, rx, 1, workers, Options{})
	playBeside(t, rig.Player{To: tx, Rate: 100_000}, numbered(n, flows, 300))
	next := map[byte]uint32{}
	for i, f := range receive(t, ps, workers, count(n)) {
		flow, number := f.Data[5], binary.BigEndian.Uint32(f.Data[len(f.Data)-4:])
		if number != next[flow] {
			t.Fatalf("frame %d is number %d of its flow, want %d", i, number, next[flow])
		}
		next[flow]++
	}
}

// What a ring has no room for is counted, to the frame.
func TestOverload(t *testing.T) {
	const n, workers = 20_000, 2
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, workers)
	port := addPort(t, ps, rx, 1, workers, Options{Blocks: 2})
	mustPlay(t, rig.Player{To: tx}, numbered(n, 16, 500))
	s := port.Stats()
	if s.Received+s.LostKernel != n || s.LostKernel == 0 || s.Freezes == 0 {
		t.Fatalf("stats are %+v after %d frames into a small ring", s, n)
	}
	all := receive(t, ps, workers, count(int(s.Received)))
	if s = port.Stats(); uint64(len(all)) != s.Received || s.Frames != s.Received || s.Received+s.LostKernel != n {
		t.Errorf("stats are %+v after reading %d frames", s, len(all))
	}
	// The rings are as good as new.
	mustPlay(t, rig.Player{To: tx}, numbered(100, 16, 500))
	receive(t, ps, workers, count(100))
}

// Blocks are given back late enough that a batch's bytes stay, and early enough that a small ring goes on and on.
func TestSmallRing(t *testing.T) {
	const rounds = 50
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, 1)
	addPort(t, ps, rx, 1, 1, Options{Blocks: 8})
	for i := range rounds {
		frames := numbered(20, 1, 9000) // a fifth of a block
		mustPlay(t, rig.Player{To: tx}, frames)
		for j, f := range receive(t, ps, 1, count(len(frames))) {
			if number := binary.BigEndian.Uint32(f.Data[len(f.Data)-4:]); int(number) != j {
				t.Fatalf("round %d: frame %d is number %d", i, j, number)
			}
		}
	}
}

func TestDownAndUp(t *testing.T) {
	const workers = 2
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, workers)
	port := addPort(t, ps, rx, 1, workers, Options{})
	frames := numbered(640, 64, 100)
	workerOf := map[byte]int{}
	for round := range 3 {
		mustPlay(t, rig.Player{To: tx}, frames)
		for _, f := range receive(t, ps, workers, count(len(frames))) {
			flow := f.Data[5]
			if w, ok := workerOf[flow]; ok && w != f.worker {
				t.Fatalf("round %d: flow %d moved from worker %d to %d", round, flow, w, f.worker)
			}
			workerOf[flow] = f.worker
		}
		if err := errors.Join(rx.Up(false), rx.Up(true)); err != nil {
			t.Fatal(err)
		}
		if err := rx.WaitUp(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if port.Gone() {
		t.Error("the port counts as gone")
	}
}

func TestAddedWhileDown(t *testing.T) {
	const workers = 2
	tx, rx := rig.VethFor(t)
	if err := rx.Up(false); err != nil {
		t.Fatal(err)
	}
	ps := newPorts(t, workers)
	addPort(t, ps, rx, 1, workers, Options{})
	if err := errors.Join(rx.Up(true), rx.WaitUp(context.Background())); err != nil {
		t.Fatal(err)
	}
	mustPlay(t, rig.Player{To: tx}, numbered(640, 64, 100))
	receive(t, ps, workers, count(640))
}

// run lets workers count frames until the test ends.
func run(t *testing.T, ps *Ports, workers int) *counter {
	c := &counter{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			w := &pipeline.Worker{Source: ps.Source(i), Index: i, Stages: []pipeline.Stage{c}}
			if err := w.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	return c
}

// A counter counts frames of several workers.
type counter struct {
	mu     sync.Mutex
	frames map[int]int // by interface
}

func (c *counter) Process(b *pipeline.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames == nil {
		c.frames = map[int]int{}
	}
	for i := range b.Packets {
		c.frames[int(b.Packets[i].Iface)]++
	}
}

func (c *counter) of(iface int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[iface]
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// A port goes away under load and comes back: its last frames are delivered and counted, and another port does not notice.
func TestRemovedAndBack(t *testing.T) {
	const n, workers = 20_000, 2
	ps := NewPorts(workers)
	t.Cleanup(ps.Close) // after the workers
	c := run(t, ps, workers)
	stayTx, stayRx := rig.VethFor(t)
	stay := addPort(t, ps, stayRx, 9, workers, Options{})
	stopped := make(chan rig.Report)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		r, err := (&rig.Player{To: stayTx, Rate: 10_000}).Play(ctx, numbered(1_000_000, 16, 100))
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		stopped <- r
	}()
	for round := range 3 {
		tx, rx := rig.VethFor(t)
		port := addPort(t, ps, rx, 1, workers, Options{Blocks: 8})
		if port.Iface != 0 || ps.Source(0).Interfaces()[0].MAC == [6]byte{} {
			t.Errorf("round %d has interface %d of %+v", round, port.Iface, ps.Source(0).Interfaces())
		}
		before := c.of(0)
		go func() {
			_, _ = (&rig.Player{To: tx, Rate: 200_000}).Play(context.Background(), numbered(n, 16, 200)) // ends with an error: the port vanishes
		}()
		waitFor(t, "frames of the port", func() bool { return c.of(0)-before > n/4 })
		if err := rx.Remove(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the port is gone", port.Gone)
		if err := ps.Remove(context.Background(), port); err != nil {
			t.Fatal(err)
		}
		if s := port.Stats(); s.Received != s.Frames || int(s.Frames) != c.of(0)-before {
			t.Errorf("round %d: stats are %+v, counted %d", round, s, c.of(0)-before)
		}
	}
	stop()
	sent := <-stopped
	waitFor(t, "all frames of the other port", func() bool {
		s := stay.Stats()
		return c.of(int(stay.Iface)) == int(s.Received) && s.Received+s.LostKernel+sent.Dropped >= uint64(sent.Sent)
	})
	if s := stay.Stats(); int(s.Received) != sent.Sent || s.LostKernel != 0 {
		t.Errorf("%v, but the port that stayed has %+v", sent, s)
	}
}

// A port that is taken out of service and put back keeps its place in the interface table.
func TestPortKeepsItsPlace(t *testing.T) {
	ps := NewPorts(1)
	t.Cleanup(ps.Close)
	c := run(t, ps, 1)
	tx, rx := rig.VethFor(t)
	for round := 1; round <= 3; round++ {
		port := addPort(t, ps, rx, 1, 1, Options{})
		mustPlay(t, rig.Player{To: tx}, numbered(100, 1, 100))
		// Not a frame may be left in the ring, though most of its block is empty.
		if err := ps.Remove(context.Background(), port); err != nil {
			t.Fatal(err)
		}
		if got := c.of(0); got != 100*round || len(ps.Source(0).Interfaces()) != 1 {
			t.Fatalf("round %d: %d frames, interfaces %v", round, got, ps.Source(0).Interfaces())
		}
	}
}

func TestAddErrors(t *testing.T) {
	_, rx := rig.VethFor(t)
	_, other := rig.VethFor(t)
	open := func(e *rig.End, n int) (fds []int) {
		if err := e.Netns.Run(func() (err error) { fds, err = Open(e.Index, n); return err }); err != nil {
			t.Fatal(err)
		}
		return fds
	}
	gone := open(other, 2)
	if err := other.Remove(); err != nil {
		t.Fatal(err)
	}
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		port int
		fds  []int
	}{
		{"too few", 1, open(rx, 1)},
		{"too many", 1, open(rx, 3)},
		{"none", 1, nil},
		{"gone", 1, gone},
		{"not sockets", 1, pipe},
		{"no port id", 0, open(rx, 2)},
	} {
		ps := newPorts(t, 2)
		if _, err := ps.Add(pipeline.Interface{Port: c.port}, c.fds, Options{}); err == nil {
			t.Errorf("%s: no error", c.name)
		} else {
			t.Logf("%s: %v", c.name, err)
		}
		for _, fd := range c.fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
				t.Errorf("%s: descriptor %d is still open", c.name, fd)
			}
		}
	}
	if _, err := Open(1<<30, 1); !errors.Is(err, unix.ENODEV) {
		t.Errorf("Open of no interface: %v", err)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	const n = 50_000
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, 1)
	port := addPort(t, ps, rx, 1, 1, Options{Blocks: 128}) // the kernel may end one every 20 ms while the player waits for a processor
	mustPlay(t, rig.Player{To: tx}, numbered(n, 16, 100))
	var b pipeline.Batch
	next := func() {
		if err := ps.Source(0).Next(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
	}
	next()
	calls := 0
	for ; port.Stats().Frames < n && calls < n; calls += 20 {
		if a := testing.AllocsPerRun(20, next); a != 0 {
			t.Fatalf("%.2f allocations per batch", a)
		}
	}
	if a := testing.AllocsPerRun(3, next); a != 0 || len(b.Packets) != 0 {
		t.Errorf("%.2f allocations of calls that find nothing and wait; %d packets", a, len(b.Packets))
	}
	if s := port.Stats(); s.Frames != n {
		t.Errorf("%d frames: %+v", s.Frames, s)
	}
}

// A port that falls silent costs the others nothing but a moment of delay, however small their rings and however long it lasts.
func TestQuietPort(t *testing.T) {
	const workers = 1
	ps := NewPorts(workers)
	t.Cleanup(ps.Close) // after the workers
	c := run(t, ps, workers)
	quietTx, quietRx := rig.VethFor(t)
	busyTx, busyRx := rig.VethFor(t)
	addPort(t, ps, quietRx, 1, workers, Options{})
	busy := addPort(t, ps, busyRx, 2, workers, Options{Blocks: 100}) // 2 s, if the worker does not come to its turn
	if _, err := (&rig.Player{To: quietTx}).Play(context.Background(), numbered(100, 1, 100)); err != nil {
		t.Fatal(err)
	}
	// Slow enough that every block is ended by the clock, long enough that waiting block by block would have filled the ring.
	const n = 1200
	if _, err := (&rig.Player{To: busyTx, Rate: 300}).Play(context.Background(), numbered(n, 1, 100)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all frames", func() bool { return uint64(c.of(1))+busy.Stats().LostKernel == n })
	if s := busy.Stats(); s.LostKernel != 0 {
		t.Errorf("%d frames lost beside a quiet port", s.LostKernel)
	}
}

// What an empty batch says of its time holds, with frames in the block that the kernel fills and without.
func TestGiven(t *testing.T) {
	r := &ring{mem: make([]byte, 2*BlockSize)}
	s := &Source{rings: []*ring{r}}
	const now = 1_700_000_000e9
	idle := now - int64(onTheWay)
	check := func(what string, want int64) {
		t.Helper()
		if got := s.given(now); got != want {
			t.Errorf("%s: everything is given up to %d ns before now, want %d", what, now-got, now-want)
		}
	}
	check("an empty ring", idle)
	h := r.header(0)
	h.Offset_to_first_pkt, h.Num_pkts = 48, 1
	check("a frame without a stamp", -1)
	first := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[48]))
	first.Sec, first.Nsec = uint32((int64(now)-70e6)/1e9), uint32((int64(now)-70e6)%1e9)
	check("a frame that waits for a timer that is late", now-70e6-1)
	h.Block_status = unix.TP_STATUS_USER
	if !r.ready() {
		t.Fatal("the block is not ready")
	}
	check("a frame that may be taken", now-70e6-1)
	r.left = 0
	r.advance()
	check("the next block", idle)
	r.release()
	r.block = 0
	check("a block that the kernel may take and has not yet", idle)
}

// No frame comes that is older than what was said to be given.
func TestGivenHolds(t *testing.T) {
	const n = 30
	tx, rx := rig.VethFor(t)
	ps := newPorts(t, 1)
	addPort(t, ps, rx, 1, 1, Options{})
	playBeside(t, rig.Player{To: tx, Rate: 15}, numbered(n, 16, 100)) // slow enough for a batch without frames between two of them
	given, empty := int64(0), 0
	var b pipeline.Batch
	for got := 0; got < n; got += len(b.Packets) {
		if err := ps.Source(0).Next(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if f := &b.Packets[i].Frame; f.Time <= given {
				t.Fatalf("frame %d came %d ns behind what was given", got+i, given-f.Time)
			}
		}
		if len(b.Packets) == 0 {
			given = max(given, b.Mark())
			empty++
		}
	}
	if given == 0 {
		t.Error("no batch was empty")
	}
	t.Logf("%d empty batches", empty)
}
