// Package capture runs captures: each has a filter, limits, one sink and five counters, and copies the packets that match out of the
// pipeline into a bounded queue of its own, from which its sink is fed.
//
// The wire never waits for a sink. A worker's stage looks at a packet for all captures at once, and encodes it into the room of every
// capture that wants it; where there is none the packet is counted as dropped. The goroutine that calls Run merges the workers' packets
// by time and writes them to the sink. Only a capture that reads savefiles may ask to block the source instead.
//
// What a worker touches per packet belongs to it: no lock, no channel, no allocation, no system call. Counters are shown once a batch.
// For every capture captured + dropped + ignored + held is the number of frames that its lanes looked at, at every moment.
//
// Packets leave in the order of time as far as their workers received them so: a worker that lags behind is waited for, until a packet is 150 ms old and
// only while a quarter of the queue is free. Packets that waited for the verdict of their flow leave behind younger ones of other flows. Within a flow
// the order is always that of the wire.
//
// The package starts no goroutine, but for timers that give up what nobody fetches and save what is kept. It reads no configuration, opens no sink and knows no port.
package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/sink"
)

// The states of a capture, as api.Capture has them.
const (
	Waiting     = "waiting"     // for its start time, or for its sink
	Running     = "running"     //
	Finished    = "finished"    // by a limit, by its end, or because somebody stopped it
	Interrupted = "interrupted" // by the end of the engine
	Failed      = "failed"      // by its sink or its source, or because it could not keep a promise
)

// A Spec says what to capture. Times are ns since the epoch.
type Spec struct {
	User     string                             // who asked
	Client   string                             // address and port of who asked
	Sink     string                             // "http", ...: for lists
	Source   string                             // "live", ...: for lists
	Feed     *Feed                              // where the packets come from; nil is that of Options.Source
	FileName string                             // for lists
	Place    api.FilePlace                      // likewise, of a capture to disk
	Latest   func() (name string, files uint64) // likewise; of a sink that writes several files, nil for others

	Expression string         // canonical form of Filter, for lists and for the savefile
	Filter     *filter.Filter // nil, or an empty Expression, takes everything
	Hold       bool           // packets whose flow has no verdict yet wait for it; else they are ignored

	Start       int64         // the first frame of this time or later starts; 0, and for live sources the past, is at once
	End         int64         // the first frame of this time or later ends; 0 is never
	MaxDuration time.Duration // after the start; 0 is no limit
	MaxPackets  uint64        // in the output; 0 is no limit
	MaxBytes    uint64        // of packets in the output, after snapping; 0 is no limit

	SnapLen         uint32 // bytes kept of each packet, from layer 2 on without FCS; 0 is all
	Format          Format // "" is Pcapng
	SingleInterface bool   // one interface in the output, whatever port a packet came from
	Comment         string // of the section
	DeviceInfo      string // appended to the comment

	SplitBytes uint64        // in a savefile before another one is begun, if the sink is a sink.Files; 0 is never
	SplitTime  time.Duration // likewise, from the start on; 0 is never

	QueueBytes uint64 // room for packets that the sink has not taken yet
	HoldBytes  uint64 // room for packets that wait for a verdict
	Block      bool   // the source waits for the sink: for savefiles and rings only. Time is that of the frames, never the clock

	Scan   func() api.Scan // what the source has looked at, of a ring; nil for any other
	Sifted bool            // the source gives only packets that match, as Scan says, so that Filter is not asked again

	Span func() (first, last int64) // of a source that has all its frames already, the times of the first and the last one; first > last if there is none; nil for any other
}

