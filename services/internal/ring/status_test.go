package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// What a ring has is said while its first block is unfinished, without anybody having asked for packets.
func TestSpanOfUnfinishedBlock(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	set.create(t)
	r := set.open(t)
	defer r.Close()
	stage := r.Stage(0, table)
	defer stage.Finish()
	if s := r.State(); s.Oldest != 0 || s.Newest != 0 {
		t.Errorf("an empty ring has packets of %d to %d", s.Oldest, s.Newest)
	}
	frames := mix(4, 40)
	newPlayer(stage).play(t, frames)
	if s := r.State(); s.Oldest != frames[0].Time || s.Newest != frames[len(frames)-1].Time || s.Packets != uint64(len(frames)) {
		t.Errorf("%d packets of %d to %d, want %d of %d to %d", s.Packets, s.Oldest, s.Newest, len(frames), frames[0].Time, frames[len(frames)-1].Time)
	}
}

// TestRateOfSlowLink: a link that fills a block in many seconds has a rate meanwhile.
func TestRateOfSlowLink(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	set.create(t)
	r := set.open(t)
	defer closeRing(t, r)
	stage := r.Stage(0, table)
	defer stage.Finish()
	p := newPlayer(stage)
	frames := mix(4, 1000) // less than a block
	for len(frames) > 0 && r.State().Rate == 0 {
		p.play(t, frames[:1])
		frames = frames[1:]
		time.Sleep(10 * time.Millisecond)
	}
	if len(frames) == 0 {
		t.Error("packets come, and the rate is 0")
	}
}

