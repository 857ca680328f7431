package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
)

// A Source replays an interval of a ring for an analysis that finds flows and protocols anew. It is a pipeline.Source with one reader;
// Progress and Interfaces may be called from any goroutine.
type Source struct {
	results *Results
	at      atomic.Int64
	packets atomic.Uint64
}

// Source returns a Source of the packets that a query asks for. Close ends it.
func (r *Ring) Source(ctx context.Context, q Query) (*Source, error) {
	q.ports, q.NoMeta = true, true
	results, err := r.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return &Source{results: results}, nil
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
	case at <= scan.From || scan.To <= scan.From:
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
	Error    uint64 // that Packets is off by, at most, 19 times of 20: as far as the blocks that were looked at tell
	Bytes    uint64 // of these, captured
	Duration time.Duration
	Sampled  uint64 // blocks that were looked at for it
	Exact    bool   // these were all, and each packet tells by itself and its flow whether it matches: media of calls and matches over segments are missing else
	From, To int64  // begin and end, both included, of what the ring has of the interval; From > To if that is nothing
	Empty    string // why nothing would match, as far as was looked at; empty if something would
}

// An estimate looks at blocks for so long, and at so many at least.
const (
	sampleTime  = 100 * time.Millisecond
	leastSample = 8
)

// Estimate says about how much a query brings: which blocks it would read, from the index, and how much of these matches, from some of them.
func (r *Ring) Estimate(ctx context.Context, q Query) (Estimate, error) {
	q.Live, q.NoMeta = false, true
	res, err := r.newResults(ctx, q)
	if err != nil {
		return Estimate{}, fmt.Errorf("estimate: %w", err)
	}
	defer res.release()
	replayed := res.q.Filter.NeedsCalls() || res.q.Filter.StreamReach() > 0
	if replayed {
		res.prune = nil // what is read is what a replay of all the flows needs
		if flows := res.q.Filter.Flows(); flows != nil {
			res.prune = flows.Prune()
		}
	}
	f := newFollower(res)
	tasks, _, _ := f.round()
	tasks = slices.DeleteFunc(tasks, func(t *task) bool { return t.cut }) // have nothing of what is asked for
	s := sample{of: len(tasks)}
	for _, t := range tasks {
		s.all += float64(t.Packets)
	}
	start := time.Now()
	for i := range spread(len(tasks)) {
		if res.ctx.Err() != nil || len(s.blocks) >= leastSample && time.Since(start) > sampleTime {
			break
		}
		s.take(res, tasks[i])
	}
	scan := res.Scan()
	e := s.estimate()
	e.Exact = len(s.blocks) == len(tasks) && !replayed
	e.From, e.To = scan.From, scan.To
	if e.Packets == 0 {
		scan.Read = e.Sampled
		for _, b := range s.blocks {
			scan.Packets += uint64(b.packets)
		}
		e.Empty = res.why(&scan)
	}
	if len(s.blocks) > 0 {
		e.Duration = time.Duration(float64(time.Since(start)) * float64(e.Blocks) / float64(e.Sampled))
	}
	return e, context.Cause(res.ctx)
}

// spread yields the numbers below n, each once, in an order in which those that came so far are spread over all.
func spread(n int) iter.Seq[int] {
	width := bits.Len(uint(max(n-1, 0)))
	return func(yield func(int) bool) {
		for i := range 1 << width {
			if k := int(bits.Reverse64(uint64(i)) >> (64 - width)); k < n && !yield(k) {
				return
			}
		}
	}
}

// A sample is some of the blocks that a query would read.
type sample struct {
	of     int     // blocks
	all    float64 // packets of these
	blocks []sampledBlock
}

// A sampledBlock is how many packets a block has, and how many packets and bytes of these match.
type sampledBlock struct{ packets, matched, bytes float64 }

// take looks at a block.
func (s *sample) take(q *Results, t *task) {
	b := sampledBlock{packets: float64(t.Packets)}
	q.tokens <- struct{}{}
	if v := q.look(t); v != nil {
		b.matched = float64(len(v.packets))
		for i := range v.packets {
			b.bytes += float64(len(v.packets[i].Data))
		}
		q.drop(v)
	}
	s.blocks = append(s.blocks, b)
}

// estimate says what the sample tells about all blocks: they have the same share of packets that match, and the sample is off by as much as its blocks are apart.
func (s *sample) estimate() Estimate {
	e := Estimate{Blocks: uint64(s.of), Sampled: uint64(len(s.blocks))}
	var sum sampledBlock
	for _, b := range s.blocks {
		sum.packets, sum.matched, sum.bytes = sum.packets+b.packets, sum.matched+b.matched, sum.bytes+b.bytes
	}
	n, of := float64(len(s.blocks)), float64(s.of)
	if n == 0 || sum.packets == 0 {
		return e
	}
	e.Packets, e.Bytes = uint64(sum.matched*s.all/sum.packets+0.5), uint64(sum.bytes*s.all/sum.packets+0.5)
	switch {
	case n == of: // the sample is all of them
	case sum.matched == 0:
		e.Error = uint64(3*of/n + 0.5) // so many blocks may have one, if none of n has
	default:
		spread := 0.0
		for _, b := range s.blocks {
			d := b.matched - sum.matched/sum.packets*b.packets
			spread += d * d
		}
		e.Error = uint64(2.4*of*math.Sqrt(spread/(n-1)/n*(1-n/of)) + 0.5) // Student's t for 8 blocks
	}
	return e
}