// A Capture is one that runs, waits, or has just ended.
type Capture struct {
	id   string
	spec Spec
	of   *Captures
	feed *Feed

	snap        int
	format      encoding
	oneLink     bool  // all packets must have the same link type
	asked       bool  // packets without a verdict were to wait, whether there can be any or not
	limited     bool  // admit must be asked
	reach       int   // how far the filter looks into TCP streams, in bytes; 0 = not at all
	from        int64 // frames in [from, until) are looked at; fixed when the capture is attached to the stages
	until       int64
	untilReason string
	link        atomic.Int32 // link type of all packets + 1, if oneLink and known
	pool        *pool
	lanes       []*lane // by worker

	packets atomic.Uint64 // tickets given out, counted only if there is such a limit
	bytes   atomic.Uint64
	blocked atomic.Int32 // workers that wait for room

	wake chan struct{}          // a lane has filled a chunk
	room chan struct{}          // a chunk was given back; only if spec.Block
	over chan struct{}          // closed with ended
	end  atomic.Pointer[ending] // why the lanes look at no more
	cut  atomic.Pointer[ending] // of who gives the sink no time to take what waits
	seen chan struct{}          // closed when the stages look at packets for the capture
	done chan struct{}          // closed when the capture is in the list of finished ones

	delivered      atomic.Uint64 // packets that the sink took
	deliveredBytes atomic.Uint64
	lost           atomic.Uint64 // since the capture began, as last asked
	forgotten      atomic.Uint64 // packets whose TCP stream was not kept, if the filter looks at that

	saving sync.Mutex // held to write the sink's cell of file, and to remove it
	file   *file      // nil if there is none

	mu sync.Mutex

	created  int64     // guarded by mu, as everything below
	started  int64     // when it was attached; 0 before
	lostThen []uint64  // lost by interface when it was attached
	sink     sink.Sink // once attached
	fetch    *time.Timer
}

// An ending says why a capture ended.
type ending struct {
	state, reason string
	time          int64
}

// ID names the capture in lists and calls.
func (c *Capture) ID() string { return c.id }

// FileName is the name that a savefile of the capture should have.
func (c *Capture) FileName() string { return c.spec.FileName }

// Place is where a capture to disk writes.
func (c *Capture) Place() api.FilePlace { return c.spec.Place }

// Attached is closed when Run was called and every later packet is looked at.
func (c *Capture) Attached() <-chan struct{} { return c.seen }

// Over reports whether the capture looks at no more packets.
func (c *Capture) Over() bool { return c.end.Load() != nil }

// Looked returns at how many packets the capture has looked. It is exact while no worker is inside its stage.
func (c *Capture) Looked() uint64 { return c.counts().looked }

// Done is closed when the capture has ended and is in the list of finished ones.
func (c *Capture) Done() <-chan struct{} { return c.done }

// Finish ends the capture as finished, for a reason in plain words, if it has not ended yet. What its queue holds is still delivered,
// at the speed of its sink.
func (c *Capture) Finish(reason string) { c.stop(Finished, reason, nil) }

// Exhaust ends the capture because its source, whose stages are finished, has no more packets: for a reason in plain words, unless they came to the capture's end
// before.
func (c *Capture) Exhaust(reason string) {
	if c.until != math.MaxInt64 && c.through() {
		reason = c.untilReason
	}
	c.Finish(reason)
}

// Fail ends the capture as failed, for a reason in plain words, if it has not ended yet: its source cannot give the rest. What its queue holds is still delivered.
func (c *Capture) Fail(reason string) { c.stop(Failed, reason, nil) }

// Interrupt ends the capture for a reason in plain words, if it has not ended yet. Its sink has 2 seconds to take what waits.
func (c *Capture) Interrupt(reason string) { c.stop(Interrupted, reason, within(stopTime)) }

// finish says that no more is looked at, and why, and returns true, unless that was said before.
func (c *Capture) finish(state, reason string) bool {
	first := c.end.CompareAndSwap(nil, &ending{state, reason, time.Now().UnixNano()})
	if first {
		close(c.over)
	}
	return first
}

// fallShort says why the sink did not take all that waited when the source had come to its end: somebody did not let it, or else as it says itself.
func (c *Capture) fallShort(state, reason string) {
	was := c.end.Load()
	if was.state != Finished {
		return
	}
	if cut := c.cut.Load(); cut != nil {
		state, reason = cut.state, cut.reason
	}
	c.end.Store(&ending{state, reason, was.time})
}

// stop ends the capture. interrupt does something about its sink, if it has one by now; without one nobody else retires it.
func (c *Capture) stop(state, reason string, interrupt func(sink.Sink)) {
	if interrupt != nil {
		c.cut.CompareAndSwap(nil, &ending{state: state, reason: reason})
	}
	c.finish(state, reason)
	c.mu.Lock()
	s := c.sink
	c.fetch.Stop()
	c.mu.Unlock()
	if s == nil {
		c.of.retire(c)
	} else if interrupt != nil {
		interrupt(s)
	}
}

// within gives a sink some time to take what waits.
func within(d time.Duration) func(sink.Sink) {
	return func(s sink.Sink) { s.Interrupt(time.Now().Add(d)) }
}

// giveUp ends the capture if nobody has run it.
func (c *Capture) giveUp() {
	c.mu.Lock()
	waiting := c.sink == nil
	if waiting {
		c.finish(Failed, "nobody fetched the packets within 30 seconds")
	}
	c.mu.Unlock()
	if waiting {
		c.of.retire(c)
	}
}

