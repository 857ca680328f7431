package ring

import (
	"cmp"
	"math"
	"slices"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// Times of following what is recorded.
const (
	followEvery = 50 * time.Millisecond
	patience    = 70 * time.Millisecond // for a worker to show its unfinished block: live ports give a batch every 50 ms
	endSlack    = int64(250 * time.Millisecond)
	lag         = 2 * time.Second // that a worker may be behind, before a query ends without what it has not recorded yet, and says so
)

// A follower names the blocks of a query, round by round: first those that the ring has, then, for a live one, those that come.
type follower struct {
	q     *Results
	begun bool
	floor uint64            // blocks up to this one were finished, and named, in the first round
	seen  map[uint64]uint32 // of the others, how many of their packets were named
	left  map[uint64]bool   // blocks with copies that an index has left out
	named int64             // every block with packets before this time was named by the last round

	waiting uint64 // lowest number of a block that is on its way to the disk, as of the last list
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
	bound, due := f.shown()
	now := r.now()
	tasks = f.choose(f.list(f.ask()))
	for _, g := range f.holes() {
		q.gap(g.From, g.To, g.Why)
	}
	f.named = max(f.named, min(bound, now))
	q.rounds.Add(1) // only now: who lists the blocks of a stream after it sees all that this round names
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	final = !q.q.Live || q.q.To <= min(bound, now) || q.q.To != math.MaxInt64 && q.q.To <= now-int64(lag)
	if closed && !final {
		final, q.end = true, ErrClosed
	}
	if final {
		if bound < due {
			q.gap(max(bound+1, q.q.From), due, whyBehind)
		}
		bound = math.MaxInt64
	}
	for _, t := range tasks {
		t.bound = bound
	}
	f.begun = true
	return tasks, bound, final
}

// shown has the workers show what they have recorded, and returns up to which time that is everything, and up to which it should be: a query that is not live waits
// for a worker that is behind.
func (f *follower) shown() (bound, due int64) {
	r, q := f.q.ring, f.q
	now := r.now()
	due = min(q.q.To-1, now-idleSlack)
	for deadline := time.Now().Add(lag); ; {
		bound = r.show(q.ctx.Done(), q.q.To <= now-endSlack)
		if q.q.Live || bound >= due || q.ctx.Err() != nil || time.Now().After(deadline) {
			return bound, due
		}
	}
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
	f.q.ring.handing.Lock()
	changed := f.q.ring.changed
	f.q.ring.handing.Unlock()
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
		if !s.finished.Load() { // else nothing comes from it
			bound = min(bound, s.mark.Load())
		}
	}
	return bound
}

// showIdle shows the unfinished block of a worker that has no batch at the moment.
func (s *stage) showIdle() {
	if s.inside.TryLock() {
		if !s.finished.Load() {
			s.show(s.upTo())
		}
		s.inside.Unlock()
	}
}

// upTo returns the time up to which the stage has had every frame. Its worker may be one that waits for a processor, with frames that it has not looked at: only what the
// last batch said holds, unless there was none for so long that the worker has no frames at all. s.inside is held.
func (s *stage) upTo() int64 {
	now := s.ring.now()
	if s.given < now-int64(lag) {
		return now - idleSlack
	}
	return s.given
}

// ask asks the exact indexes of the closed segments in the query's interval about its keys.
func (f *follower) ask() map[*segment]*segmentLook {
	r, q := f.q.ring, f.q
	if q.prune == nil {
		return nil
	}
	var keys []filter.KeyRange
	at := make(map[filter.KeyRange]int)
	q.prune.Ranges(func(k filter.KeyRange) {
		if _, known := at[k]; !known {
			at[k], keys = len(keys), append(keys, k)
		}
	})
	r.mu.Lock()
	most := 0
	for _, d := range r.devices {
		most += len(d.segments)
	}
	segments, all := make([]*segment, 0, most), make([]segmentLook, 0, most)
	for _, d := range r.devices {
		for _, s := range d.segments {
			if !f.skips(s) && s.State == state.Closed {
				segments = append(segments, s)
				all = append(all, segmentLook{of: s.SeqHi, at: at})
			}
		}
	}
	r.mu.Unlock()
	list := make([]index.Search, 0, len(segments)*len(keys))
	for _, s := range segments {
		in := r.indexed(s)
		for _, k := range keys {
			list = append(list, index.Search{Index: &s.index, Segment: in, Keys: k})
		}
	}
	index.Find(q.ctx, list)
	nowhere, bytes := q.where(func(filter.KeyRange) block.Chunks { return 0 }), uint64(0)
	looks := make(map[*segment]*segmentLook, len(segments))
	for i, s := range segments {
		looks[s] = &all[i]
		all[i].nowhere = nowhere
		bytes += all[i].take(list[:len(keys)])
		list = list[len(keys):]
	}
	q.count(func(s *Scan) { s.Bytes += bytes })
	return looks
}

