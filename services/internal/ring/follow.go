package ring

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/filter"
)

// Times of following what is recorded.
const (
	followEvery = 50 * time.Millisecond
	patience    = 70 * time.Millisecond // for a worker to show its unfinished block: live ports give a batch every 50 ms
	endSlack    = int64(250 * time.Millisecond)
)

// A follower names the blocks of a query, round by round: first those that the ring has, then, for a live one, those that come.
type follower struct {
	q     *Results
	begun bool
	floor uint64            // blocks up to this one were finished, and named, in the first round
	seen  map[uint64]uint32 // of the others, how many of their packets were named
	left  map[uint64]bool   // blocks with copies that an index has left out
	named int64             // every block with packets before this time was named by the last round
}

func newFollower(q *Results) *follower {
	return &follower{q: q, seen: make(map[uint64]uint32), left: make(map[uint64]bool), named: math.MinInt64}
}

// round returns the blocks that were not named yet, in the order of their first packet, and the time before which nothing more comes.
func (f *follower) round() (tasks []*task, bound int64, final bool) {
	r, q := f.q.ring, f.q
	if !f.begun {
		f.floor = r.finishedUpTo()
	}
	bound = r.show(q.ctx.Done(), q.q.To <= r.now()-endSlack)
	now := r.now()
	tasks = f.choose(f.list(f.warm()))
	for _, g := range f.holes() {
		q.gap(g.From, g.To, g.Why)
	}
	if !f.begun {
		q.askEnds()
	}
	f.named = max(f.named, bound)
	q.rounds.Add(1) // only now: who lists the blocks of a stream after it sees all that this round names
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	final = !q.q.Live || q.q.To <= min(bound, now) || q.q.To != math.MaxInt64 && q.q.To <= now-endSlack
	if closed && !final {
		final, q.end = true, ErrClosed
	}
	if final {
		bound = math.MaxInt64
	}
	for _, t := range tasks {
		t.bound = bound
	}
	f.begun = true
	return tasks, bound, final
}

// holes returns the times of which packets cannot be named any more: what the ring has lost before the query began, and what it has lost between two rounds,
// which may be far apart, since a round waits for who reads.
func (f *follower) holes() []Gap {
	if !f.begun {
		return f.q.holes()
	}
	r, q := f.q.ring, f.q.q
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overwrittenIn(max(q.From, f.named), q.To-1, whyMeanwhile)
}

// wait waits for something to happen; false if the query ends.
func (f *follower) wait() bool {
	f.q.ring.mu.Lock()
	changed := f.q.ring.changed
	f.q.ring.mu.Unlock()
	timer := time.NewTimer(followEvery)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-f.q.ctx.Done():
		return false
	}
	return true
}

// finishedUpTo returns a number such that every block up to it is finished.
func (r *Ring) finishedUpTo() uint64 {
	floor := r.seq.Load()
	for _, s := range r.stages {
		if n := s.current.Load(); n != 0 {
			floor = min(floor, n-1)
		}
	}
	return floor
}

// show lets the stages show their unfinished blocks, and returns the time up to which they have recorded everything. Workers do it themselves after a batch,
// so that they never wait; of one that has none for a while it is done here; at once, if nobody wants to know of what may have come just now.
func (r *Ring) show(done <-chan struct{}, past bool) (bound int64) {
	bound = math.MaxInt64
	asked := make([]uint64, len(r.stages))
	for i, s := range r.stages {
		asked[i] = s.asked.Load()
		s.want.Store(true)
	}
	deadline := time.Now().Add(r.cfg.patience)
	for i, s := range r.stages {
		if past {
			s.showIdle()
		}
		for s.asked.Load() == asked[i] && !s.finished.Load() && time.Now().Before(deadline) {
			select {
			case <-done:
				return bound
			case <-time.After(time.Millisecond):
			}
		}
		if s.asked.Load() == asked[i] {
			s.showIdle()
		}
		bound = min(bound, s.mark.Load())
	}
	return bound
}

// showIdle shows the unfinished block of a worker that has no batch at the moment.
func (s *stage) showIdle() {
	if s.inside.TryLock() {
		if !s.finished.Load() {
			s.show(s.ring.now() - idleSlack)
		}
		s.inside.Unlock()
	}
}

// warm reads the indexes of the closed segments in the query's interval, several at a time, and returns what they say about its keys.
func (f *follower) warm() map[*segment]*segmentLook {
	r, q := f.q.ring, f.q
	var segments []*segment
	var numbers []uint64
	r.mu.Lock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if f.skips(s) || s.state != segmentClosed {
				continue
			}
			segments, numbers = append(segments, s), append(numbers, s.seqHi)
		}
	}
	r.mu.Unlock()
	looks := make(map[*segment]*segmentLook)
	if q.prune == nil {
		return looks
	}
	list := make([]*segmentLook, len(segments))
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(warmers, len(segments)) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(segments) && (q.ctx == nil || q.ctx.Err() == nil); i = int(next.Add(1)) - 1 {
				list[i] = q.lookInto(segments[i])
			}
		})
	}
	wait.Wait()
	for i, s := range segments {
		if list[i] != nil {
			list[i].of = numbers[i]
			looks[s] = list[i]
		}
	}
	return looks
}

