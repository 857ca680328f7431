package ring

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/rule"
	"galvo/services/internal/ring/state"
)

// How long a block may take until it is written, by the clock of the batches.
const (
	tailEvery = int64(400 * time.Millisecond) // then it is saved to a tail slot
	blockAge  = int64(60 * time.Second)       // then it goes to its place
	stepBack  = int64(time.Second)            // a packet that is so much earlier than the one before begins a block: the clock was set back
)

// A Stage records the packets of one worker. It is a pipeline.Stage.
type Stage interface {
	pipeline.StreamStage
	// Finish says that the worker's source has ended, after its last batch: what is unfinished goes to its place.
	Finish()
}

type stage struct {
	ring       *Ring
	worker     uint16
	interfaces func() []pipeline.Interface
	rules      atomic.Pointer[rule.Set]
	builder    *block.Builder

	table     []pipeline.Interface // that head describes
	head      []byte
	described int // interfaces in head
	began     int64
	lastTime  int64 // of the packet before
	given     int64 // every frame up to this time was in a batch
	until     int64 // the same when the stage ended; while nobody has it, for ever
	savedAt   int64 // when the unfinished block was saved last
	unsaved   bool  // packets came since
	saved     chan *block.Image

	// What queries ask for.
	want     atomic.Bool              // a query waits for a copy of the unfinished block
	asked    atomic.Uint64            // how often it was given
	view     atomic.Pointer[snapshot] // the copy; nil if there is no unfinished block
	viewed   uint32                   // packets in view
	mark     atomic.Int64             // every frame up to this time is in view, or in a finished block
	finished atomic.Bool
	part     atomic.Bool   // somebody asks for the end of the unfinished block
	current  atomic.Uint64 // number of the unfinished block, or a lower one; 0 = none
	first    atomic.Int64  // times of its packets as of the last batch, if there is one: first is above last before the first packet
	last     atomic.Int64
	bytes    atomic.Uint64 // captured bytes of the unfinished block, as of the last batch

	inside sync.Mutex // held by Process and by who ends the stage
}

// A snapshot is a copy of an unfinished block. It never changes.
type snapshot struct {
	h   block.Header
	buf []byte
}

// Stage returns the stage of a worker, counted from 0. interfaces is the table that the frames' Iface indexes; it may grow, and describe a port anew. What the worker
// received before it has the stage is not recorded: where batches are under way, Resume says when all workers have theirs.
func (r *Ring) Stage(worker int, interfaces func() []pipeline.Interface) Stage {
	s := r.stages[worker]
	r.Resume()
	s.interfaces = interfaces
	s.until = r.now()
	s.finished.Store(false)
	return s
}

func newStage(r *Ring, worker int) *stage {
	s := &stage{ring: r, worker: uint16(worker), builder: block.NewBuilder(), saved: make(chan *block.Image, 2), until: math.MaxInt64}
	s.rules.Store(rule.NewSet(r.cfg.Rules))
	s.finished.Store(true)
	s.mark.Store(math.MinInt64)
	return s
}

// SetRules has other rules decide about what comes from the next batch on.
func (r *Ring) SetRules(list []rule.Rule) error {
	if err := rule.Check(list); err != nil {
		return fmt.Errorf("ring %q: %w", r.d.Name, err)
	}
	for _, s := range r.stages {
		s.rules.Store(rule.NewSet(list))
	}
	return nil
}

// StreamReach implements pipeline.StreamStage.
func (s *stage) StreamReach() int {
	if s.finished.Load() {
		return 0
	}
	return s.rules.Load().StreamReach()
}

// Process implements pipeline.Stage. It neither waits nor allocates, but for a copy of the unfinished block if a query waits for one.
func (s *stage) Process(b *pipeline.Batch) {
	s.inside.Lock() // nobody else wants it, but when the ring is closed
	defer s.inside.Unlock()
	if s.finished.Load() {
		return
	}
	packets, rules, bl := uint64(0), s.rules.Load(), s.builder
	meta := b.Meta[:len(b.Packets)]
	for i := range b.Packets {
		p, m := &b.Packets[i], &meta[i]
		n := rules.Keep(p, m)
		if n < 0 {
			s.ring.discarded.Add(1)
			continue
		}
		if bl.Image == nil || !bl.Room(n) || p.Time < s.lastTime-stepBack || int(p.Iface) >= s.described {
			s.end()
			if why := s.begin(int(p.Iface), b.Now); why >= 0 {
				s.ring.dropped[why].Add(1)
				continue
			}
		}
		bl.Add(p, m, n)
		s.lastTime = p.Time
		packets++
	}
	if packets > 0 {
		s.first.Store(s.builder.Header.First)
		s.last.Store(s.builder.Header.Last)
		s.bytes.Store(uint64(s.builder.Header.Bytes))
		s.unsaved = true
		s.ring.packets.Add(packets)
	}
	s.tick(b.Now)
	s.given = b.Mark()
	if s.want.Load() {
		s.show(s.given)
	}
}

