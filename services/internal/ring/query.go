package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A Query asks a ring for packets.
type Query struct {
	From, To int64 // ns since the epoch, half-open: From <= time < To; To = math.MaxInt64 has no end
	Filter   *filter.Filter
	Hold     bool // a packet whose flow has no verdict yet is judged by the verdict that comes later; else it is left out
	Live     bool // at the newest packet go on with what is recorded, until To by the clock or the end of the context

	everything bool // reads every block: what pruning is compared with
}

// A Gap is a time of which packets may be missing in a result, and why.
type Gap struct {
	From, To int64 // both included
	Why      string
}

// A Scan says what a query looked at.
type Scan struct {
	Blocks    uint64 // that the ring has in the interval
	Read      uint64 // of these, blocks that were read: the others cannot hold what was asked for
	Bytes     uint64 // that were read, indexes too
	Packets   uint64 // that were looked at
	Matched   uint64 // of these, delivered
	Undecided uint64 // of these, left out because their flow never got a verdict that the filter could decide on
	Disorder  uint64 // delivered after a later one, because the reorder memory was too small
	Dropped   uint64 // that the ring did not take in the interval, about: from the first of its blocks to the last one
	From, To  int64  // times of the first and the last packet that the ring has in the interval; From > To if it has none
	Gaps      []Gap
	Empty     string // why nothing matched; empty if something did

	drops drops
}

// Results are what a query finds, in the order of time. They have one reader. Close ends them.
type Results struct {
	ring *Ring
	q    Query
	tables
	prune  *filter.Prune
	ctx    context.Context
	cancel context.CancelCauseFunc

	ordered chan *task    // in the order of their first packet
	work    chan *task    // the same, for who reads them
	tokens  chan struct{} // one for each block in memory
	joined  sync.WaitGroup
	resolve resolver
	held    waitingRoom
	recent  chan struct{} // done of the last task whose packets may wait for verdicts; feed's own
	rounds  atomic.Int64  // of naming blocks
	cut     atomic.Bool   // the ring was closed before the end of the interval

	active  []*view // with packets to deliver
	coming  *task   // the next one
	bound   int64   // packets before this time may be delivered
	ended   bool
	last    int64
	current []*view // whose packets the last batch borrows

	scanMu sync.Mutex
	scan   Scan
	idle   []*view
}

// A task is a block to be looked at, or, without one, the message that everything before bound has been named.
type task struct {
	slot
	places []place   // where it lies
	waits  bool      // it is on its way there
	shown  *snapshot // or a copy of it while it is unfinished
	from   uint32    // ordinal of the first packet that was not looked at before
	done   chan struct{}
	after  chan struct{} // done of the one that must be looked at before; nil if there is none
	v      *view         // nil if nothing matched
	held   *view         // packets that waited for what this block says; nil if there are none
	bound  int64         // before this time nothing is recorded any more; what comes next in time may still be recorded after it
	fence  bool
	final  bool
}

// A place is where a block lies.
type place struct {
	s *segment
	i int
}

// Query looks for packets. Its work goes on ahead of the reader as far as memory allows, and waits for him.
func (r *Ring) Query(ctx context.Context, q Query) (*Results, error) {
	res, err := r.newResults(ctx, q)
	if err != nil {
		return nil, err
	}
	readers := min(runtime.GOMAXPROCS(0), maxReaders)
	res.joined.Add(1 + readers)
	go res.feed()
	for range readers {
		go res.read()
	}
	return res, nil
}

// maxReaders is how many blocks a query looks at, at once.
const maxReaders = 4

// newResults makes ready what a query needs, and starts nothing.
func (r *Ring) newResults(ctx context.Context, q Query) (*Results, error) {
	if q.From >= q.To {
		return nil, fmt.Errorf("query ring %q: the interval ends before it begins", r.d.name)
	}
	if q.Filter == nil {
		all, err := filter.Compile("", nil)
		if err != nil {
			return nil, err
		}
		q.Filter = all
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("query ring %q: it is closed", r.d.name)
	}
	r.readers.Add(1)
	window := max(int(r.cfg.ReorderBytes/blockSize/2), 4)
	res := &Results{ring: r, q: q, bound: math.MinInt64, last: math.MinInt64}
	res.scan = Scan{From: math.MaxInt64, To: math.MinInt64}
	res.ctx, res.cancel = context.WithCancelCause(ctx)
	r.queries[res] = struct{}{}
	if !q.everything {
		res.prune = q.Filter.Prune()
	}
	res.resolve.init(res)
	res.ordered, res.work, res.tokens = make(chan *task, window), make(chan *task, window), make(chan struct{}, window)
	return res, nil
}

