// Package analysis runs savefiles through the same pipeline as live traffic, beside it: with a flow table, statistics and captures of its own.
//
// An analysis has one worker, which goes as fast as the files can be read and the scheduler lets it: its thread gives way to those that receive. What it
// counts can be read at any time. A capture from it reads the files once more, from their beginning, so that it has every packet whenever it is asked
// for; there is one such capture at a time, for which memory is kept.
package analysis

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
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
	"galvo/services/internal/stats"
	"galvo/services/internal/stream"
)

// The states of an analysis, as api.Slot has them.
const (
	Running = "running"
	Ready   = "ready"
	Failed  = "failed" // something is wrong with the files; what could be read of them was analysed
)

// FileBytes is about what an open savefile takes beside what Options.Bytes is shared out to: the chunk of its reader, and the frames in hand.
const FileBytes = 512 << 10

// An Input is what is analysed: savefiles, or an interval of a ring.
type Input struct {
	pipeline.Source
	Progress func() (done, total int64, packets uint64) // bytes; total is 0 if it is not known. It may be called by any goroutine
	Note     func() string                              // what of the packets is not told as it is there, in plain words; empty is nothing. Likewise
	Close    func() error
	Comment  string          // what the savefiles say of themselves, for captures from them
	Kind     string          // for the end of a capture: "savefiles"
	Scan     func() api.Scan // what was looked at, of a ring; nil for savefiles, of which everything is. It may be called by any goroutine
}

// Savefiles returns what opens savefiles, which are merged in the order of time. open opens one by its name.
func Savefiles(open func(name string) (*os.File, error), names []string) func() (Input, error) {
	return func() (Input, error) {
		s, err := savefile.OpenWith(open, names, nil)
		if err != nil {
			return Input{}, err
		}
		progress := func() (done, total int64, packets uint64) {
			p := s.Progress()
			return p.Bytes, p.Total, p.Packets
		}
		note := func() string { return s.Progress().Note() }
		return Input{Source: s, Progress: progress, Note: note, Close: s.Close, Comment: s.Section().Comment, Kind: "savefiles"}, nil
	}
}

// Options say what to analyse. Open is called once for the analysis and once for each capture from it.
type Options struct {
	Open func() (Input, error)

	Bytes  uint64     // of memory, for the analysis and a capture from it
	L7     *l7.Config // how application protocols are recognised; nil is not at all
	Source string     // what captures call it: ":1"

	OnPanic func(*pipeline.Panic) // see pipeline.Worker
}

// An Analysis is one that runs or has ended. Its methods may be called from any goroutine.
type Analysis struct {
	options Options
	input   Input
	worker  *pipeline.Worker
	stats   *stats.Stats
	span    *span
	began   time.Time
	cancel  context.CancelFunc
	done    chan struct{} // closed when every packet was analysed
	running sync.WaitGroup

	mu sync.Mutex

	err    error            // guarded by mu, as everything below
	took   time.Duration    // once done
	flows  uint64           // as last known
	latest *capture.Capture // that was started
	closed bool
}

// Memory is shared out in sixths: two each for the flows of the analysis and of a capture, and one each for their application protocols, after an eighth of it all for
// TCP streams. What a capture queues and holds is its own.
func (o *Options) sixth() uint64 { return o.Bytes / 6 }

// flowBytes is what a flow takes, with its share of the index.
const flowBytes = 168

// pipe makes a worker for a source.
func (o *Options) pipe(source pipeline.Source, stages ...pipeline.Stage) *pipeline.Worker {
	w := NewWorker(o.sixth()*3, o.L7, source, stages...)
	w.OnPanic = o.OnPanic
	return w
}

// NewWorker returns a worker that finds flows and protocols anew in so many bytes of memory; without recognise no protocols.
func NewWorker(bytes uint64, recognise *l7.Config, source pipeline.Source, stages ...pipeline.Stage) *pipeline.Worker {
	streams := bytes / 8 // of what came before in TCP streams; nobody may look there, and then it is not taken
	bytes -= streams
	var engine *l7.Engine
	table := flow.Config{Flows: max(int(bytes/3*2/flowBytes), 1024), Sparse: true}
	if recognise != nil {
		config := *recognise
		config.Bytes = int(bytes / 3)
		engine = l7.New(config)
		table.OnEnd = engine.End
	}
	return &pipeline.Worker{Source: source, Flows: flow.New(table), L7: engine, Streams: stream.New(int(streams)), Stages: stages}
}

// Start begins an analysis. It fails if a file cannot be opened or is no savefile.
func Start(o Options) (*Analysis, error) {
	input, err := o.Open()
	if err != nil {
		return nil, err
	}
	a := &Analysis{options: o, input: input, stats: stats.New(1), span: &span{}, began: time.Now(), done: make(chan struct{})}
	a.span.first.Store(math.MaxInt64)
	a.worker = o.pipe(input, a.span, a.stats.Stage(0))
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.running.Go(func() { a.run(ctx) })
	return a, nil
}

