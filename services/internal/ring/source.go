package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
)

// A Source replays an interval of a ring for an analysis that finds flows and protocols anew. It is a pipeline.Source with one reader;
// Progress and Interfaces may be called from any goroutine.
type Source struct {
	results  *Results
	from, to int64
	at       atomic.Int64
	packets  atomic.Uint64
}

// Source returns a Source of the packets with from <= time < to (ns since the epoch), or of those that only takes, if that is not nil. It ends with what the ring has
// now, or, live, goes on as a Query does. Close ends it.
func (r *Ring) Source(ctx context.Context, from, to int64, only *filter.Filter, live bool) (*Source, error) {
	q, err := r.Query(ctx, Query{From: from, To: to, Filter: only, Live: live, NoMeta: true})
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	s := &Source{results: q, from: from, to: to}
	return s, nil
}

// Next implements pipeline.Source. Now is the time of the last packet.
func (s *Source) Next(ctx context.Context, b *pipeline.Batch) error {
	err := s.results.Next(ctx, b)
	if err == nil && len(b.Packets) > 0 {
		s.at.Store(b.Now)
		s.packets.Add(uint64(len(b.Packets)))
	}
	if errors.Is(err, io.EOF) {
		s.at.Store(math.MaxInt64)
	}
	clear(b.Meta) // what the flow table says of a packet is found anew
	return err
}

// Interfaces implements pipeline.Source.
func (s *Source) Interfaces() []pipeline.Interface { return s.results.Interfaces() }

// Progress says how many packets were replayed, and how many bytes of the interval's blocks that is of how many: not what was read, which is ahead.
func (s *Source) Progress() (done, total int64, packets uint64) {
	scan := s.results.Scan()
	total, packets = int64(scan.Blocks)*block.Size, s.packets.Load()
	switch at := s.at.Load(); {
	case at == math.MaxInt64:
		return total, total, packets
	case at == 0 || scan.To <= scan.From:
		return 0, total, packets
	default:
		return int64(float64(total) * min(1, float64(at-scan.From)/float64(scan.To-scan.From))), total, packets
	}
}

// Scan says what was read.
func (s *Source) Scan() Scan { return s.results.Scan() }

// Close ends the replay.
func (s *Source) Close() { s.results.Close() }

// An Estimate is what a query would bring, told without reading most of it.
type Estimate struct {
	Blocks   uint64 // that would be read
	Packets  uint64 // that would match, about
	Bytes    uint64 // of these, captured
	Duration time.Duration
	Sampled  uint64 // blocks that were looked at for it
	Exact    bool   // these were all, and each packet tells by itself and its flow whether it matches: media of calls and matches over segments are missing else
	From, To int64  // begin and end, both included, of what the ring has of the interval; From > To if that is nothing
}

// sample is how many blocks an estimate looks at.
const sample = 8

// Estimate says about how much a query brings: which blocks it would read, from the index, and how much of these matches, from a few of them.
func (r *Ring) Estimate(ctx context.Context, q Query) (Estimate, error) {
	q.Live, q.NoMeta = false, true
	res, err := r.newResults(ctx, q)
	if err != nil {
		return Estimate{}, fmt.Errorf("estimate: %w", err)
	}
	defer res.release()
	f := newFollower(res)
	tasks, _, _ := f.round()
	scan := res.Scan()
	e := Estimate{Blocks: uint64(len(tasks)), From: scan.From, To: scan.To}
	var packets, captured, looked float64
	all := float64(0)
	for _, t := range tasks {
		all += float64(t.Packets)
	}
	step := max(1, (len(tasks)+sample-1)/sample)
	start := time.Now()
	for i := step / 2; i < len(tasks) && res.ctx.Err() == nil; i += step {
		t := tasks[i]
		looked += float64(t.Packets)
		e.Sampled++
		res.tokens <- struct{}{}
		v := res.look(t)
		if v == nil {
			continue
		}
		for k := range v.packets {
			packets++
			captured += float64(len(v.packets[k].Data))
		}
		res.drop(v)
	}
	e.Exact = e.Sampled == e.Blocks && !res.q.Filter.NeedsCalls() && res.q.Filter.StreamReach() == 0
	if looked > 0 {
		e.Packets, e.Bytes = uint64(packets*all/looked+0.5), uint64(captured*all/looked+0.5)
		e.Duration = time.Duration(float64(time.Since(start)) * float64(e.Blocks) / float64(e.Sampled))
	}
	return e, context.Cause(res.ctx)
}