// Close ends the query and gives back its memory. The last batch is no longer valid.
func (q *Results) Close() {
	if q.cancel == nil {
		return
	}
	q.cancel(nil)
	q.joined.Wait()
	q.release()
}

// release gives back what newResults took.
func (q *Results) release() {
	q.cancel(nil)
	q.cancel = nil
	q.ring.mu.Lock()
	delete(q.ring.queries, q)
	q.ring.mu.Unlock()
	q.giveBack()
	q.ring.buffers.trim()
	q.ring.readers.Done()
}

// giveBack returns the buffers of views that were not delivered.
func (q *Results) giveBack() {
	views := append(q.current, q.active...)
	if q.coming != nil && q.coming.v != nil {
		views = append(views, q.coming.v)
	}
	for t := range q.left() {
		if t.v != nil {
			views = append(views, t.v)
		}
	}
	for _, v := range views {
		if v.owned {
			q.ring.buffers.put(v.buf)
		}
	}
	q.current, q.active, q.coming = nil, nil, nil
}

// left yields the tasks that nobody took.
func (q *Results) left() iter.Seq[*task] {
	return func(yield func(*task) bool) {
		for {
			select {
			case t, ok := <-q.ordered:
				if !ok || !yield(t) {
					return
				}
			default:
				return
			}
		}
	}
}

// Scan says what was looked at so far. It may be called from any goroutine.
func (q *Results) Scan() Scan {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	s := q.scan
	s.Gaps = slices.Clone(s.Gaps)
	s.Dropped = s.drops.most - s.drops.least
	if s.Matched == 0 {
		s.Empty = s.why()
	}
	return s
}

func (s *Scan) why() string {
	switch {
	case s.Blocks == 0:
		return "the ring has no packet of the interval"
	case s.Read == 0:
		return fmt.Sprintf("none of the ring's %d blocks of the interval has what the filter asks for", s.Blocks)
	case s.Undecided > 0:
		return fmt.Sprintf("none of the %d packets looked at matched; of %d the flow was never recognised", s.Packets, s.Undecided)
	}
	return fmt.Sprintf("none of the %d packets looked at matched", s.Packets)
}

// count changes what Scan says.
func (q *Results) count(f func(*Scan)) {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	f(&q.scan)
}

func (q *Results) gap(from, to int64, why string) {
	q.count(func(s *Scan) {
		if n := len(s.Gaps); n > 0 && s.Gaps[n-1].Why == why && from <= s.Gaps[n-1].To+int64(time.Second) {
			s.Gaps[n-1].From, s.Gaps[n-1].To = min(s.Gaps[n-1].From, from), max(s.Gaps[n-1].To, to)
			return
		}
		if len(s.Gaps) < 1000 {
			s.Gaps = append(s.Gaps, Gap{from, to, why})
		}
	})
}

// Interfaces returns the table that Frame.Iface indexes. It may grow while batches are taken.
func (q *Results) Interfaces() []pipeline.Interface { return q.interfaces() }

// feed names the blocks to be looked at.
func (q *Results) feed() {
	defer q.joined.Done()
	defer close(q.ordered)
	defer close(q.work)
	f := newFollower(q)
	for {
		tasks, bound, final := f.round()
		for _, t := range tasks {
			if !q.send(t) {
				return
			}
		}
		fence := &task{fence: true, bound: bound, final: final}
		select {
		case q.ordered <- fence:
		case <-q.ctx.Done():
			return
		}
		if final || !f.wait() {
			return
		}
	}
}

func (q *Results) send(t *task) bool {
	t.done = make(chan struct{})
	t.after = q.recent
	if q.mayWait(t, t.last) {
		q.recent = t.done // who reads a later one, which may have the verdict, must find its packets waiting
	}
	select {
	case q.tokens <- struct{}{}:
	case <-q.ctx.Done():
		return false
	}
	for _, to := range []chan *task{q.work, q.ordered} {
		select {
		case to <- t:
		case <-q.ctx.Done():
			return false
		}
	}
	return true
}

