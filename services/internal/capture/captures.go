package capture

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"time"

	"galvo/services/api"
)

// fetchTime is how long a capture waits for Run before it is given up.
const fetchTime = 30 * time.Second

// stopTime is how long the sink of a capture that was stopped may go on to take what waits.
const stopTime = 2 * time.Second

// keepFinished is the number of finished captures that are kept.
const keepFinished = 100

// Options are what captures need to know of the engine.
type Options struct {
	Source     // of the captures whose Spec names no feed
	Max    int // captures that may run or wait at once

	Application string // what writes the savefile, with its version
	Hardware    string
	OS          string

	Directory string      // where finished captures, and the counters of running ones, are kept; "" keeps them in memory only
	Report    func(error) // what went wrong with the files there; nil ignores it. It must not call Captures
}

// Captures is all captures of an engine: those that run or wait, and the last 100 that ended.
type Captures struct {
	Options
	feed *Feed // of Options.Source

	mu sync.Mutex

	max      int           // guarded by mu, as everything below
	slots    []*Capture    // that run or wait, oldest first
	finished []api.Capture // newest first
	ended    []*file       // of captures that are in no list on the disk yet
	unsaved  bool          // finished differs from the list on the disk
	saver    *time.Timer   // that will save it; nil if there is none

	saving sync.Mutex // held to save it; taken before mu
}

// New returns captures without any that runs. The error says what could not be read of the finished ones; the captures are usable then.
func New(o Options) (*Captures, error) {
	if o.Report == nil {
		o.Report = func(error) {}
	}
	cs := &Captures{Options: o, feed: NewFeed(o.Source), max: o.Max}
	return cs, cs.recover()
}

// Stage returns the stage of a worker of Options.Source, from 0.
func (cs *Captures) Stage(worker int) *Stage { return cs.feed.Stage(worker) }

// SetMax changes how many captures may run or wait at once. Those that do already go on.
func (cs *Captures) SetMax(n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.max = n
}

// Start makes a capture, which waits for its Run: for 30 seconds, then it is given up. An error is an *api.Error, and leaves no trace in
// any list: the number of captures is at its limit, or the request cannot be met.
func (cs *Captures) Start(spec Spec) (*Capture, error) {
	c, err := cs.newCapture(spec)
	if err == nil {
		err = cs.enlist(c)
	}
	if err != nil {
		return nil, err
	}
	if !spec.Block {
		c.pool.touch()
	}
	return c, nil
}

// enlist gives a capture its memory and a place among those that run or wait, if there is one.
func (cs *Captures) enlist(c *Capture) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if n := len(cs.slots); n >= cs.max {
		return &api.Error{Kind: api.TooManyCaptures, Text: fmt.Sprintf(
			"%d captures run or wait already, and the limit is %d: stop one, or raise the setting captures.max", n, cs.max)}
	}
	c.pool = newPool(c.spec.QueueBytes, c.feed.Workers, c.spec.Block)
	for range c.feed.Workers {
		l := &lane{c: c}
		l.queue.pool = c.pool
		if c.spec.Hold && !c.spec.Sifted {
			l.hold = newHold(c.spec.HoldBytes/uint64(c.feed.Workers), c.spec.Block)
			l.hold.streams = c.reach > 0
		}
		c.lanes = append(c.lanes, l)
	}
	cs.remember(c)
	c.fetch = time.AfterFunc(fetchTime, c.giveUp)
	cs.slots = append(cs.slots, c)
	return nil
}

// newCapture makes what does not depend on other captures. The error is an *api.Error.
func (cs *Captures) newCapture(spec Spec) (*Capture, error) {
	spec.Format = cmp.Or(spec.Format, Pcapng)
	if spec.Expression == "" {
		spec.Filter = nil
	}
	asked := spec.Hold
	spec.Hold = spec.Hold && spec.Filter != nil && spec.Filter.NeedsL7()
	if spec.SnapLen == 65535 {
		spec.SnapLen = 0
	}
	c := &Capture{
		id:      strings.ToLower(rand.Text()[:10]),
		spec:    spec,
		of:      cs,
		feed:    cmp.Or(spec.Feed, cs.feed),
		snap:    min(maxSnap, int(cmp.Or(spec.SnapLen, maxSnap))),
		format:  encoding{spec.Format == Pcapng, spec.Format == PcapNanos, spec.SingleInterface},
		oneLink: spec.Format != Pcapng || spec.SingleInterface,
		asked:   asked,
		limited: spec.MaxPackets != 0 || spec.MaxBytes != 0,
		from:    math.MinInt64,
		until:   math.MaxInt64,
		wake:    make(chan struct{}, 1),
		over:    make(chan struct{}),
		seen:    make(chan struct{}),
		done:    make(chan struct{}),
		created: time.Now().UnixNano(),
	}
	if spec.Filter != nil && !spec.Sifted {
		c.reach = spec.Filter.StreamReach()
	}
	c.room = make(chan struct{}, c.feed.Workers)
	return c, c.check()
}

