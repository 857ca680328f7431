package pipeline

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/stream"
)

// expireBudget is how many flow records an empty batch looks at: an idle table of the default size is seen once in 13 s.
const expireBudget = 256

// A Worker moves the frames of one source through its stages. The exported fields are set before Run and not changed after.
//
// Everything that a worker reaches belongs to the goroutine of Run: source, flow table, l7 engine, stages and their counters. Others look
// at it, or change it, with Do only.
type Worker struct {
	Source Source
	Index  int          // from 0
	Flows  *flow.Table  // may be nil: then packets have no flow
	Joiner *flow.Joiner // for a worker without flows: what later fragments learn of the first one. May be nil
	L7     *l7.Engine   // may be nil: then packets have no verdict. It must be what the table's OnEnd ends flows with
	Stages []Stage      // in the order in which they see a batch

	// Streams keeps what came before in TCP streams while a stage looks at it. It may be nil: then nobody knows.
	Streams *stream.Store

	// OnPanic is told when decoding or recognising a packet panicked, on the worker's goroutine. The packet goes on without what was not found out, its flow
	// has no more to do with l7, and all others are not concerned. If it is nil the panic goes on.
	OnPanic func(*Panic)

	batch   Batch
	reach   int // how far the stages look into TCP streams in this batch
	request atomic.Pointer[request]

	asking sync.Mutex // held by Do: one request at a time

	mu      sync.Mutex
	running bool // guarded by mu
}

type request struct {
	do   func(now int64)
	done chan struct{}
}

// Run works until the source ends, and returns nil; or until the source fails or ctx is done, and returns why. When Run returns the
// stages have seen every batch that the source gave.
func (w *Worker) Run(ctx context.Context) error {
	w.start()
	defer w.stop()
	for {
		if err := w.Source.Next(ctx, &w.batch); err != nil {
			if errors.Is(err, io.EOF) {
				w.conclude()
				return nil
			}
			return err
		}
		w.process(&w.batch)
		if r := w.request.Load(); r != nil {
			w.answer(r)
		}
	}
}

// conclude gives the flows that are left their last verdict: the source has ended, and nothing more will be known about them.
func (w *Worker) conclude() {
	if w.Flows == nil || w.L7 == nil {
		return
	}
	for r := range w.Flows.All() {
		w.L7.Finish(r)
	}
}

// Do calls f on the worker's goroutine between two batches, and waits for it: within 50 ms on live ports. f may read and change what
// the worker owns, must not block, and gets the time of the last batch. While the worker does not run Do calls f itself. If ctx is
// done before f was begun f is never called.
func (w *Worker) Do(ctx context.Context, f func(now int64)) error {
	w.asking.Lock()
	defer w.asking.Unlock()
	w.mu.Lock()
	if !w.running {
		defer w.mu.Unlock()
		f(w.batch.Now)
		return nil
	}
	r := &request{f, make(chan struct{})}
	w.request.Store(r)
	w.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	if w.request.CompareAndSwap(r, nil) {
		return ctx.Err()
	}
	<-r.done
	return nil
}

// answer carries out r unless its asker has given up.
func (w *Worker) answer(r *request) {
	if w.request.CompareAndSwap(r, nil) {
		r.do(w.batch.Now)
		close(r.done)
	}
}

func (w *Worker) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		panic("pipeline: Run of a worker that runs")
	}
	w.running = true
	w.batch.Worker = w.Index
	if cap(w.batch.Packets) < BatchSize {
		w.batch.Packets = make([]packet.Packet, 0, BatchSize)
		w.batch.Meta = make([]Meta, 0, BatchSize)
	}
}

func (w *Worker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	if r := w.request.Load(); r != nil {
		w.answer(r)
	}
}

