package afpacket

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"galvo/ci/rig"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
)

// BenchmarkDrain is what a full ring costs to empty, per frame of mixed traffic, in processor time.
func BenchmarkDrain(b *testing.B) {
	const n = 100_000
	frames := rig.Mix(1, n)
	tx, rx := rig.VethFor(b)
	for _, c := range []struct {
		name  string
		flows *flow.Table
		l7    *l7.Engine
		walk  bool
	}{
		{name: "count", walk: true},
		{name: "decode"},
		{name: "flows", flows: flow.New(flow.Config{})},
		{name: "l7", flows: flow.New(flow.Config{}), l7: l7.New(l7.Config{})},
	} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ps := NewPorts(1)
			defer ps.Close()
			port := addPort(b, ps, rx, 1, 1, Options{Blocks: 128})
			var spent time.Duration
			done := 0
			for ; done < b.N; done += n {
				mustPlay(b, rig.Player{To: tx, CPU: 1}, frames)
				time.Sleep(2 * retire) // the last block
				if s := port.Stats(); b.Failed() || s.Received != uint64(done+n) {
					b.Fatalf("stats are %+v after %d frames", s, done+n)
				}
				before := threadTime()
				drain(b, ps.Source(0), c.walk, c.flows, c.l7, n)
				spent += threadTime() - before
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(done), "cpu-ns/frame")
		})
	}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail
	return time.Duration(ts.Nano())
}

// BenchmarkMerge is what it costs when the frames of two ports alternate.
func BenchmarkMerge(b *testing.B) {
	const n = 20_000
	ps := NewPorts(1)
	defer ps.Close()
	tx1, rx1 := rig.VethFor(b)
	tx2, rx2 := rig.VethFor(b)
	addPort(b, ps, rx1, 1, 1, Options{Blocks: 128})
	addPort(b, ps, rx2, 2, 1, Options{Blocks: 128})
	frames := numbered(n, 16, 300)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spent time.Duration
	done := 0
	for ; done < b.N; done += 2 * n {
		var wg sync.WaitGroup
		for _, tx := range []*rig.End{tx1, tx2} {
			wg.Go(func() { mustPlay(b, rig.Player{To: tx, Rate: 100_000}, frames) })
		}
		wg.Wait()
		time.Sleep(2 * retire) // the last block
		before := threadTime()
		drain(b, ps.Source(0), true, nil, nil, 2*n)
		spent += threadTime() - before
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(done), "cpu-ns/frame")
}

// drain takes n frames and lets a worker have them, or only walks over them.
func drain(b *testing.B, s *Source, walk bool, flows *flow.Table, engine *l7.Engine, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if walk {
		var batch pipeline.Batch
		for n > 0 {
			if err := s.Next(ctx, &batch); err != nil {
				b.Fatal(err)
			}
			n -= len(batch.Packets)
		}
		return
	}
	end := &until{n, cancel}
	_ = (&pipeline.Worker{Source: s, Flows: flows, L7: engine, Stages: []pipeline.Stage{end}}).Run(ctx) // ends with ctx
}

// until ends a worker after a number of frames.
type until struct {
	left int
	end  func()
}

func (u *until) Process(b *pipeline.Batch) {
	if u.left -= len(b.Packets); u.left <= 0 {
		u.end()
	}
}
