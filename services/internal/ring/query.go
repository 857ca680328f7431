package ring

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/aio"
	"galvo/services/internal/ring/block"
)

// A Query asks a ring for packets.
type Query struct {
	From, To int64 // ns since the epoch, half-open: From <= time < To; To = math.MaxInt64 has no end
	Before   int64 // ns before From whose packets are looked at, too, and delivered, for what they say of later ones: nobody is told that some of these are missing
	Filter   *filter.Filter
	Hold     bool // a packet whose flow has no verdict yet is judged by the verdict that comes later; else it is left out
	Live     bool // at the newest packet go on with what is recorded, until To by the clock or the end of the context
	NoMeta   bool // what was known of a packet is not wanted: if the filter does not ask for it Batch.Meta has nothing

	everything bool // reads every block: what pruning is compared with
	ports      bool // Frame.Iface of a packet remains its port id - 1, which filters and statistics ask for
}

// Results are what a query finds, in the order of time. They have one reader. Close ends them.
type Results struct {
	ring *Ring
	q    Query // From is where it begins to look
	told int64 // Query.From: what is said of the ring is said of the time from here on
	block.Tables
	prune  *filter.Prune
	flows  bool // what is known of flows is wanted
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

	active  []*view // with packets to deliver
	coming  *task   // the next one
	bound   int64   // packets before this time may be delivered
	ended   bool
	end     error // what Next returns then: io.EOF, or ErrClosed if the ring was closed before the interval was over; set before ordered is closed
	last    int64
	rest    uint32  // packets that were not wanted, behind the last ones of blocks in the last batch
	current []*view // whose packets the last batch borrows

	batch  []packet.Packet // the last one
	vain   []uint32        // parallel: packets that were not wanted before each
	lately []skip          // that count since it was delivered

	scanMu sync.Mutex
	scan   Scan
	skips  skips // that do not count yet
	idle   []*view
}

// Query looks for packets. Its work goes on ahead of the reader as far as memory allows, and waits for him.
func (r *Ring) Query(ctx context.Context, q Query) (*Results, error) {
	res, err := r.newResults(ctx, q)
	if err != nil {
		return nil, err
	}
	readers := max(leastReaders, runtime.GOMAXPROCS(0))
	res.joined.Add(1 + readers)
	for range readers {
		go res.read()
	}
	go res.feed()
	runtime.Gosched() // until the disk is waited for: what the caller does next need not come before that
	return res, nil
}

// leastReaders is how many blocks a query looks at, at once, at least: while the disk is waited for, somebody looks at what it has given. One that waits takes no
// processor, so there may be many.
const leastReaders = 8

// newResults makes ready what a query needs, and starts nothing.
func (r *Ring) newResults(ctx context.Context, q Query) (*Results, error) {
	if q.From >= q.To {
		return nil, fmt.Errorf("query ring %q: the interval ends before it begins", r.d.Name)
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
		return nil, fmt.Errorf("query ring %q: it is closed", r.d.Name)
	}
	r.readers.Add(1)
	window := max(int(r.Reorder()/block.Size/2), 4)
	res := &Results{ring: r, q: q, told: q.From, bound: math.MinInt64, last: math.MinInt64, end: io.EOF}
	if q.From >= math.MinInt64+q.Before {
		res.q.From -= q.Before
	}
	res.scan = Scan{From: math.MaxInt64, To: math.MinInt64}
	res.ctx, res.cancel = context.WithCancelCause(ctx)
	r.queries[res] = struct{}{}
	if !q.everything {
		res.prune = q.Filter.Prune()
	}
	res.flows = !q.NoMeta || q.Filter.NeedsFlow()
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
	q.ring.trim()
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
			q.ring.buffers.Put(v.Buf)
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

// Interfaces returns the table that Frame.Iface indexes. It may grow while batches are taken. A port id that was one interface and then another one has an entry
// for each, and so frames are of the interface that received them.
func (q *Results) Interfaces() []pipeline.Interface {
	if q.q.ports {
		return q.Ports()
	}
	return q.Met()
}

// feed names the blocks to be looked at.
func (q *Results) feed() {
	defer q.joined.Done()
	defer close(q.ordered)
	defer close(q.work)
	f := newFollower(q)
	var ends, stock sync.WaitGroup
	stock.Go(q.askStock)
	defer stock.Wait()
	for first := true; ; first = false {
		tasks, bound, final := f.round()
		if first { // beside what is looked for: who reads to the end knows it
			ends.Go(q.askEnds)
			defer ends.Wait()
		}
		if !q.sendAll(tasks) {
			return
		}
		ends.Wait()
		if final {
			stock.Wait()
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

// together is how many blocks are read at once where little of each is.
const together = 16

// sendAll gives tasks to who looks at them. Where little of a block is to be read, that is read before, together with that of the next ones.
func (q *Results) sendAll(tasks []*task) bool {
	var group []*task
	for _, t := range tasks {
		t.done = make(chan struct{})
		t.after = q.recent
		if q.mayWait(t, t.Last) {
			q.recent = t.done // who reads a later one, which may have the verdict, must find its packets waiting
		}
		narrow := t.narrow(q.flows && !t.cut)
		if len(group) == together || !narrow || len(q.tokens) == cap(q.tokens) {
			if !q.readAhead(group) {
				return false
			}
			group = group[:0]
		}
		select {
		case q.tokens <- struct{}{}:
		case <-q.ctx.Done():
			return false
		}
		if !q.send(q.ordered, t) {
			return false
		}
		if narrow {
			group = append(group, t)
		} else if !q.send(q.work, t) {
			return false
		}
	}
	return q.readAhead(group)
}

func (q *Results) send(to chan *task, t *task) bool {
	select {
	case to <- t:
		return true
	case <-q.ctx.Done():
		return false
	}
}

// readAhead reads what is planned for tasks, and passes each on when that, and that of those before it, is there.
func (q *Results) readAhead(group []*task) bool {
	var pieces []aio.Piece
	var of [together * block.MaxChunks]uint8 // the task that a piece is for
	var left [together]int
	for i, t := range group {
		b, err := q.ring.buffers.Get()
		if err != nil {
			continue // who looks at it says so
		}
		t.buf = b
		n := len(pieces)
		pieces = t.places[0].pieces(&t.plan, b, pieces)
		for ; n < len(pieces); n++ {
			of[n] = uint8(i)
			left[i]++
		}
	}
	sent := 0
	pass := func() {
		for sent < len(group) && left[sent] == 0 && q.send(q.work, group[sent]) {
			sent++
		}
	}
	q.readAll(pieces, func(i int, err error) {
		at := of[i]
		if err != nil {
			group[at].failed = err
		}
		left[at]--
		pass()
	})
	pass()
	for _, t := range group[sent:] {
		q.giveUp(t)
	}
	return sent == len(group)
}

// giveUp gives back what was read for a task that nobody looks at.
func (q *Results) giveUp(t *task) {
	if t.buf != nil {
		q.ring.buffers.Put(t.buf)
		t.buf = nil
	}
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
		q.giveUp(t) // unless it was looked at
		close(t.done)
	}
}