// TestMemory: the queue is taken whole, within what it was given, and what a query reads with is there only while it runs, but for a few buffers.
func TestMemory(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	set.cfg.QueueBytes = 16 << 20
	set.create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, table)
	for round := range 20 {
		play(t, s, &traffic{frames: stamp(mix(7, 5_000), round, 1000)})
		waitIdle(t, r)
	}
	s.Finish()
	queue, before := r.Memory()
	if queue != 16<<20 {
		t.Errorf("a queue of 16 MiB takes %d", queue)
	}
	res, err := r.Query(t.Context(), Query{From: math.MinInt64, To: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; {
		if _, n := r.Memory(); n > before+8*block.Size {
			break
		} else if time.Since(start) > longWait {
			t.Fatalf("a query that nobody reads takes %d bytes, and before it were %d", n, before)
		}
		time.Sleep(time.Millisecond)
	}
	res.Close()
	if _, n := r.Memory(); n > before+8*block.Size {
		t.Errorf("after a query %d bytes are taken, and before it were %d", n, before)
	}
}

// A ring that nobody reads holds next to nothing of the memory of readers, which all rings share: not of what it was opened with, nor of what its segments were closed
// with, nor of queries that are over.
func TestMemoryOfIdleRing(t *testing.T) {
	set := newSetting(t, 1, 32<<20)
	set.cfg.ReorderBytes = 1_000_000
	set.create(t)
	r := set.open(t)
	given := func(what string) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if _, n := r.Memory(); n <= uint64(set.cfg.ReorderBytes/16) {
				return
			} else if time.Since(start) > longWait {
				t.Fatalf("%s: of %d bytes for the readers of all rings one that is idle takes %d", what, set.cfg.ReorderBytes, n)
			}
		}
	}
	given("new")
	play(t, r.Stage(0, table), &traffic{frames: mix(7, 100_000)})
	waitIdle(t, r)
	closeRing(t, r)
	r = set.open(t)
	defer func() { closeRing(t, r) }()
	given("opened again")
	s := r.Stage(0, table)
	play(t, s, &traffic{frames: stamp(mix(7, 100_000), 1, 1000)})
	s.Finish()
	waitIdle(t, r)
	given("full")
	res, err := r.Query(t.Context(), Query{From: math.MinInt64, To: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	var b pipeline.Batch
	for err == nil {
		err = res.Next(t.Context(), &b)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	res.Close()
	given("read")
}

// TestShownOfStarvedWorker: of a worker that waits for a processor nobody may say that it has recorded everything up to a moment ago. One without frames for seconds has none.
func TestShownOfStarvedWorker(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	var clock atomic.Int64
	set.cfg.Now = clock.Load
	clock.Store(epoch)
	set.create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, table)
	frames := mix(5, 100)
	clock.Store(frames[99].Time)
	newPlayer(s).play(t, frames)
	for _, past := range []bool{false, true} {
		clock.Store(frames[99].Time + int64(500*time.Millisecond))
		if bound := r.show(nil, past); bound != frames[99].Time {
			t.Errorf("it has recorded everything up to %d after the last frame that it was given", bound-frames[99].Time)
		}
		clock.Store(frames[99].Time + int64(time.Minute))
		if bound := r.show(nil, past); bound != clock.Load()-idleSlack {
			t.Errorf("it has recorded everything up to %d after the last frame, a minute later", bound-frames[99].Time)
		}
	}
	s.Finish()
}

// TestDeviceNames: whatever a ring says of a device, it says with the name that it was given.
func TestDeviceNames(t *testing.T) {
	told := make(chan string, 100) // whoever reports waits for nobody
	set := newSetting(t, 1, 32<<20)
	set.cfg.DeviceNames = []string{"the old disk"}
	set.cfg.Report = func(err error) { told <- err.Error() }
	set.cfg.Store = func(dir string) files.Store { return stubborn{set.disks[dir]} }
	if _, err := Open(set.cfg); err == nil || !strings.Contains(err.Error(), "the old disk is missing: no ring lies there") {
		t.Errorf("a ring that is not there: %v", err)
	}
	set.create(t)
	if err := Create(t.Context(), set.cfg); err == nil || !strings.Contains(err.Error(), "the old disk: ") {
		t.Errorf("a second one: %v", err)
	}
	r := set.open(t)
	defer closeRing(t, r)
	for said := range told {
		if strings.Contains(said, "the old disk is written with pwrite: not here") {
			break
		}
	}
	s := r.Stage(0, table)
	defer s.Finish()
	for round := range 8 {
		play(t, s, &traffic{frames: stamp(mix(12, 10_000), round, time.Microsecond)})
		waitIdle(t, r)
	}
	if _, err := r.Protect(math.MinInt64, math.MaxInt64, math.MaxInt64); err == nil || !strings.Contains(err.Error(), "segments of the old disk would be left to record to") {
		t.Errorf("protect everything: %v", err)
	}
	set.cfg.DeviceNames = []string{"a", "b"}
	if _, err := Open(set.cfg); err == nil || !strings.Contains(err.Error(), "2 names for 1 devices") {
		t.Errorf("too many names: %v", err)
	}
}

// A stubborn device cannot be told of memory.
type stubborn struct{ *testDisk }

func (stubborn) Pin([]byte) (func(), error) { return func() {}, errors.New("not here") }

// TestRelease: a ring that is opened anew has the memory of the one before, unless that is still read or has another size.
func TestRelease(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	frames := mix(12, 10_000)
	r := set.open(t)
	record := func(round int) {
		t.Helper()
		s := r.Stage(0, table)
		play(t, s, &traffic{frames: stamp(frames, round, time.Microsecond)})
		s.Finish()
		waitIdle(t, r)
	}
	again := func(memory []byte) {
		t.Helper()
		set.cfg.Memory = memory
		r = set.open(t)
		set.cfg.Memory = nil
	}
	record(0)
	memory, err := r.Release()
	if err != nil || memory == nil {
		t.Fatalf("%d bytes, %v", len(memory), err)
	}
	if twice, err := r.Release(); twice != nil || err != nil {
		t.Errorf("released twice: %d bytes, %v", len(twice), err)
	}
	again(memory)
	if &r.memory[0] != &memory[0] {
		t.Error("the memory was not taken over")
	}
	record(1)
	res, err := r.Query(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	if memory, err = r.Release(); err != nil || memory != nil {
		t.Errorf("a ring that is read gives %d bytes, %v", len(memory), err)
	}
	res.Close()
	again(nil)
	memory, _ = r.Release()
	set.cfg.QueueBytes *= 2
	again(memory)
	if len(r.memory) != 2*len(memory) {
		t.Errorf("%d bytes of memory for a larger queue", len(r.memory))
	}
	record(2)
	have, _ := collect(t, r, everything)
	var want []packet.Frame
	for round := range 3 {
		want = append(want, stamp(frames, round, time.Microsecond)...)
	}
	sameFrames(t, want, have)
	closeRing(t, r)
}

// A disk that is dying does not fill the log: what is wrong is told once, and not for ever. That a device takes nothing any more is told whatever was before.
func TestProblems(t *testing.T) {
	var told atomic.Int64
	set := newSetting(t, 1, 16<<20)
	set.cfg.Report = func(error) { told.Add(1) }
	r := set.create(t).open(t)
	defer r.Close()
	r.mu.Lock()
	for i := range 3000 {
		r.problem(fmt.Errorf("block %d", i/2))
	}
	r.fail(r.devices[0], errors.New("gone"))
	r.mu.Unlock()
	for start := time.Now(); told.Load() < mostProblems+2 && time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
	}
	list := r.State().Problems
	if told.Load() != mostProblems+2 || len(list) != mostProblems+2 || !strings.Contains(list[mostProblems], "more") || !strings.Contains(list[mostProblems+1], "gone") {
		t.Errorf("%d were told, %q", told.Load(), list[min(len(list), 99):])
	}
}

// How far a replay is follows what was taken of it, not what was read ahead, and what is left does not change.
func TestProgress(t *testing.T) {
	set := newSetting(t, 1, 64<<20).create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, table)
	frames := mix(74, 60_000)
	play(t, s, &traffic{frames: frames})
	s.Finish()
	waitIdle(t, r)
	source, err := r.Source(context.Background(), everything)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var b pipeline.Batch
	taken, whole := 0, int64(0)
	for err == nil {
		err = source.Next(context.Background(), &b)
		done, total, packets := source.Progress()
		if taken += len(b.Packets); packets != uint64(taken) || whole != 0 && total != whole {
			t.Fatalf("after %d packets: %d packets, of %d bytes, which were %d before", taken, packets, total, whole)
		}
		if whole = total; math.Abs(float64(done)/float64(total)-float64(taken)/float64(len(frames))) > 0.1 {
			t.Fatalf("after %d of %d packets: %d of %d bytes", taken, len(frames), done, total)
		}
	}
	if done, total, _ := source.Progress(); !errors.Is(err, io.EOF) || done != total || total < 10<<20 {
		t.Errorf("%v; %d of %d bytes", err, done, total)
	}
}