// begin starts a block, or says why it cannot.
func (s *stage) begin(iface int, now int64) state.Cause {
	r := s.ring
	if s.head == nil || !sameTable(s.table, s.interfaces()) {
		s.describe()
	}
	if iface >= s.described {
		return state.CauseFormat
	}
	img := r.take()
	if img == nil {
		return state.CauseQueue
	}
	s.first.Store(math.MaxInt64)
	s.last.Store(math.MinInt64)
	s.current.Store(r.seq.Load() + 1)
	h := block.Header{Worker: s.worker, Generation: r.d.Generation, Ring: r.d.Ring, Seq: r.seq.Add(1)}
	s.builder.Begin(img, h, s.head)
	s.began, s.savedAt, s.viewed = now, now, 0
	s.lastTime = math.MinInt64 / 2
	return -1
}

// maxHead bounds the descriptions of interfaces in a block.
const maxHead = 128 << 10

func (s *stage) describe() {
	s.table = s.interfaces()
	s.head = block.AppendHead(nil, nil)
	s.described = 0
	for i := range s.table {
		if len(s.head) > maxHead {
			break
		}
		s.described = i + 1
		s.head = block.AppendHead(s.head[:0], s.table[:s.described])
	}
	s.ring.heads.Know(s.head)
}

// sameTable reports whether it is the same table, as most sources give the same slice again.
func sameTable(a, b []pipeline.Interface) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// end gives a block to the writers.
func (s *stage) end() {
	b, r := s.builder, s.ring
	if b.Image == nil {
		return
	}
	img := b.Image
	s.finish(img)
	b.Reset()
	s.unsaved = false
	r.handing.Lock()
	img.Header.Total = r.total.Add(uint64(img.Header.Bytes))
	r.waiting[img.Header.Seq] = img
	r.flights[img.Header.Seq] = img.Header.Total
	s.view.Store(nil)
	s.current.Store(0)
	s.bytes.Store(0)
	r.handing.Unlock()
	r.queue <- img // has room for every image
}

// finish makes a block, or a copy of one that is not finished, of what was built.
func (s *stage) finish(img *block.Image) {
	s.builder.Finish(img)
	for _, n := range s.ring.droppedNow() {
		img.Header.Dropped += n
	}
	img.Header.Lost = s.ring.losses.all()
	img.Header.Flags |= block.FlagLost
}

func (r *Ring) droppedNow() (n [state.Causes]uint64) {
	for i := range n {
		n[i] = r.dropped[i].Load()
	}
	return n
}

// tick ends a block that is old, and saves one that has waited. A clock that was set back counts as time that went by.
func (s *stage) tick(now int64) {
	b := s.builder
	if s.part.Load() {
		s.end()
		s.part.Store(false)
	}
	if b.Image == nil {
		return
	}
	if age := now - s.began; age >= blockAge || age < -stepBack {
		s.end()
		return
	}
	if since := now - s.savedAt; !s.unsaved || since < tailEvery && since >= 0 {
		return
	}
	select {
	case img := <-s.saved:
		s.finish(img)
		img.Header.Total = s.ring.total.Load() + uint64(img.Header.Bytes)
		s.savedAt, s.unsaved = now, false
		s.ring.tails <- img // has room for the images of all stages
	default: // the last one is still being written
	}
}

// show gives queries a copy of the unfinished block, and says that everything up to mark is in it or in a finished one.
func (s *stage) show(mark int64) {
	s.want.Store(false)
	bl := s.builder
	if bl.Image != nil && bl.Header.Packets != s.viewed {
		img := block.Image{Buf: make([]byte, block.Size)}
		s.finish(&img)
		s.viewed = bl.Header.Packets
		s.view.Store(&snapshot{img.Header, img.Buf})
	}
	s.mark.Store(mark)
	s.asked.Add(1)
}

// idleSlack is how far behind the clock a worker without packets says to be: frames may still wait in a receive ring.
const idleSlack = int64(50 * time.Millisecond)

// Finish implements Stage.
func (s *stage) Finish() {
	s.inside.Lock()
	defer s.inside.Unlock()
	if s.finished.Load() {
		return
	}
	s.end()
	s.until = s.upTo()
	s.mark.Store(math.MaxInt64)
	s.finished.Store(true)
	s.asked.Add(1)
}