// read looks at blocks.
func (q *Results) read() {
	defer q.joined.Done()
	for t := range q.work {
		if t.after != nil {
			<-t.after // who has it took it before, and ends
		}
		if q.ctx.Err() == nil {
			t.v = q.look(t)
		}
		close(t.done)
	}
}

// look reads a block and keeps what the query wants of it; nil if that is nothing.
func (q *Results) look(t *task) *view {
	v := q.view()
	why := q.fetch(t, v)
	if why == nil {
		why = q.match(t, v)
	}
	if why != nil {
		q.drop(v)
		if errors.Is(why, errOverwritten) {
			q.gap(t.first, t.last, "overwritten while it was read")
		} else {
			q.gap(t.first, t.last, "damaged")
			q.ring.mu.Lock()
			q.ring.problem(fmt.Errorf("block %d: %w", t.seq, why))
			q.ring.mu.Unlock()
		}
		return nil
	}
	q.count(func(s *Scan) {
		if t.from == 0 { // else it is what was added to one that was not finished
			s.Read++
		}
		s.Packets += uint64(v.looked)
		s.drops.add(v.h.dropped)
	})
	if len(v.packets) == 0 {
		q.drop(v)
		return nil
	}
	v.order()
	return v
}

var errOverwritten = errors.New("overwritten")

// fetch reads the bytes of a block: from memory, or from the first of its places that has it.
func (q *Results) fetch(t *task, v *view) error {
	if t.shown != nil {
		v.buf, v.h = t.shown.buf, t.shown.h
		return nil
	}
	b, err := q.ring.buffers.get()
	if err != nil {
		return err
	}
	v.buf, v.owned = b, true
	if t.waits {
		if h, ok := q.ring.copyWaiting(t.seq, b); ok {
			v.h = h
			return nil
		}
		t.places = q.ring.locate(t.seq)
	}
	why := error(errOverwritten)
	for _, p := range t.places {
		h, err := q.ring.readBlock(p.s, p.i, b)
		q.count(func(s *Scan) { s.Bytes += blockSize })
		switch {
		case err == nil && h.seq == t.seq:
			v.h = h
			return nil
		case err == nil, q.ring.gone(p, t.seq):
		default:
			why = err
		}
	}
	return why
}

// copyWaiting copies a block that waits for the disk; ok is false if it no longer does.
func (r *Ring) copyWaiting(seq uint64, b []byte) (header, bool) {
	r.mu.Lock()
	img := r.waiting[seq]
	if img != nil {
		img.refs++
	}
	r.mu.Unlock()
	if img == nil {
		return header{}, false
	}
	copy(b, img.buf[:img.h.flowsEnd])
	h := img.h
	r.release(img, false)
	return h, true
}

// locate returns where a block lies that was written lately.
func (r *Ring) locate(seq uint64) (places []place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			for i := range s.slots {
				if s.slots[i].seq == seq {
					places = append(places, place{s, i})
				}
			}
		}
	}
	return places
}

// readBlock reads a block and checks it.
func (r *Ring) readBlock(s *segment, i int, b []byte) (header, error) {
	if _, err := s.file.ReadAt(b[:blockSize], int64(i)*blockSize); err != nil {
		return header{}, fmt.Errorf("device %d: read block %d of %s: %w", s.dev.number, i, segmentName(s.number), err)
	}
	h, err := checkBlock(b)
	if err == nil && h.ring != r.d.ring {
		err = errors.New("it belongs to another ring")
	}
	if err != nil {
		return h, fmt.Errorf("device %d: block %d of %s: %w", s.dev.number, i, segmentName(s.number), err)
	}
	return h, nil
}

// gone reports whether a place has been given to another block.
func (r *Ring) gone(p place, seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.s.slots != nil && p.s.slots[p.i].seq != seq
}

// view lends a view.
func (q *Results) view() *view {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	if n := len(q.idle); n > 0 {
		v := q.idle[n-1]
		q.idle = q.idle[:n-1]
		return v
	}
	return &view{}
}

// drop gives back a view and the memory of its block.
func (q *Results) drop(v *view) {
	if v.free {
		return
	}
	if v.owned {
		q.ring.buffers.put(v.buf)
	}
	v.buf, v.owned, v.next, v.looked = nil, false, 0, 0
	v.packets, v.meta = v.packets[:0], v.meta[:0]
	q.scanMu.Lock()
	q.idle = append(q.idle, v)
	q.scanMu.Unlock()
	<-q.tokens
}