// admit hands out tickets for one packet of so many bytes, and reports whether the limits allow it and whether it is the last one that
// they do.
func (c *Capture) admit(bytes int) (ok, last bool) {
	if limit := c.spec.MaxPackets; limit != 0 {
		n := c.packets.Add(1)
		if n > limit {
			return false, true
		}
		last = n == limit
	}
	limit := c.spec.MaxBytes
	if limit == 0 {
		return true, last
	}
	for {
		used := c.bytes.Load()
		now := used + uint64(bytes)
		if now > limit {
			reason := "byte limit"
			if used == 0 {
				reason = limitTooLow
			}
			c.finish(Finished, reason)
			return false, true
		}
		if c.bytes.CompareAndSwap(used, now) {
			return true, last || now == limit
		}
	}
}

// limitReason says which limit the last packet has reached.
func (c *Capture) limitReason() string {
	if limit := c.spec.MaxPackets; limit != 0 && c.packets.Load() >= limit {
		return "packet limit"
	}
	return "byte limit"
}

// limitTooLow is why a capture is empty whose limit of bytes is below the first packet that it wants.
const limitTooLow = "byte limit: the first packet that matched is longer"

// endPassed is why a live capture is empty that was over before it began.
const endPassed = "the end time had passed when the capture began, and only a packet ring buffer has packets of the past"

// window decides from when and until when frames are looked at.
func (c *Capture) window(now int64) {
	s := &c.spec
	c.from, c.until = math.MinInt64, math.MaxInt64
	if s.Block && s.Start != 0 || s.Start > now {
		c.from = s.Start
	}
	if s.End != 0 {
		c.until, c.untilReason = s.End, "end time"
		if !s.Block && s.End <= now {
			c.untilReason = endPassed
		}
	}
	begin := max(now, c.from)
	if s.Block {
		begin = s.Start
	}
	if d := int64(s.MaxDuration); d != 0 && begin+d < c.until {
		c.until, c.untilReason = begin+d, "time limit"
	}
}

// attach fixes the window of time and gives the capture to the stages.
func (c *Capture) attach(s sink.Sink) error {
	now := time.Now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started != 0 {
		return &api.Error{Kind: api.Conflict, Text: "the packets of capture " + c.id + " are fetched already"}
	}
	if c.end.Load() != nil {
		return &api.Error{Kind: api.Conflict, Text: "capture " + c.id + " has ended"}
	}
	c.fetch.Stop()
	c.sink, c.started, c.lostThen = s, now, c.feed.Lost()
	c.window(now)
	c.feed.attach(c)
	close(c.seen)
	return nil
}

// Run feeds s until the capture ends, and returns when everything is written and the capture is in the list of finished ones. It returns
// nil if the stream is complete, and else why it is not. A capture can be run once: an *api.Error says that it was already, or has
// ended, and then nothing was written to s. When ctx is done the capture ends at once: the cause of ctx is the reason, or else that the
// client disconnected.
func (c *Capture) Run(ctx context.Context, s sink.Sink) error {
	if err := c.attach(s); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.Interrupt(time.Now()) })
	defer stop()
	err := newDrain(ctx, c, s).run()
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	c.of.retire(c)
	if e := c.end.Load(); err == nil && e.state == Failed {
		err = errors.New(e.reason)
	}
	return err
}

// view returns the capture as lists show it.
func (c *Capture) view() api.Capture {
	total := c.counts()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.describe()
	v.State = Running
	now := time.Now().UnixNano()
	if c.started == 0 || c.from > now && total.looked == 0 {
		v.State = Waiting
	}
	v.Lost = c.askLost()
	v.Counters.Captured, v.Counters.Dropped, v.Counters.Held = total.captured, total.dropped, total.held
	v.Counters.Ignored = total.looked - total.captured - total.dropped - total.held
	v.Bytes, v.BitRate, v.Forgotten = total.bytes, c.rate(now)*8, c.forgotten.Load()
	if c.spec.Scan != nil {
		scan := c.scan()
		v.Scan = &scan
		if c.spec.Sifted {
			v.Ignored, v.Held = v.Ignored+scan.Passed, scan.Held
		}
	}
	if e := c.end.Load(); e != nil {
		v.Reason, v.BitRate = e.reason, 0
	}
	return v
}

