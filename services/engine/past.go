package engine

import (
	"context"
	"errors"
	"io"
	"math"
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
	_, from, err := e.rings.opened(s.Source)
	if err != nil {
		return nil, err
	}
	if s.Filter.NeedsCalls() {
		return e.startReplay(s, from)
	}
	q := ring.Query{From: s.Start, To: s.End, Filter: s.Filter, Hold: s.Hold}
	if q.To == 0 {
		q.To = math.MaxInt64
	}
	if s.MaxDuration != 0 && s.Start == 0 {
		s.Start = from.State().Oldest
	}
	q.Live = q.To > time.Now().UnixNano()
	ctx, cancel := context.WithCancel(context.Background())
	results, err := from.Query(ctx, q)
	if err != nil {
		cancel()
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	s.Feed = capture.NewFeed(capture.Source{Workers: 1, Interfaces: results.Interfaces})
	s.Block = true
	s.Scan = func() api.Scan { return scanOf(results.Scan()) }
	c, err := e.captures.Start(s)
	if err != nil {
		results.Close()
		cancel()
		return nil, err
	}
	e.running.Go(func() {
		defer cancel()
		defer results.Close()
		c.WhenRun(ctx, func(ctx context.Context) { feedPast(ctx, c, s.Feed.Stage(0), results) })
	})
	return c, nil
}

// feedPast gives a capture what a query finds, until one of them ends.
func feedPast(ctx context.Context, c *capture.Capture, stage *capture.Stage, results *ring.Results) {
	var b pipeline.Batch
	var err error
	for err == nil {
		if err = results.Next(ctx, &b); err == nil {
			stage.Process(&b)
		}
	}
	stage.Finish()
	switch {
	case errors.Is(err, io.EOF):
		c.Finish("end of the interval")
	case ctx.Err() == nil:
		c.Fail("the ring could not be read on: " + err.Error())
	}
}

// callMargin is how long before a capture's start a replay begins, to meet the beginnings of calls.
const callMargin = int64(10 * time.Minute)

// startReplay starts a capture whose filter asks for calls, of which a ring's index knows nothing: the interval is analysed anew, with some time before it. It
// ends with what the ring has now.
func (e *Engine) startReplay(s capture.Spec, from *ring.Ring) (*capture.Capture, error) {
	if s.Start == 0 {
		s.Start = from.State().Oldest
	}
	to := s.End
	if to == 0 {
		to = math.MaxInt64
	}
	ctx, cancel := context.WithCancel(context.Background())
	source, err := from.Source(ctx, s.Start-callMargin, to)
	if err != nil {
		cancel()
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	s.Feed = capture.NewFeed(capture.Source{Workers: 1, Interfaces: source.Interfaces})
	s.Block = true
	c, err := e.captures.Start(s)
	if err != nil {
		source.Close()
		cancel()
		return nil, err
	}
	e.running.Go(func() {
		defer cancel()
		defer source.Close()
		c.WhenRun(ctx, func(ctx context.Context) { e.feedReplay(ctx, c, s.Feed.Stage(0), source) })
	})
	return c, nil
}

// feedReplay runs packets of a ring through the pipeline of a capture.
func (e *Engine) feedReplay(ctx context.Context, c *capture.Capture, stage *capture.Stage, source *ring.Source) {
	worker := analysis.NewWorker(max(e.slots.bytes/4, leastReplay), e.recognise(), source, stage)
	err := worker.Run(ctx)
	stage.Finish()
	if err != nil && ctx.Err() == nil {
		c.Fail("the ring could not be read on: " + err.Error())
		return
	}
	c.Finish("end of the interval; what asks for calls does not go on into the present")
}

// leastReplay is the memory of a replay where there is no slot to take it from.
const leastReplay = 8_000_000

// recognise says how protocols of recorded packets are recognised; nil is not at all.
func (e *Engine) recognise() *l7.Config {
	if !e.settings.Load().config.Engine.L7 {
		return nil
	}
	return &l7.Config{Guess: true, Hosts: e.hosts}
}

func scanOf(s ring.Scan) api.Scan {
	v := api.Scan{
		Blocks: s.Blocks, Read: s.Read, Bytes: s.Bytes, Packets: s.Packets, Matched: s.Matched, Undecided: s.Undecided, Disorder: s.Disorder,
		Gaps: []api.ScanGap{}, Empty: s.Empty,
	}
	if s.From <= s.To {
		v.StartTime, v.EndTime = s.From/1000, s.To/1000
	}
	for _, g := range s.Gaps {
		v.Gaps = append(v.Gaps, api.ScanGap{StartTime: g.From / 1000, EndTime: g.To / 1000, Reason: g.Why})
	}
	return v
}

// dryRun says what a capture from a ring would bring.
func (e *Engine) dryRun(ctx context.Context, in *api.DryRunInput) (*api.Reply[api.DryRun], error) {
	_, from, err := e.rings.opened(in.Name)
	if err != nil {
		return nil, err
	}
	f, err := filter.Compile(in.Body.Expression, e.recordedEnv())
	if err != nil {
		return nil, filterError(err)
	}
	q := ring.Query{From: in.Body.StartTime * 1000, To: in.Body.EndTime * 1000, Filter: f, Hold: true}
	if q.To == 0 {
		q.To = time.Now().UnixNano()
	}
	if q.To < q.From {
		return nil, badRequest("endTime is before startTime")
	}
	x, err := from.Estimate(ctx, q)
	if err != nil {
		return nil, err
	}
	v := api.DryRun{Blocks: x.Blocks, Packets: x.Packets, Bytes: x.Bytes, Seconds: x.Duration.Seconds(), Sampled: x.Sampled, Exact: x.Exact}
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