// warmers is how many indexes are read at once.
const warmers = 8

// skips reports whether a segment has nothing that was not named, or nothing in the interval. Ring.mu is held.
func (f *follower) skips(s *segment) bool {
	return s.state == segmentEmpty || s.state == segmentClosed && (!f.q.in(s.first, s.last) || f.begun && s.seqHi <= f.floor)
}

// list names what the ring has in the query's interval and may matter. It takes the lock for a segment at a time: stages want it, too.
func (f *follower) list(looks map[*segment]*segmentLook) []*task {
	r := f.q.ring
	byNumber := make(map[uint64]*task)
	r.mu.Lock()
	for seq, img := range r.waiting {
		if f.q.in(img.h.first, img.h.last) && !(f.begun && seq <= f.floor) {
			t := &task{slot: img.h.slot(), waits: true}
			t.bloom = append(bloom(nil), img.buf[trailerAt+bloomAt:][:bloomSize]...)
			byNumber[seq] = t
		}
	}
	for _, s := range r.stages {
		if v := s.view.Load(); v != nil && byNumber[v.h.seq] == nil && f.q.in(v.h.first, v.h.last) {
			t := &task{slot: v.h.slot(), shown: v}
			t.bloom = bloom(v.buf[trailerAt+bloomAt:][:bloomSize])
			byNumber[v.h.seq] = t
		}
	}
	r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			f.segment(s, looks[s], byNumber)
		}
	}
	tasks := make([]*task, 0, len(byNumber))
	for _, t := range byNumber {
		tasks = append(tasks, t)
	}
	return tasks
}

// segment names the blocks of a segment.
func (f *follower) segment(s *segment, l *segmentLook, byNumber map[uint64]*task) {
	q := f.q
	r := q.ring
	r.mu.Lock()
	if f.skips(s) {
		r.mu.Unlock()
		return
	}
	if err := r.load(s); err != nil {
		r.problem(err)
	}
	slots := slices.Clone(s.slots)
	if l != nil && (s.state != segmentClosed || s.seqHi != l.of) {
		l = nil
	}
	r.mu.Unlock()
	blocks, lo, hi := uint64(0), int64(math.MaxInt64), int64(math.MinInt64)
	for i := range slots {
		b := &slots[i]
		if b.seq == 0 || !q.in(b.first, b.last) || f.begun && b.seq <= f.floor {
			continue
		}
		if t := byNumber[b.seq]; t != nil && (t.waits || len(t.places) > 0 || t.packets == b.packets) {
			t.places = append(t.places, place{s, i})
			continue
		}
		if l != nil && !l.bad && !l.none.has(i) && b.seq <= f.floor && !q.prune.Maybe(func(k filter.KeyRange) bool { return l.with[k].has(i) }) {
			if r.d.copies == 0 || !f.left[b.seq] {
				blocks++
				lo, hi = min(lo, max(b.first, q.q.From)), max(hi, min(b.last, q.q.To-1))
			}
			if r.d.copies > 0 {
				f.left[b.seq] = true
			}
			continue
		}
		t := &task{slot: *b, places: []place{{s, i}}}
		if l != nil && !l.bad && !l.none.has(i) {
			t.flags |= slotExact
		}
		byNumber[b.seq] = t
	}
	if blocks > 0 {
		q.count(func(s *Scan) {
			s.Blocks += blocks
			s.From, s.To = min(s.From, lo), max(s.To, hi)
		})
	}
}

// in reports whether a time span meets the query's interval.
func (q *Results) in(first, last int64) bool { return first < q.q.To && last >= q.q.From }

// choose leaves out what was named before and what cannot matter, and sorts the rest.
func (f *follower) choose(tasks []*task) []*task {
	q := f.q
	kept := tasks[:0]
	fresh, lo, hi := uint64(0), int64(math.MaxInt64), int64(math.MinInt64)
	for _, t := range tasks {
		if t.seq > f.floor {
			n, ok := f.seen[t.seq]
			f.seen[t.seq] = t.packets
			if ok && n >= t.packets {
				continue
			}
			t.from = n
		}
		if t.from == 0 {
			fresh++
		}
		lo, hi = min(lo, max(t.first, q.q.From)), max(hi, min(t.last, q.q.To-1))
		if q.prune == nil || q.maybe(t) {
			kept = append(kept, t)
		}
	}
	q.count(func(s *Scan) {
		s.Blocks += fresh
		s.From, s.To = min(s.From, lo), max(s.To, hi)
	})
	slices.SortFunc(kept, func(a, b *task) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.seq, b.seq))
	})
	return kept
}

// A segmentLook is what the exact index of a segment says about each range of keys that a query asks for.
type segmentLook struct {
	with map[filter.KeyRange]*blockSet
	none blockSet // blocks that the index says nothing about
	bad  bool
	of   uint64 // segment.seqHi when it was asked: it has not been overwritten since
}