// ran reports whether the capture came to looking at packets.
func (c *Capture) ran() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started != 0
}

// scan returns what the source has looked at. Of a source that gives all packets it is the capture that knows how many matched.
func (c *Capture) scan() api.Scan {
	s := c.spec.Scan()
	if e := c.end.Load(); e != nil && e.reason == limitTooLow {
		s.Empty = limitTooLow
	}
	if c.spec.Sifted {
		return s
	}
	if s.Until = min(s.Until, c.lanes[0].through.Load()/1000); s.Until <= c.spec.Start/1000 { // the source goes on for a moment when the capture has ended
		s.Until = 0
	}
	total := c.counts()
	s.Packets, s.Matched = total.looked, total.captured+total.dropped
	if s.Matched == 0 && s.Empty == "" {
		s.Empty = cmp.Or(c.outside(), fmt.Sprintf("none of the %d packets looked at matched", s.Packets))
	}
	return s
}

// outside says that a source that has all its frames already has none of the capture's interval, and of which time it has some; empty if that is not so.
func (c *Capture) outside() string {
	s := &c.spec
	if s.Span == nil || s.Start == 0 && s.End == 0 {
		return ""
	}
	first, last := s.Span()
	if first > last || c.from <= last && c.until > first {
		return ""
	}
	none := "no frame of " + s.Source + " has a time"
	if s.Start != 0 {
		none += " from " + moment(s.Start/1000) + " on"
	}
	if s.End != 0 {
		none += " before " + moment(s.End/1000)
	}
	return fmt.Sprintf("%s: what it has is from %s to %s", none, moment(first/1000), moment(last/1000))
}

// describe returns what does not change. c.mu is held.
func (c *Capture) describe() api.Capture {
	s := &c.spec
	v := api.Capture{ID: c.id, User: s.User, Client: s.Client, Sink: s.Sink, Source: s.Source, Expression: s.Expression, Undecided: "skip",
		Format: string(s.Format), FileName: s.FileName, FilePlace: s.Place}
	if s.Latest != nil {
		v.FileName, v.Files = s.Latest()
	}
	if c.asked {
		v.Undecided = "hold"
	}
	start := c.created
	if c.started != 0 {
		start = c.started
	}
	if s.Span == nil { // else it waits for no time
		start = max(start, s.Start)
	}
	v.StartTime = start / 1000 // of one from the past its own, not that of its packets
	v.EndTime = s.End / 1000
	if c.started != 0 && c.until != math.MaxInt64 {
		v.EndTime = c.until / 1000
	}
	return v
}

// counts returns the sum over the lanes. It is exact while no worker is inside its stage.
func (c *Capture) counts() (total counts) {
	for _, l := range c.lanes {
		n := l.shown.load()
		total.add(&n)
	}
	return total
}

// rate returns the bytes of the last full second. A worker that had no turn since then has none: one that reads the past may wait long for its sink.
func (c *Capture) rate(now int64) (sum uint64) {
	for _, l := range c.lanes {
		if n := l.shown.load(); uint64(now/1e9) <= n.second+1 {
			sum += n.rate
		}
	}
	return sum
}

// lostSince returns the frames lost since the capture began, by interface.
func (c *Capture) lostSince() []uint64 {
	if c.started == 0 {
		return nil
	}
	lost := slices.Clone(c.feed.Lost())
	for i, n := range c.lostThen {
		if i < len(lost) {
			lost[i] -= min(n, lost[i])
		}
	}
	return lost
}

// forgetLost makes the capture begin with what was lost by now.
func (c *Capture) forgetLost() {
	lost := c.feed.Lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lostThen = lost
}

// askLost returns the sum of lostSince.
func (c *Capture) askLost() (sum uint64) {
	for _, n := range c.lostSince() {
		sum += n
	}
	c.lost.Store(sum)
	return sum
}

// save notes what the sink took and what was lost, as last asked, in the file that outlives the engine.
func (c *Capture) save() {
	select {
	case <-c.seen: // c.started does not change any more
	default:
		return
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	if c.file == nil {
		return
	}
	now := time.Now().UnixMicro()
	c.file.cell(0).store([cellWords]uint64{c.delivered.Load(), c.deliveredBytes.Load(), c.lost.Load(), uint64(c.started / 1000), uint64(now)})
}

// forget returns the file that outlives the engine, or nil: nobody writes its cells from then on.
func (c *Capture) forget() *file {
	c.saving.Lock()
	defer c.saving.Unlock()
	f := c.file
	c.file = nil
	return f
}