// check says what is wrong with a spec.
func (c *Capture) check() error {
	s := &c.spec
	switch {
	case !slices.Contains([]Format{Pcapng, Pcap, PcapNanos}, s.Format):
		return api.Errorf(api.BadRequest, "the format is %q, and must be pcapng, pcap or pcap-ns", s.Format)
	case s.End != 0 && s.End < s.Start:
		return api.Errorf(api.BadRequest, "the end time is before the start time: the capture would be empty")
	case s.Block && s.MaxDuration != 0 && s.Start == 0:
		return api.Errorf(api.BadRequest, "a limit of time needs a start time in a savefile")
	case !c.oneLink:
		return nil
	}
	for table := c.feed.Interfaces(); len(table) > 1; table = table[1:] {
		if table[0].Link != table[1].Link {
			return api.Errorf(api.BadRequest, "%s", otherLink(table[0].Link, table[1].Link))
		}
	}
	return nil
}

// Get returns a capture that runs or waits, or an *api.Error.
func (cs *Captures) Get(id string) (*Capture, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.slots {
		if c.id == id {
			return c, nil
		}
	}
	return nil, api.Errorf(api.NotFound, "no capture %s runs or waits", id)
}

// Stop ends a capture for a reason in plain words: "stopped by admin". Its sink has 2 seconds to take what waits.
func (cs *Captures) Stop(id, reason string) error {
	c, err := cs.Get(id)
	if err != nil {
		return err
	}
	c.stop(Finished, reason, within(stopTime))
	return nil
}

// Close ends all captures as interrupted, and waits for them until ctx is done.
func (cs *Captures) Close(ctx context.Context, reason string) {
	cs.mu.Lock()
	slots := slices.Clone(cs.slots)
	cs.mu.Unlock()
	defer func() {
		if err := cs.save(); err != nil {
			cs.Report(err)
		}
	}()
	for _, c := range slots {
		c.stop(Interrupted, reason, within(stopTime/4))
	}
	for _, c := range slots {
		select {
		case <-c.done:
		case <-ctx.Done():
			return
		}
	}
}

// List returns the captures that run or wait, newest first.
func (cs *Captures) List() []api.Capture {
	cs.mu.Lock()
	slots := slices.Clone(cs.slots)
	cs.mu.Unlock()
	views := make([]api.Capture, 0, len(slots))
	for _, c := range slices.Backward(slots) {
		views = append(views, c.view())
		c.save()
	}
	return views
}

// Finished returns the last captures that ended, newest first.
func (cs *Captures) Finished() []api.Capture {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return append([]api.Capture{}, cs.finished...) // never nil: lists are JSON arrays
}

// DeleteFinished empties the list of captures that ended.
func (cs *Captures) DeleteFinished() error {
	cs.mu.Lock()
	cs.finished, cs.unsaved = nil, true
	cs.mu.Unlock()
	return cs.save()
}

// retire moves a capture that has ended to the list of finished ones. What was queued and not delivered counts as dropped.
func (cs *Captures) retire(c *Capture) {
	v := c.view()
	e := c.end.Load()
	delivered := c.delivered.Load()
	v.Dropped += v.Captured - delivered
	v.Captured, v.Bytes = delivered, c.deliveredBytes.Load()
	v.EndTime = e.time / 1000
	if v.Captured == 0 && v.Scan == nil && c.ran() {
		v.Empty = c.empty()
	}
	finishView(&v, e.state, e.reason)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !slices.Contains(cs.slots, c) {
		return
	}
	cs.slots = slices.DeleteFunc(cs.slots, func(o *Capture) bool { return o == c })
	cs.finished = slices.Insert(cs.finished, 0, v)
	if len(cs.finished) > keepFinished {
		cs.finished = cs.finished[:keepFinished]
	}
	if f := c.forget(); f != nil {
		if err := f.tell(&v); err != nil {
			cs.Report(fmt.Errorf("keep how capture %s ended: %w", c.id, err))
		}
		cs.ended = append(cs.ended, f)
	}
	cs.saveSoon()
	close(c.done)
}

// finishView completes the entry of a capture that has ended: its rate is the average now.
func finishView(v *api.Capture, state, reason string) {
	v.State, v.Reason, v.BitRate = state, reason, 0
	if took := v.EndTime - v.StartTime; took > 0 {
		v.BitRate = uint64(float64(v.Bytes) * 8 / (float64(took) / 1e6))
	}
}