// maybe reports whether a block may hold what the filter asks for. What the exact index of its segment knows has been left out.
func (q *Results) maybe(t *task) bool {
	if t.bloom == nil && len(t.places) > 0 && t.flags&slotExact == 0 {
		t.bloom = q.readBloom(t.places[0], t.seq)
	}
	if t.bloom == nil {
		return true
	}
	return q.prune.Maybe(t.bloom.hasRange)
}

// maxEach is how many keys of a range are looked for one by one in a bloom filter; a larger range may be in every block.
const maxEach = 16

func (b bloom) hasRange(k filter.KeyRange) bool {
	if k.Hi-k.Lo >= maxEach {
		return true
	}
	for key := k.Lo; key <= k.Hi; key++ {
		if b.has(uint64(key)) {
			return true
		}
	}
	return false
}

// lookInto asks the exact index of a segment.
func (q *Results) lookInto(s *segment) *segmentLook {
	l := &segmentLook{with: make(map[filter.KeyRange]*blockSet)}
	q.prune.Ranges(func(k filter.KeyRange) {
		if l.bad || l.with[k] != nil {
			return
		}
		with, none, err := s.index.find(q.ring, s, k)
		l.bad = err != nil
		l.with[k], l.none = &with, none
		q.count(func(s *Scan) { s.Bytes += pageSize })
	})
	return l
}

// readBloom reads the bloom filter of a block; nil if the block is another one by now.
func (q *Results) readBloom(p place, seq uint64) bloom {
	b, err := q.ring.buffers.get()
	if err != nil {
		return nil
	}
	defer q.ring.buffers.put(b)
	h, err := q.ring.readTrailer(p.s, p.i, b)
	q.count(func(s *Scan) { s.Bytes += trailerPages })
	if err != nil || h.seq != seq {
		return nil
	}
	in := append(bloom(nil), b[trailerPages-trailerSize+bloomAt:][:bloomSize]...)
	q.ring.mu.Lock()
	defer q.ring.mu.Unlock()
	if p.s.slots != nil && p.s.slots[p.i].seq == seq {
		p.s.slots[p.i].bloom = in // for the next query: the exact index will not know the block
	}
	return in
}

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
	listed bool
	round  int64                   // of the query when the blocks were listed
	when   time.Time               // the same
	known  map[uint64][]laterEvent // by flow id, in order
	held   int                     // events in known
}

type laterEvent struct {
	seq uint64
	flowEvent
}

// How far a resolver looks: in time, as a capture of the past holds a packet; and in events that it keeps.
const (
	resolveTime   = int64(120 * time.Second)
	resolveEvents = 1 << 20
)

func (x *resolver) init(q *Results) {
	x.q, x.streams = q, make(map[streamKey]*stream)
}

// event returns what became known of a flow in blocks after h: event k of them; nil if there is none within resolveTime.
func (x *resolver) event(h *header, flow uint64, k int, now int64) *flowEvent {
	key := streamKey{h.generation, h.worker}
	x.mu.Lock()
	s := x.streams[key]
	if s == nil {
		s = &stream{}
		x.streams[key] = s
	}
	x.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed || h.seq < s.from {
		s.round, s.when = x.q.rounds.Load(), time.Now()
		s.blocks, s.next, s.from, s.listed = x.list(key, h.seq), 0, h.seq, true
		s.known, s.held = make(map[uint64][]laterEvent), 0
	}
	for {
		events := s.known[flow]
		at, _ := slices.BinarySearchFunc(events, h.seq+1, func(e laterEvent, seq uint64) int { return cmp.Compare(e.seq, seq) })
		if at+k < len(events) {
			return &events[at+k].flowEvent
		}
		if s.next == len(s.blocks) {
			x.relist(s, key)
		}
		if s.next == len(s.blocks) || s.blocks[s.next].first > now+resolveTime || s.held > resolveEvents {
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
	all = slices.DeleteFunc(all, func(t *task) bool { return t.seq <= after || t.generation != key.generation || t.worker != key.worker })
	slices.SortFunc(all, func(a, b *task) int { return cmp.Compare(a.seq, b.seq) })
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
		after = s.blocks[n-1].seq - 1
	}
	s.blocks, s.next = x.list(key, after), 0
}

// read takes in the flow table of a block.
func (x *resolver) read(s *stream, t *task) {
	v := view{}
	err := x.q.fetch(t, &v)
	if v.owned {
		defer x.q.ring.buffers.put(v.buf)
	}
	if err != nil || v.flows.read(v.buf, &v.h) != nil {
		return // the query says so when it reads the block for its packets
	}
	for i := range v.flows.entries {
		e := &v.flows.entries[i]
		if e.id == 0 || e.flags&entryContinued == 0 || e.silent() {
			continue
		}
		for _, ev := range e.events {
			ev.host = slices.Clone(ev.host)
			s.known[e.id] = append(s.known[e.id], laterEvent{t.seq, ev})
			s.held++
		}
	}
}