// process fills in what the source did not, and hands b to the stages.
func (w *Worker) process(b *Batch) {
	b.Meta = b.Meta[:len(b.Packets)]
	if w.reach = w.streamReach(); w.reach > 0 {
		w.Streams.Begin()
	}
	if w.Flows != nil {
		w.Flows.Begin()
		if w.L7 != nil {
			w.L7.Begin()
		}
		if len(b.Packets) == 0 {
			w.Flows.Expire(b.Now, expireBudget)
		}
	}
	table := w.Source.Interfaces()
	// The memory that a run of packets needs comes while the runs after it are decoded and those before it are recognised.
	const lead = flow.Lead * flow.AheadMax
	for from := 0; from < len(b.Packets)+lead; from += flow.AheadMax {
		packets, _ := run(b, from)
		for i := 0; i < len(packets); i++ {
			i += w.decode(packets[i:], table)
		}
		if w.Flows != nil {
			w.Flows.Ahead(packets, w.L7 != nil)
		}
		w.follow(run(b, from-lead))
	}
	for _, stage := range w.Stages {
		stage.Process(b)
	}
}

// streamReach asks the stages how far they look into TCP streams.
func (w *Worker) streamReach() (reach int) {
	if w.Streams == nil {
		return 0
	}
	for _, stage := range w.Stages {
		if s, ok := stage.(StreamStage); ok {
			reach = max(reach, s.StreamReach())
		}
	}
	return reach
}

// decode locates the headers of packets, and returns how many there are, or the index of the one that it panicked at.
func (w *Worker) decode(packets []packet.Packet, table []Interface) (i int) {
	defer func() {
		if cause := w.caught(recover()); cause != nil {
			p := &packets[i]
			w.OnPanic(newPanic(cause, p, nil))
			p.Headers = packet.Headers{Link: p.Link, End: uint32(len(p.Data))}
		}
	}()
	for ; i < len(packets); i++ {
		p := &packets[i]
		p.Decode(table[p.Iface].Link)
	}
	return i
}

// run returns the packets of a batch that are looked at together from index at on: none before the first and after the last.
func run(b *Batch, at int) ([]packet.Packet, []Meta) {
	if at < 0 || at >= len(b.Packets) {
		return nil, nil
	}
	to := min(at+flow.AheadMax, len(b.Packets))
	return b.Packets[at:to], b.Meta[at:to]
}

// follow finds the flows of packets and what is known about them, and goes on to the next ones.
func (w *Worker) follow(packets []packet.Packet, meta []Meta) {
	if w.Flows == nil {
		w.followNone(packets)
		return
	}
	if w.L7 == nil && w.Streams == nil { // what they would say is as empty as it was made
		for i := range meta {
			w.Flows.FindAhead(i, &meta[i].Ref)
		}
	} else {
		for i := 0; i < len(packets); i++ {
			i = w.recognise(packets, meta, i)
		}
	}
	w.Flows.Advance()
}

// followNone is follow where packets have no flow: their Meta is as empty as it was made.
func (w *Worker) followNone(packets []packet.Packet) {
	if w.Joiner == nil {
		return
	}
	for i := range packets {
		w.Joiner.Join(&packets[i])
	}
}

// recognise is follow for the packets from one on up to one that l7 panics at; it returns as decode does. What panics in the flow table does so again: that cannot
// be trusted any more.
func (w *Worker) recognise(packets []packet.Packet, meta []Meta, from int) (i int) {
	found := -1
	defer func() {
		if i != found {
			return
		}
		if cause := w.caught(recover()); cause != nil {
			m := &meta[i]
			w.OnPanic(newPanic(cause, &packets[i], m.Flow))
			m.L7 = w.L7.Abandon(m.Flow)
		}
	}()
	for i = from; i < len(packets); i++ {
		m := &meta[i]
		w.Flows.FindAhead(i, &m.Ref)
		m.Stream = nil
		p := &packets[i]
		if w.L7 != nil {
			found = i
			m.L7 = w.L7.Inspect(p, w.Flows.Innermost(p), &m.Ref)
		}
		if w.reach > 0 {
			found = -1
			w.Streams.Follow(w.Flows.Innermost(p), &m.Ref, w.reach)
		}
	}
	return i
}

// caught returns what was recovered, if somebody is to be told; else it panics on.
func (w *Worker) caught(cause any) any {
	if cause != nil && w.OnPanic == nil {
		panic(cause)
	}
	return cause
}