// skips reports whether a segment has nothing that was not named, or nothing in the interval. Ring.mu is held.
func (f *follower) skips(s *segment) bool {
	return s.State == state.Empty || s.State == state.Closed && (!f.q.in(s.First, s.Last) || f.begun && s.SeqHi <= f.floor)
}

// list names what the ring has in the query's interval and may matter. It takes the lock for a segment at a time: stages want it, too.
func (f *follower) list(looks map[*segment]*segmentLook) []*task {
	r := f.q.ring
	byNumber := make(map[uint64]*task)
	f.waiting = math.MaxUint64
	r.handing.Lock()
	for seq, img := range r.waiting {
		f.waiting = min(f.waiting, seq)
		if f.q.in(img.Header.First, img.Header.Last) && !(f.begun && seq <= f.floor) {
			t := &task{Slot: index.SlotOf(&img.Header), waits: true}
			t.Bloom = slices.Clone(block.BloomOf(img.Buf))
			byNumber[seq] = t
		}
	}
	for _, s := range r.stages {
		if v := s.view.Load(); v != nil && byNumber[v.h.Seq] == nil && f.q.in(v.h.First, v.h.Last) {
			t := &task{Slot: index.SlotOf(&v.h), shown: v}
			t.Bloom = block.BloomOf(v.buf)
			byNumber[v.h.Seq] = t
		}
	}
	r.handing.Unlock()
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
	if l == nil { // else it may be left out as a whole
		r.preload(s)
	}
	r.mu.Lock()
	if f.skips(s) {
		r.mu.Unlock()
		return
	}
	if l != nil && (s.State != state.Closed || s.SeqHi != l.of) {
		l = nil
	}
	if l != nil && f.leavesOut(s, l) {
		blocks, hi := uint64(l.used), s.Last
		first, last := q.of(s.First, s.Last)
		r.mu.Unlock()
		q.skip(hi, l.packets)
		q.saw(blocks, first, last)
		return
	}
	if err := r.load(s); err != nil {
		r.problem(err)
	}
	blocks, skipped, lo, hi := uint64(0), uint64(0), int64(math.MaxInt64), int64(math.MinInt64)
	for i := range s.slots {
		b := &s.slots[i]
		if b.Seq == 0 || !q.in(b.First, b.Last) || f.begun && b.Seq <= f.floor {
			continue
		}
		if t := byNumber[b.Seq]; t != nil && (t.waits || len(t.places) > 0 || t.Packets == b.Packets) {
			t.places = append(t.places, place{s, i})
			continue
		}
		if f.left[b.Seq] { // the index of another copy has said so
			continue
		}
		exact, chunks := l != nil && !l.bad && !l.none.Has(i), block.All
		if exact {
			chunks = l.chunks(q, i)
		}
		if exact && b.Seq <= f.floor && chunks == 0 && q.within(b.First, b.Last) {
			blocks++
			skipped += uint64(b.Packets)
			first, last := q.of(b.First, b.Last)
			lo, hi = min(lo, first), max(hi, last)
			if r.d.Copies > 0 {
				f.left[b.Seq] = true
			}
			continue
		}
		t := &task{Slot: *b, places: []place{{s, i}}, chunks: chunks, exact: exact}
		byNumber[b.Seq] = t
	}
	r.mu.Unlock()
	q.saw(blocks, lo, hi)
	q.skip(hi, skipped)
}

// leavesOut reports whether the index says that no block of a segment, which lies in the interval as a whole, can matter: then nobody need look at its blocks one by
// one. Ring.mu is held.
func (f *follower) leavesOut(s *segment, l *segmentLook) bool {
	q := f.q
	if l.bad || len(l.at) == 0 || l.none != nil || q.ring.d.Copies > 0 || s.First < q.q.From || s.Last >= q.q.To || s.SeqHi > f.floor || s.SeqHi >= f.waiting {
		return false
	}
	return !q.prune.Maybe(func(k filter.KeyRange) bool { return l.where(k) != nil })
}

// saw counts blocks of the interval that are not looked at. lo and hi are the first and the last time of their packets there.
func (q *Results) saw(blocks uint64, lo, hi int64) {
	if blocks > 0 {
		q.count(func(s *Scan) {
			s.Blocks += blocks
			s.From, s.To = min(s.From, lo), max(s.To, hi)
		})
	}
}

// within reports whether a time span lies in the query's interval as a whole. Of other blocks only who looks at their packets knows how many do.
func (q *Results) within(first, last int64) bool { return first >= q.q.From && last < q.q.To }

// in reports whether a time span meets the query's interval.
func (q *Results) in(first, last int64) bool { return first < q.q.To && last >= q.q.From }

