// Package analysis runs savefiles through the same pipeline as live traffic, beside it: with a flow table, statistics and captures of its own.
//
// An analysis has one worker, which goes as fast as the files can be read and the scheduler lets it: its thread gives way to those that receive. What it
// counts can be read at any time. A capture from it reads the files once more, from their beginning, so that it has every packet whenever it is asked
// for; there is one such capture at a time, for which memory is kept.
package analysis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/api"
	"galvo/services/internal/capture"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
	"galvo/services/internal/sink"
	"galvo/services/internal/stats"
)

// The states of an analysis, as api.Slot has them.
const (
	Running = "running"
	Ready   = "ready"
	Failed  = "failed" // something is wrong with the files; what could be read of them was analysed
)

// keepFinished is the number of finished captures that are kept.
const keepFinished = 100

// FileBytes is about what an open savefile takes beside what Options.Bytes is shared out to: the chunk of its reader, and the frames in hand.
const FileBytes = 512 << 10

// Options say what to analyse. Open opens a file by its name.
type Options struct {
	Names []string
	Open  func(name string) (*os.File, error)

	Bytes uint64 // of memory, for the analysis and a capture from it
	L7    bool   // recognise application protocols

	Source      string // what captures call it: ":1"
	Application string // what writes savefiles, with its version
}

// An Analysis is one that runs or has ended. Its methods may be called from any goroutine.
type Analysis struct {
	options Options
	source  *savefile.Source
	worker  *pipeline.Worker
	stats   *stats.Stats
	span    *span
	began   time.Time
	cancel  context.CancelFunc
	done    chan struct{} // closed when every packet was analysed
	running sync.WaitGroup

	mu sync.Mutex

	err      error         // guarded by mu, as everything below
	took     time.Duration // once done
	flows    uint64        // as last known
	captures *capture.Captures
	at       *capture.Capture // the capture that runs, or the last one
	finished []api.Capture    // those before captures, newest first
	closed   bool
}

// Memory is shared out in eighths: two each for the flows of the analysis and of a capture, one each for their application protocols, one for the queue of a
// capture, and one for what it holds.
func (o *Options) eighth() uint64 { return o.Bytes / 8 }

// flowBytes is what a flow takes, with its share of the index.
const flowBytes = 168

// pipe makes a worker for a source.
func (o *Options) pipe(source pipeline.Source, stages ...pipeline.Stage) *pipeline.Worker {
	var engine *l7.Engine
	table := flow.Config{Flows: max(int(2*o.eighth()/flowBytes), 1024), Sparse: true}
	if o.L7 {
		engine = l7.New(l7.Config{Bytes: int(o.eighth())})
		table.OnEnd = engine.End
	}
	return &pipeline.Worker{Source: source, Flows: flow.New(table), L7: engine, Stages: stages}
}

// Start begins an analysis. It fails if a file cannot be opened or is no savefile.
func Start(o Options) (*Analysis, error) {
	source, err := savefile.OpenWith(o.Open, o.Names, nil)
	if err != nil {
		return nil, err
	}
	a := &Analysis{options: o, source: source, stats: stats.New(1), span: &span{}, began: time.Now(), done: make(chan struct{})}
	a.span.first.Store(math.MaxInt64)
	a.worker = o.pipe(source, a.span, a.stats.Stage(0))
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.running.Go(func() { a.run(ctx) })
	return a, nil
}

// run analyses the files.
func (a *Analysis) run(ctx context.Context) {
	defer a.source.Close()
	err := gently(func() error { return a.worker.Run(ctx) })
	a.mu.Lock()
	a.err, a.took = err, time.Since(a.began)
	a.mu.Unlock()
	close(a.done)
}

// gently calls f on a thread that gives way to others: live traffic comes first.
func gently(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                         // never unlocked, so that the thread ends with this goroutine
		unix.Setpriority(unix.PRIO_PROCESS, 0, lowest) // of the calling thread (setpriority(2)); without it the analysis is only less polite
		err = f()
	}()
	<-done
	return err
}

// lowest is the nice value that gives way to all others.
const lowest = 19

// A span is a stage that notes from when to when packets are.
type span struct{ first, last atomic.Int64 }

// Process implements pipeline.Stage.
func (s *span) Process(b *pipeline.Batch) {
	first, last := s.first.Load(), s.last.Load()
	for i := range b.Packets {
		first, last = min(first, b.Packets[i].Time), max(last, b.Packets[i].Time)
	}
	s.first.Store(first)
	s.last.Store(last)
}

// Done is closed when every packet was analysed.
func (a *Analysis) Done() <-chan struct{} { return a.done }

// Slot describes the state and the progress.
func (a *Analysis) Slot() api.Slot {
	p := a.source.Progress()
	s := api.Slot{State: Running, Bytes: p.Bytes, TotalBytes: p.Total, Packets: p.Packets, SecondsLeft: -1}
	if first := a.span.first.Load(); first != math.MaxInt64 {
		s.StartTime, s.EndTime = first/1000, a.span.last.Load()/1000
	}
	s.Flows = a.countFlows()
	a.mu.Lock()
	defer a.mu.Unlock()
	took := a.took
	select {
	case <-a.done:
		s.State, s.SecondsLeft = Ready, 0
		if a.err != nil {
			s.State, s.Reason = Failed, a.err.Error()
		}
	default:
		took = time.Since(a.began)
	}
	if seconds := took.Seconds(); seconds > 0 {
		s.Rate = uint64(float64(p.Bytes) / seconds)
	}
	if s.State == Running && s.Rate > 0 && p.Total > 0 {
		s.SecondsLeft = max(p.Total-p.Bytes, 0) / int64(s.Rate)
	}
	return s
}

