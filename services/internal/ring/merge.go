package ring

import (
	"context"
	"io"
	"math"
	"slices"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// Next fills b with the next packets and what was known of them, and waits for them if need be: up to 50 ms for those that are still to be recorded, then b
// is empty. What is in b is valid until the following Next. The error is io.EOF at the end; the context's if that ended before. A Results is a pipeline.Source,
// and gives b.Meta besides.
func (q *Results) Next(ctx context.Context, b *pipeline.Batch) error {
	for _, v := range q.current {
		q.drop(v)
	}
	q.current = q.current[:0]
	q.pass(q.rest)
	q.rest = 0
	if cap(b.Packets) < pipeline.BatchSize || cap(b.Meta) < pipeline.BatchSize {
		b.Packets = make([]packet.Packet, 0, pipeline.BatchSize)
		b.Meta = make([]pipeline.Meta, 0, pipeline.BatchSize)
	}
	b.Packets, b.Meta = b.Packets[:0], b.Meta[:0]
	q.batch, q.vain, q.lately = nil, q.vain[:0], q.lately[:0]
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.ctx.Err() != nil {
			return context.Cause(q.ctx)
		}
		if q.fill(b); len(b.Packets) > 0 {
			b.Now = b.Packets[len(b.Packets)-1].Time
			q.batch = b.Packets
			n := uint64(len(b.Packets))
			q.count(func(s *Scan) { s.Matched += n })
			q.skipped(q.last)
			q.reached(q.last)
			return nil
		}
		if q.ended {
			q.skipped(math.MaxInt64)
			if q.end == io.EOF {
				q.reached(q.q.To)
			}
			return q.end
		}
		if limit := q.limit(); limit < math.MaxInt64 { // else it is about to end, and Next says how
			q.reached(limit)
		}
		if idle, err := q.receive(ctx); err != nil || idle {
			b.Now = q.ring.now()
			b.Given = q.given(b.Now)
			return err
		}
	}
}

// given returns up to which time every packet was delivered, but for those that wait for a verdict, when at a time now there is none to deliver. That is not the end of
// the interval before the query ends: who thinks that nothing more comes would not take the last packets.
func (q *Results) given(now int64) int64 {
	return max(min(q.limit(), now, q.q.To), 2) - 1 // 0 means another thing
}

// receive takes in what is named next. idle says that nothing came for a while.
func (q *Results) receive(ctx context.Context) (idle bool, err error) {
	if q.coming == nil {
		timer := time.NewTimer(50 * time.Millisecond)
		defer timer.Stop()
		select {
		case t, ok := <-q.ordered:
			switch {
			case !ok:
				q.ended, q.bound = true, math.MaxInt64
				q.join(q.expire())
				return false, nil
			case t.fence:
				q.bound = max(q.bound, t.bound)
				q.join(q.expire())
				return false, nil
			}
			q.coming = t
		case <-timer.C:
			return q.q.Live, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-q.ctx.Done():
			q.ended = true
			return false, nil
		}
		return false, nil
	}
	select {
	case <-q.coming.done:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-q.ctx.Done(): // perhaps nobody looks at it any more
		return false, context.Cause(q.ctx)
	}
	q.join(q.coming.held)
	q.join(q.coming.v)
	q.pass(q.coming.passed)
	q.coming = nil
	return false, nil
}

// join adds a view, which may be nil, to those that are being delivered.
func (q *Results) join(v *view) {
	if v != nil {
		q.active = append(q.active, v)
	}
}

// limit returns the time before which every packet is there.
func (q *Results) limit() int64 {
	if len(q.active) == cap(q.tokens) {
		return math.MaxInt64 // no memory for what may come before
	}
	if q.coming != nil {
		return max(q.bound, min(q.coming.First, q.coming.bound))
	}
	return q.bound
}

// fill puts packets of the active blocks into b, in the order of time.
func (q *Results) fill(b *pipeline.Batch) {
	limit := q.limit()
	for len(b.Packets) < pipeline.BatchSize && len(q.active) > 0 {
		at, until := 0, limit
		for i, v := range q.active[1:] {
			t := v.time()
			if t < q.active[at].time() {
				until = min(until, q.active[at].time())
				at = i + 1
			} else {
				until = min(until, t)
			}
		}
		v := q.active[at]
		if v.time() >= limit {
			return
		}
		q.take(b, v, until)
		if v.next == len(v.packets) {
			q.rest += v.rest // is later than what is delivered now
			q.active = slices.Delete(q.active, at, at+1)
			q.current = append(q.current, v)
		}
	}
}

// take moves packets of a view to b: the first one, and those after it up to a time.
func (q *Results) take(b *pipeline.Batch, v *view, until int64) {
	n, most := 1, min(len(v.packets)-v.next, pipeline.BatchSize-len(b.Packets))
	for n < most && v.packets[v.next+n].Time <= until && v.packets[v.next+n].Time < q.limit() {
		n++
	}
	packets, passed := v.packets[v.next:v.next+n], uint32(0)
	if late := q.late(packets); late > 0 && !v.free {
		q.count(func(s *Scan) { s.Disorder += late })
	}
	q.last = max(q.last, packets[n-1].Time)
	b.Packets = append(b.Packets, packets...)
	b.Meta = append(b.Meta, v.meta[v.next:v.next+n]...)
	for _, n := range v.passed[v.next : v.next+n] {
		passed += n
	}
	q.vain = append(q.vain, v.passed[v.next:v.next+n]...)
	q.pass(passed)
	v.next += n
}

// late returns how many packets, in the order of time, are earlier than one that was delivered.
func (q *Results) late(packets []packet.Packet) (n uint64) {
	for n < uint64(len(packets)) && packets[n].Time < q.last {
		n++
	}
	return n
}

// Unread takes back the last n packets of the last batch, which its reader has not taken: neither do they count as matched, nor as not wanted what came before them.
func (q *Results) Unread(n int) {
	if n = min(n, len(q.batch)); n <= 0 {
		return
	}
	taken := len(q.batch) - n
	until := int64(math.MinInt64)
	if taken > 0 {
		until = q.batch[taken-1].Time
	}
	passed, skipped := uint64(0), uint64(0)
	for _, n := range q.vain[taken:] {
		passed += uint64(n)
	}
	for _, s := range q.lately {
		if s.last > until {
			skipped += s.packets
		}
	}
	first := q.batch[taken].Time
	q.batch, q.rest = nil, 0
	q.count(func(s *Scan) {
		if s.Until = min(s.Until, first); s.Until <= q.told {
			s.Until = 0
		}
		s.Matched, s.Passed, s.Skipped = s.Matched-uint64(n), s.Passed-passed, s.Skipped-skipped
	})
}

// pass counts packets that were not wanted.
func (q *Results) pass(n uint32) {
	if n > 0 {
		q.count(func(s *Scan) { s.Passed += uint64(n) })
	}
}