// run analyses the files.
func (a *Analysis) run(ctx context.Context) {
	defer a.input.Close()
	err := Gently(func() error { return a.worker.Run(ctx) })
	a.mu.Lock()
	a.err, a.took = err, time.Since(a.began)
	a.mu.Unlock()
	close(a.done)
}

// Gently calls f on a thread that gives way to others: live traffic comes first.
func Gently(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                         // never unlocked, so that the thread ends with this goroutine
		unix.Setpriority(unix.PRIO_PROCESS, 0, lowest) // of the calling thread (setpriority(2)); without it f is only less polite
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
	ended := isClosed(a.done) // before the counts are read, which are complete then
	done, total, packets := a.input.Progress()
	s := api.Slot{State: Running, Bytes: done, TotalBytes: total, Packets: packets, SecondsLeft: -1}
	if first := a.span.first.Load(); first != math.MaxInt64 {
		s.StartTime, s.EndTime = first/1000, a.span.last.Load()/1000
	}
	if a.input.Scan != nil {
		scan := a.input.Scan()
		s.Scan = &scan
	}
	s.Flows = a.countFlows()
	a.mu.Lock()
	defer a.mu.Unlock()
	took := time.Since(a.began)
	if ended {
		s.State, s.Reason, s.SecondsLeft, took = Ready, a.input.Note(), 0, a.took
		if a.err != nil {
			s.State, s.Reason = Failed, with(a.err.Error(), s.Reason)
		}
	}
	if seconds := took.Seconds(); seconds > 0 {
		s.Rate = uint64(float64(done) / seconds)
	}
	if s.State == Running && s.Rate > 0 && total > 0 {
		s.SecondsLeft = max(total-done, 0) / int64(s.Rate)
	}
	return s
}

// with appends a note, if there is one.
func with(text, note string) string {
	if note == "" {
		return text
	}
	return text + "; " + note
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
	for i, in := range a.input.Interfaces() {
		id := i + 1
		p := api.Port{ID: id, Name: in.Name, Driver: in.Description, Mode: "savefile", Direction: "both", State: "up",
			SpeedMbps: int(in.SpeedBits / 1e6), Gaps: []api.Gap{}, Sizes: a.stats.Sizes(id)}
		p.RxPackets, p.RxBytes, _, _ = a.stats.Traffic(id)
		list = append(list, p)
	}
	return list
}

// Capture starts a capture of what is in the files, which waits for Run. The error is an *api.Error, and leaves no trace in any list.
func (a *Analysis) Capture(captures *capture.Captures, s capture.Spec) (*capture.Capture, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, &api.Error{Kind: api.NotFound, Text: "the analysis " + a.options.Source + " has ended"}
	}
	if a.latest != nil && !isClosed(a.latest.Done()) {
		return nil, &api.Error{Kind: api.TooManyCaptures, Text: "a capture from " + a.options.Source + " runs already, and there is memory for one at a time: stop it, or wait for its end"}
	}
	input, err := a.options.Open()
	if err != nil {
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	if s.MaxDuration != 0 && s.Start == 0 {
		if s.Start = a.span.first.Load(); s.Start == math.MaxInt64 {
			s.Start = 0
		}
	}
	s.Feed = capture.NewFeed(capture.Source{Workers: 1, Interfaces: input.Interfaces})
	s.Source, s.Block, s.Scan, s.Span = a.options.Source, true, input.Scan, a.whole
	s.Comment = strings.Trim(input.Comment+"\n"+s.Comment, "\n")
	c, err := captures.Start(s)
	if err != nil {
		input.Close()
		return nil, err
	}
	a.latest = c
	a.running.Go(func() {
		defer input.Close()
		a.feed(c, s.Feed.Stage(0), input)
	})
	return c, nil
}

// whole returns the times of the first and the last frame, ns since the epoch, once all were read; first > last before that, and if there is none.
func (a *Analysis) whole() (first, last int64) {
	if !isClosed(a.done) {
		return math.MaxInt64, math.MinInt64
	}
	if first = a.span.first.Load(); first == math.MaxInt64 {
		return first, math.MinInt64
	}
	return first, a.span.last.Load()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// feed runs the input through the pipeline of a capture as soon as somebody runs it, until one of them ends.
func (a *Analysis) feed(c *capture.Capture, stage *capture.Stage, input Input) {
	c.WhenRun(context.Background(), func(ctx context.Context) {
		worker := a.options.pipe(input, stage)
		err := Gently(func() error { return worker.Run(ctx) })
		stage.Finish()
		why := ""
		if err != nil {
			why = "the " + input.Kind + " could not be read to the end: " + err.Error()
		}
		switch {
		case err == nil || ctx.Err() != nil:
			c.Exhaust(with("end of the "+input.Kind, input.Note()))
		case input.Scan == nil: // a damaged file has no more than what is before the damage
			c.Finish(with(why, input.Note()))
		default:
			c.Fail(why)
		}
	})
}

// Close ends the analysis with its capture, and waits for both until ctx is done.
func (a *Analysis) Close(ctx context.Context) error {
	a.cancel()
	a.mu.Lock()
	a.closed = true
	latest := a.latest
	a.mu.Unlock()
	if latest != nil {
		latest.Interrupt("the analysis was ended")
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