// match asks the filter about the packets of a block.
func (q *Results) match(t *task, v *view) error {
	w, err := v.walk(&q.tables)
	if err != nil {
		return err
	}
	undecided := uint64(0)
	v.packets = slices.Grow(v.packets, int(v.h.packets)+1)
	for {
		w.p = &v.packets[:len(v.packets)+1][len(v.packets)]
		more, err := w.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i := w.ordinal - 1
		if w.p.Time < q.q.From || w.p.Time >= q.q.To || i < int(t.from) {
			continue
		}
		v.looked++
		known := w.entry.at(i)
		w.ref.Host = known.host
		verdict := known.verdict
		result := q.q.Filter.Match(w.p, &w.ref, verdict)
		if result == filter.Unknown && q.q.Hold {
			result, verdict = q.later(t, w, i, verdict)
		}
		switch result {
		case filter.Yes:
			v.packets = v.packets[:len(v.packets)+1]
			v.meta = append(v.meta, pipeline.Meta{Ref: w.ref, L7: verdict})
		case filter.Unknown:
			undecided++
		}
	}
	if q.q.Live {
		t.held = q.admit(&v.flows)
	}
	if undecided > 0 {
		q.count(func(s *Scan) { s.Undecided += undecided })
	}
	return nil
}

// later asks the filter again about a packet whose result is unknown, with what became known of its flow after it.
func (q *Results) later(t *task, w *walker, packet int, v l7.Verdict) (filter.Result, l7.Verdict) {
	e := w.entry
	for k := range e.events {
		if ev := &e.events[k]; ev.packet > packet {
			v, w.ref.Host = ev.verdict, ev.host
			if r := q.q.Filter.Match(w.p, &w.ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	if e.id != 0 {
		for k := 0; ; k++ {
			ev := q.resolve.event(&w.v.h, e.id, k, w.p.Time)
			if ev == nil {
				break
			}
			v, w.ref.Host = ev.verdict, ev.host
			if r := q.q.Filter.Match(w.p, &w.ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	if q.hold(t, w, v) {
		return filter.No, v
	}
	v = lastVerdict(v)
	return q.q.Filter.Match(w.p, &w.ref, v), v
}

// lastVerdict is what is known about a flow if nothing more will be known.
func lastVerdict(v l7.Verdict) l7.Verdict {
	switch v.State {
	case l7.Partial:
		v.State = l7.Final
	case l7.NoFlow, l7.Pending:
		v.State = l7.Unknown
	}
	return v
}

// Next fills b with the next packets and what was known of them, and waits for them if need be: up to 50 ms for those that are still to be recorded, then b
// is empty. What is in b is valid until the following Next. The error is io.EOF at the end; the context's if that ended before. A Results is a pipeline.Source,
// and gives b.Meta besides.
func (q *Results) Next(ctx context.Context, b *pipeline.Batch) error {
	for _, v := range q.current {
		q.drop(v)
	}
	q.current = q.current[:0]
	if cap(b.Packets) < pipeline.BatchSize || cap(b.Meta) < pipeline.BatchSize {
		b.Packets = make([]packet.Packet, 0, pipeline.BatchSize)
		b.Meta = make([]pipeline.Meta, 0, pipeline.BatchSize)
	}
	b.Packets, b.Meta = b.Packets[:0], b.Meta[:0]
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.ctx.Err() != nil {
			return context.Cause(q.ctx)
		}
		if q.fill(b); len(b.Packets) > 0 {
			b.Now = b.Packets[len(b.Packets)-1].Time
			n := uint64(len(b.Packets))
			q.count(func(s *Scan) { s.Matched += n })
			return nil
		}
		switch {
		case q.ended && q.cut.Load():
			return ErrClosed
		case q.ended:
			return io.EOF
		}
		if idle, err := q.receive(ctx); err != nil || idle {
			b.Now = q.ring.now()
			return err
		}
	}
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
	}
	q.join(q.coming.held)
	q.join(q.coming.v)
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
		return max(q.bound, min(q.coming.first, q.coming.bound))
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
	packets := v.packets[v.next : v.next+n]
	if packets[0].Time < q.last && !v.free {
		q.count(func(s *Scan) { s.Disorder++ })
	}
	q.last = max(q.last, packets[n-1].Time)
	b.Packets = append(b.Packets, packets...)
	b.Meta = append(b.Meta, v.meta[v.next:v.next+n]...)
	v.next += n
}
