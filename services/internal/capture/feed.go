package capture

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/pipeline"
)

// A Source is what captures need to know of where their packets come from. The functions may be called from any goroutine, at any time.
type Source struct {
	Workers    int
	Interfaces func() []pipeline.Interface // the table that Frame.Iface indexes; it may grow. If a link type changes, captures end that hold the old one
	Lost       func() []uint64             // frames lost before any stage saw them, since ever, by interface; nil is none
}

// A Feed shows the packets of one source to the captures that were started on it. Each of the source's workers has a stage.
type Feed struct {
	Source
	stages []*Stage
	list   atomic.Pointer[list]

	mu       sync.Mutex
	attached []*Capture // guarded by mu: those that the stages look at
}

// NewFeed returns a feed without captures.
func NewFeed(s Source) *Feed {
	if s.Interfaces == nil {
		s.Interfaces = func() []pipeline.Interface { return nil }
	}
	if s.Lost == nil {
		s.Lost = func() []uint64 { return nil }
	}
	f := &Feed{Source: s}
	for i := range s.Workers {
		st := &Stage{of: f, worker: i}
		st.mark.Store(math.MinInt64)
		f.stages = append(f.stages, st)
	}
	f.list.Store(&list{workers: make([]work, s.Workers)})
	return f
}

// Stage returns the stage of a worker, from 0.
func (f *Feed) Stage(worker int) *Stage { return f.stages[worker] }

// WhenRun waits until somebody runs the capture, and then calls f with a context that ends when it takes no more packets. If nobody runs it f is never
// called.
func (c *Capture) WhenRun(ctx context.Context, f func(ctx context.Context)) {
	select {
	case <-c.Attached():
	case <-c.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	f(ctx)
}

// attach gives c to the stages.
func (f *Feed) attach(c *Capture) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached = append(f.attached, c)
	f.publish()
}

// detach takes c from the stages, and returns when no worker looks at it any more.
func (f *Feed) detach(c *Capture) {
	f.mu.Lock()
	f.attached = slices.DeleteFunc(f.attached, func(o *Capture) bool { return o == c })
	f.publish()
	f.mu.Unlock()
	for _, s := range f.stages {
		// A worker that is inside now may have loaded the list before.
		for inside := s.inside.Load(); inside&1 != 0 && s.inside.Load() == inside; {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// publish makes a list of the attached captures. f.mu is held.
func (f *Feed) publish() {
	l := &list{all: slices.Clone(f.attached), workers: make([]work, f.Workers)}
	for _, c := range l.all {
		l.reach = max(l.reach, c.reach)
	}
	for i := range l.workers {
		l.workers[i] = newWork(l.all, i)
	}
	f.list.Store(l)
}

// newWork makes a worker's part of a list.
func newWork(captures []*Capture, worker int) work {
	var w work
	var filtered []*lane
	for _, c := range captures {
		l := c.lanes[worker]
		w.lanes = append(w.lanes, l)
		if c.spec.Filter == nil || c.spec.Sifted {
			w.everything = append(w.everything, l)
		} else {
			filtered = append(filtered, l)
		}
		w.streams = w.streams || c.reach > 0
		w.timed = w.timed || c.from != math.MinInt64 || c.until != math.MaxInt64
	}
	for lanes := range slices.Chunk(filtered, filter.MaxSet) {
		g := group{lanes: lanes}
		var filters []*filter.Filter
		for k, l := range lanes {
			filters = append(filters, l.c.spec.Filter)
			if l.hold != nil {
				g.holds |= 1 << k
			}
		}
		g.set = filter.NewSet(filters)
		w.groups = append(w.groups, g)
	}
	return w
}