// choose leaves out what was named before and what cannot matter, and sorts the rest.
func (f *follower) choose(tasks []*task) []*task {
	q := f.q
	kept := tasks[:0]
	fresh, lo, hi := uint64(0), int64(math.MaxInt64), int64(math.MinInt64)
	for _, t := range tasks {
		if t.Seq > f.floor {
			n, ok := f.seen[t.Seq]
			f.seen[t.Seq] = t.Packets
			if ok && n >= t.Packets {
				continue
			}
			t.from = n
		}
		if t.from == 0 {
			fresh++
		}
		first, last := q.of(t.First, t.Last)
		lo, hi = min(lo, first), max(hi, last)
		switch wanted := q.maybe(t); {
		case !q.within(t.First, t.Last):
			if t.cut = !(wanted && t.chunks != 0) && t.searchable(); t.cut {
				t.chunks = q.around(t)
			} else {
				t.chunks = block.All
			}
			kept = append(kept, t)
		case wanted:
			kept = append(kept, t)
		default:
			q.skip(t.Last, uint64(t.Packets-t.from))
		}
	}
	q.count(func(s *Scan) {
		s.Blocks += fresh
		s.From, s.To = min(s.From, lo), max(s.To, hi)
	})
	slices.SortFunc(kept, func(a, b *task) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Seq, b.Seq))
	})
	return kept
}

// A segmentLook is what the exact index of a segment says about each range of keys that a query asks for.
type segmentLook struct {
	at   map[filter.KeyRange]int // of the ranges in with
	with []index.Where           // nil if no block has any of the keys
	none *index.Set              // blocks that the index says nothing about; nil if there are none
	used int                     // blocks that hold something
	bad  bool

	packets uint64       // that these have
	of      uint64       // segment.SeqHi when it was asked: it has not been overwritten since
	nowhere block.Chunks // that may hold what the filter asks for in a block without any of the keys
}

// take takes what the searches found, one for each range of keys, and returns how many bytes they read.
func (l *segmentLook) take(list []index.Search) (bytes uint64) {
	for i := range list {
		found := &list[i].Found
		l.bad = l.bad || list[i].Err != nil
		l.none, l.used, l.packets = found.Unknown, found.Used, found.Packets
		if bytes += found.Bytes; found.With != nil {
			if l.with == nil {
				l.with = make([]index.Where, len(list))
			}
			l.with[i] = found.With
		}
	}
	return bytes
}

// where returns where a range of keys is; nil is nowhere.
func (l *segmentLook) where(k filter.KeyRange) index.Where {
	if l.with == nil {
		return nil
	}
	return l.with[l.at[k]]
}

// chunks returns the chunks of a block that may hold what the filter asks for.
func (l *segmentLook) chunks(q *Results, i int) block.Chunks {
	for _, w := range l.with {
		if w.Of(i) != 0 {
			return q.where(func(k filter.KeyRange) block.Chunks { return l.where(k).Of(i) })
		}
	}
	return l.nowhere
}

// where returns the chunks of a block that may hold what the filter asks for. in says which have all packets with a key of a range.
func (q *Results) where(in func(filter.KeyRange) block.Chunks) block.Chunks {
	return block.Chunks(q.prune.Where(func(k filter.KeyRange) uint64 { return uint64(in(k)) }))
}

// maybe reports whether a block may hold what the filter asks for, and notes where. What the exact index of its segment knows has been left out.
func (q *Results) maybe(t *task) bool {
	if t.exact {
		return true
	}
	t.chunks = block.All
	if q.prune == nil {
		return true
	}
	if t.Bloom == nil && len(t.places) > 0 {
		t.Bloom = q.readBloom(t.places[0], t.Seq)
	}
	if t.Bloom == nil {
		return true
	}
	if !q.prune.Maybe(t.Bloom.HasRange) {
		return false
	}
	t.chunks = q.where(t.In)
	return t.chunks != 0
}

// trailer reads the end of a block, and calls f with what it says of the block. It does not if that cannot be read, or the block is another one by now.
func (q *Results) trailer(p place, seq uint64, f func(h *block.Header, bloom block.Bloom)) {
	b, err := q.ring.buffers.Get()
	if err != nil {
		return
	}
	defer q.ring.buffers.Put(b)
	h, err := q.ring.readTrailer(p.s, p.i, b)
	q.count(func(s *Scan) { s.Bytes += block.TrailerPages })
	if err == nil && h.Seq == seq {
		f(&h, block.BloomOf(b[:block.TrailerPages]))
	}
}

// readBloom reads the bloom filter of a block; nil if there is none to be had.
func (q *Results) readBloom(p place, seq uint64) (in block.Bloom) {
	q.trailer(p, seq, func(_ *block.Header, bloom block.Bloom) { in = slices.Clone(bloom) })
	if in == nil {
		return nil
	}
	q.ring.mu.Lock()
	defer q.ring.mu.Unlock()
	if p.s.slots != nil && p.s.slots[p.i].Seq == seq {
		p.s.slots[p.i].Bloom = in // for the next query: the exact index will not know the block
	}
	return in
}
