package ring

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"galvo/services/internal/ring/block"
)

// A resolver finds what became known of flows in later blocks. It reads their flow tables only, each once.
type resolver struct {
	q       *Results
	mu      sync.Mutex
	streams map[streamKey]*stream
}

type streamKey struct {
	generation uint32
	worker     uint16
}

// A stream is the blocks of one worker since an Open.
type stream struct {
	mu     sync.Mutex
	from   uint64 // flow tables of the blocks after this one were read
	next   int    // in blocks: the next to be read
	blocks []*task
	least  []int64 // parallel: the earliest first packet of the block and those after it: where the clock was set back they do not rise
	listed bool
	round  int64                   // of the query when the blocks were listed
	when   time.Time               // the same
	known  map[uint64][]laterEvent // by flow id, in order
	held   int                     // events in known
}

type laterEvent struct {
	seq   uint64
	first int64 // of its block
	block.FlowEvent
}

// How far a resolver looks: in time, as a capture of the past holds a packet; and in events that it keeps.
const (
	resolveTime   = int64(120 * time.Second)
	resolveEvents = 1 << 20
)

func (x *resolver) init(q *Results) {
	x.q, x.streams = q, make(map[streamKey]*stream)
}

// event returns what became known of a flow in blocks after h: event k of them; nil if there is none in a block that begins within resolveTime. What else was asked
// before changes nothing of that.
func (x *resolver) event(h *block.Header, flow uint64, k int, now int64) *block.FlowEvent {
	key := streamKey{h.Generation, h.Worker}
	x.mu.Lock()
	s := x.streams[key]
	if s == nil {
		s = &stream{}
		x.streams[key] = s
	}
	x.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed || h.Seq < s.from {
		s.round, s.when = x.q.rounds.Load(), time.Now()
		s.list(x.list(key, h.Seq))
		s.from, s.listed = h.Seq, true
		s.known, s.held = make(map[uint64][]laterEvent), 0
	}
	for {
		events := s.known[flow]
		at, _ := slices.BinarySearchFunc(events, h.Seq+1, func(e laterEvent, seq uint64) int { return cmp.Compare(e.seq, seq) })
		for i, left := at, k; i < len(events); i++ {
			if events[i].first > now+resolveTime {
				continue
			}
			if left == 0 {
				return &events[i].FlowEvent
			}
			left--
		}
		if s.next == len(s.blocks) {
			x.relist(s, key)
		}
		if s.next == len(s.blocks) || s.least[s.next] > now+resolveTime || s.held > resolveEvents {
			return nil
		}
		x.read(s, s.blocks[s.next])
		s.next++
	}
}

// list names the blocks of a stream after one of them, in order.
func (x *resolver) list(key streamKey, after uint64) []*task {
	r := x.q.ring
	f := newFollower(&Results{ring: r, q: Query{From: math.MinInt64, To: math.MaxInt64}})
	all := f.list(nil)
	all = slices.DeleteFunc(all, func(t *task) bool { return t.Seq <= after || t.Generation != key.generation || t.Worker != key.worker })
	slices.SortFunc(all, func(a, b *task) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}

// relist looks for blocks that were recorded since a stream was listed: once a round, and now and then within one, which may take long. The last block is
// read again: it may not have been finished.
func (x *resolver) relist(s *stream, key streamKey) {
	round := x.q.rounds.Load()
	if !x.q.q.Live || s.round == round && time.Since(s.when) < followEvery {
		return
	}
	s.round, s.when = round, time.Now()
	after := s.from
	if n := len(s.blocks); n > 0 {
		after = s.blocks[n-1].Seq - 1
	}
	s.list(x.list(key, after))
}

// list begins to read blocks.
func (s *stream) list(blocks []*task) {
	s.blocks, s.next, s.least = blocks, 0, make([]int64, len(blocks))
	least := int64(math.MaxInt64)
	for i := len(blocks) - 1; i >= 0; i-- {
		least = min(least, blocks[i].First)
		s.least[i] = least
	}
}

// read takes in the flow table of a block.
func (x *resolver) read(s *stream, t *task) {
	v := view{}
	t.chunks = 0
	err := x.q.fetch(t, &v)
	if v.owned {
		defer x.q.ring.buffers.Put(v.Buf)
	}
	if err != nil || v.Flows.Read(v.Buf, &v.Header) != nil {
		return // the query says so when it reads the block for its packets
	}
	for id, events := range v.Flows.Known(true) {
		for _, ev := range events {
			ev.Host = slices.Clone(ev.Host)
			s.known[id] = append(s.known[id], laterEvent{t.Seq, t.First, ev})
			s.held++
		}
	}
}
