package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"galvo/services/api"
	"galvo/services/internal/analysis"
	"galvo/services/internal/capture"
	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring"
)

// startPast starts a capture from a ring, which goes on with what is recorded until its end time.
func (e *Engine) startPast(s capture.Spec) (*capture.Capture, error) {
	_, from, err := e.rings.Opened(s.Source)
	if err != nil {
		return nil, err
	}
	if s.Filter.NeedsCalls() || s.Filter.StreamReach() > 0 {
		return e.startReplay(s, from)
	}
	to, why := interval(&s, from)
	q := ring.Query{From: s.Start, To: to, Filter: s.Filter, Hold: s.Hold, NoMeta: true, Live: to > time.Now().UnixNano()}
	ctx, cancel := context.WithCancel(context.Background())
	results, err := from.Query(ctx, q)
	if err != nil {
		cancel()
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	s.Feed = capture.NewFeed(capture.Source{Workers: 1, Interfaces: results.Interfaces})
	s.Block = true
	s.Scan, s.Sifted = func() api.Scan { return scanOf(results.Scan()) }, true
	return e.startFed(ctx, s, func() {
		results.Close()
		cancel()
	}, func(ctx context.Context, c *capture.Capture) { feedPast(ctx, c, s.Feed.Stage(0), results, why) })
}

// interval fixes when a capture from a ring begins, and returns when it ends and what one says that comes to it. Without a start a limit of time counts from the
// oldest packet, or from now if there is none before the end; it does not count if that is over by then.
func interval(s *capture.Spec, from *ring.Ring) (to int64, why string) {
	to, why = cmp.Or(s.End, math.MaxInt64), "end time"
	s.Start = since(s.Start, to, from)
	if s.MaxDuration != 0 && s.Start == 0 {
		if now := time.Now().UnixNano(); now < to {
			s.Start = now
		} else {
			s.MaxDuration = 0
		}
	}
	if d := int64(s.MaxDuration); d != 0 && d < to-s.Start {
		to, why = s.Start+d, "time limit"
	}
	return to, why
}

// startFed starts a capture with a feed of its own. feed gives it packets once it is run; end is called when that is over, or if it does not come to it.
func (e *Engine) startFed(ctx context.Context, s capture.Spec, end func(), feed func(context.Context, *capture.Capture)) (*capture.Capture, error) {
	c, err := e.captures.Start(s)
	if err != nil {
		end()
		return nil, err
	}
	e.running.Go(func() {
		defer end()
		c.WhenRun(ctx, func(ctx context.Context) { feed(ctx, c) })
	})
	return c, nil
}

// since returns where an interval of a ring begins: without a start at the oldest packet from which on nothing was overwritten, if that is before the end.
func since(start, end int64, from *ring.Ring) int64 {
	if oldest := from.State().Oldest; start == 0 && oldest < end {
		return oldest
	}
	return start
}

// feedPast gives a capture what a query finds, until one of them ends. What the capture does not take any more was not found.
func feedPast(ctx context.Context, c *capture.Capture, stage *capture.Stage, results *ring.Results, why string) {
	var b pipeline.Batch
	var err error
	given := uint64(0)
	for err == nil && !c.Over() {
		if err = results.Next(ctx, &b); err == nil {
			stage.Process(&b)
			given += uint64(len(b.Packets))
		}
	}
	results.Unread(int(given - c.Looked()))
	stage.Finish()
	switch {
	case errors.Is(err, io.EOF):
		c.Finish(why)
	case err != nil && ctx.Err() == nil:
		c.Fail(unreadable(err))
	}
}

// unreadable says why a capture from a ring does not have the rest of its interval.
func unreadable(err error) string {
	if errors.Is(err, ring.ErrClosed) {
		return "the ring was closed: it was deleted, or a storage device of its own came or went"
	}
	return "the ring could not be read on: " + err.Error()
}

// replayMargin is how long before a capture's start a replay begins, to meet the beginnings of calls, and what came before in TCP streams: no flow is silent for
// longer.
const replayMargin = int64(10 * time.Minute)

// startReplay starts a capture whose filter asks for calls or TCP streams, of which a ring's index knows nothing: the interval is analysed anew, with some time before it.
func (e *Engine) startReplay(s capture.Spec, from *ring.Ring) (*capture.Capture, error) {
	to, why := interval(&s, from)
	ctx, cancel := context.WithCancel(context.Background())
	source, err := from.Source(ctx, ring.Query{From: s.Start, To: to, Before: replayMargin, Filter: s.Filter.Flows(), Live: to > time.Now().UnixNano()})
	if err != nil {
		cancel()
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	s.Feed = capture.NewFeed(capture.Source{Workers: 1, Interfaces: source.Interfaces})
	s.Block = true
	s.Scan = func() api.Scan { return scanOf(source.Scan()) }
	return e.startFed(ctx, s, func() {
		source.Close()
		cancel()
	}, func(ctx context.Context, c *capture.Capture) { e.feedReplay(ctx, c, s.Feed.Stage(0), source, why) })
}

// feedReplay runs packets of a ring through the pipeline of a capture.
func (e *Engine) feedReplay(ctx context.Context, c *capture.Capture, stage *capture.Stage, source *ring.Source, why string) {
	worker := analysis.NewWorker(max(e.slots.bytes/4, leastReplay), e.recognise(), source, stage)
	worker.OnPanic = e.panics.note
	err := worker.Run(ctx)
	stage.Finish()
	if err != nil && ctx.Err() == nil {
		c.Fail(unreadable(err))
		return
	}
	c.Finish(why)
}

// leastReplay is the memory of a replay where there is no slot to take it from.
const leastReplay = 8_000_000

// recognise says how protocols of recorded packets are recognised; nil is not at all.
func (e *Engine) recognise() *l7.Config {
	if !e.settings.Load().config.Engine.L7 {
		return nil
	}
	return &l7.Config{Guess: true, Hosts: e.hosts()}
}

func scanOf(s ring.Scan) api.Scan {
	v := api.Scan{
		Blocks: s.Blocks, Read: s.Read, Bytes: s.Bytes, Packets: s.Packets, Matched: s.Matched, Undecided: s.Undecided, Disorder: s.Disorder, Dropped: s.Dropped, Lost: s.Lost,
		Gaps: []api.ScanGap{}, Empty: s.Empty, Passed: s.Passed + s.Skipped, Held: s.Held,
	}
	if s.From <= s.To {
		v.StartTime, v.EndTime = s.From/1000, s.To/1000
	}
	v.Until = s.Until / 1000
	for _, g := range s.Gaps {
		v.Gaps = append(v.Gaps, api.ScanGap{StartTime: g.From / 1000, EndTime: g.To / 1000, Reason: g.Why})
	}
	slices.SortStableFunc(v.Gaps, func(a, b api.ScanGap) int { return cmp.Compare(a.StartTime, b.StartTime) })
	return v
}

// dryRun says what a capture from a ring would bring.
func (e *Engine) dryRun(ctx context.Context, in *api.DryRunInput) (*api.Reply[api.DryRun], error) {
	from, err := e.rings.At(in.Name)
	if err != nil {
		return nil, err
	}
	f, err := filter.Compile(in.Body.Expression, e.recordedEnv())
	if err != nil {
		return nil, api.ErrorOf(err)
	}
	q := ring.Query{To: cmp.Or(in.Body.EndTime*1000, time.Now().UnixNano()), Filter: f, Hold: true}
	if q.From = since(in.Body.StartTime*1000, q.To, from); q.To <= q.From {
		return nil, api.Errorf(api.BadRequest, "endTime is not after startTime")
	}
	x, err := from.Estimate(ctx, q)
	if errors.Is(err, ring.ErrClosed) {
		return nil, &api.Error{Kind: api.Conflict, Text: unreadable(err)}
	}
	if err != nil {
		return nil, err
	}
	v := api.DryRun{Blocks: x.Blocks, Packets: x.Packets, Error: x.Error, Bytes: x.Bytes, Seconds: x.Duration.Seconds(), Sampled: x.Sampled, Exact: x.Exact, Empty: x.Empty}
	if x.From <= x.To {
		v.StartTime, v.EndTime = x.From/1000, x.To/1000
	}
	return &api.Reply[api.DryRun]{Body: v}, nil
}

// recordedEnv is what expressions about packets that were recorded are compiled against.
func (e *Engine) recordedEnv() *filter.Env {
	env := *e.settings.Load().env
	env.Live = false
	return &env
}