// countFlows asks the worker, which answers between two batches.
func (a *Analysis) countFlows() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var created uint64
	err := a.worker.Do(ctx, func(int64) { created = a.worker.Flows.Counters().Created })
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.flows = created
	}
	return a.flows
}

// Protocols returns the protocols that were seen so far.
func (a *Analysis) Protocols() []api.ProtocolCount { return a.stats.Protocols() }

// Ports returns the interfaces of the savefiles, numbered through the files.
func (a *Analysis) Ports() []api.Port {
	list := []api.Port{}
	for i, in := range a.source.Interfaces() {
		id := i + 1
		p := api.Port{ID: id, Name: in.Name, Driver: in.Description, Mode: "savefile", Direction: "both", State: "up",
			SpeedMbps: int(in.SpeedBits / 1e6), Gaps: []api.Gap{}, Sizes: a.stats.Sizes(id)}
		p.RxPackets, p.RxBytes, _, _ = a.stats.Traffic(id)
		list = append(list, p)
	}
	return list
}

// Capture starts a capture of what is in the files, which waits for Run. The error is an *api.Error, and leaves no trace in any list.
func (a *Analysis) Capture(s capture.Spec) (*capture.Capture, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, &api.Error{Kind: api.NotFound, Text: "the analysis " + a.options.Source + " has ended"}
	}
	if a.captures != nil && len(a.captures.List()) > 0 {
		return nil, &api.Error{Kind: api.TooManyCaptures, Text: "a capture from " + a.options.Source + " runs already, and there is memory for one at a time: stop it, or wait for its end"}
	}
	source, err := savefile.OpenWith(a.options.Open, a.options.Names, nil)
	if err != nil {
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	captures, err := capture.New(capture.Options{Workers: 1, Max: 1, Interfaces: source.Interfaces, Application: a.options.Application})
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	if s.MaxDuration != 0 && s.Start == 0 {
		if s.Start = a.span.first.Load(); s.Start == math.MaxInt64 {
			s.Start = 0
		}
	}
	s.Source, s.Block, s.QueueBytes, s.HoldBytes = a.options.Source, true, a.options.eighth(), a.options.eighth()
	c, err := captures.Start(s)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	a.keep()
	a.captures, a.at = captures, c
	a.running.Go(func() {
		defer source.Close()
		a.feed(captures, c, source)
	})
	return c, nil
}

// keep moves the end of the last capture to the list of finished ones. a.mu is held.
func (a *Analysis) keep() {
	if a.captures == nil {
		return
	}
	a.finished = append(a.captures.Finished(), a.finished...)
	a.finished = a.finished[:min(len(a.finished), keepFinished)]
	a.captures = nil
}

// feed runs the files through the pipeline of a capture as soon as somebody runs it, until one of them ends.
func (a *Analysis) feed(captures *capture.Captures, c *capture.Capture, source *savefile.Source) {
	select {
	case <-c.Attached():
	case <-c.Done():
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-c.Done()
		cancel()
	}()
	worker := a.options.pipe(source, captures.Stage(0))
	err := gently(func() error { return worker.Run(ctx) })
	captures.Stage(0).Finish()
	if err != nil && ctx.Err() == nil {
		c.Finish("the savefiles could not be read to their end: " + err.Error())
		return
	}
	c.Finish("end of the savefiles")
}

// Get returns the capture with an id, if it runs or waits.
func (a *Analysis) Get(id string) (*capture.Capture, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.captures == nil {
		return nil, false
	}
	c, err := a.captures.Get(id)
	return c, err == nil
}

// Stop ends a capture, and reports whether there was one with that id.
func (a *Analysis) Stop(id, reason string) bool {
	a.mu.Lock()
	captures := a.captures
	a.mu.Unlock()
	return captures != nil && captures.Stop(id, reason) == nil
}

// Captures returns the captures that run or wait.
func (a *Analysis) Captures() []api.Capture {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.captures == nil {
		return []api.Capture{}
	}
	return a.captures.List()
}

// Finished returns the captures that ended, newest first.
func (a *Analysis) Finished() []api.Capture {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.captures == nil {
		return slices.Clone(a.finished)
	}
	return append(a.captures.Finished(), a.finished...)
}

// DeleteFinished empties the list of captures that ended.
func (a *Analysis) DeleteFinished() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = nil
	if a.captures != nil {
		a.captures.DeleteFinished() // kept in memory only, so nothing can go wrong
	}
}

// Close ends the analysis with its capture, and waits for both until ctx is done.
func (a *Analysis) Close(ctx context.Context) error {
	a.cancel()
	a.mu.Lock()
	a.closed = true
	captures := a.captures
	a.mu.Unlock()
	if captures != nil {
		captures.Close(ctx, "the analysis was ended")
	}
	ended := make(chan struct{})
	go func() {
		a.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the analysis %s: %w", a.options.Source, ctx.Err())
	}
}

// RunOnDisk feeds a sink on a storage device until the capture ends.
func (a *Analysis) RunOnDisk(c *capture.Capture, out *sink.Disk) {
	a.running.Go(func() {
		c.Run(context.Background(), out) // its end is in the list
	})
}
