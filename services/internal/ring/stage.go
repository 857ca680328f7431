package ring

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/pipeline"
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
	// Lost tells how many frames the ports have lost since the ring was opened. It may be called from any goroutine.
	Lost(frames uint64)
	// Finish says that the worker's source has ended, after its last batch: what is unfinished goes to its place.
	Finish()
}

type stage struct {
	ring       *Ring
	worker     uint16
	interfaces func() []pipeline.Interface
	rules      atomic.Pointer[rules]
	builder    *builder
	lost       atomic.Uint64

	table     []pipeline.Interface // that head describes
	head      []byte
	described int // interfaces in head
	began     int64
	lastTime  int64 // of the packet before
	savedAt   int64 // when the unfinished block was saved last
	unsaved   bool  // packets came since
	saved     chan *image

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

	inside sync.Mutex // held by Process and by who ends the stage
}

// A snapshot is a copy of an unfinished block. It never changes.
type snapshot struct {
	h   header
	buf []byte
}

// Stage returns the stage of a worker, counted from 0. interfaces is the table that the frames' Iface indexes; it may grow, and describe a port anew.
func (r *Ring) Stage(worker int, interfaces func() []pipeline.Interface) Stage {
	s := r.stages[worker]
	s.interfaces = interfaces
	s.finished.Store(false)
	return s
}

func newStage(r *Ring, worker int) *stage {
	s := &stage{ring: r, worker: uint16(worker), builder: newBuilder(), saved: make(chan *image, 2)}
	s.rules.Store(newRules(r.cfg.Rules))
	s.finished.Store(true)
	s.mark.Store(math.MinInt64)
	return s
}

// SetRules has other rules decide about what comes from the next batch on.
func (r *Ring) SetRules(list []Rule) error {
	if err := checkRules(list); err != nil {
		return fmt.Errorf("ring %q: %w", r.d.name, err)
	}
	for _, s := range r.stages {
		s.rules.Store(newRules(list))
	}
	return nil
}

func (s *stage) Lost(frames uint64) { s.lost.Store(frames) }

// StreamReach implements pipeline.StreamStage.
func (s *stage) StreamReach() int {
	if r := s.rules.Load(); r != nil && !s.finished.Load() {
		return r.reach
	}
	return 0
}

// Process implements pipeline.Stage. It neither waits nor allocates, but for a copy of the unfinished block if a query waits for one.
func (s *stage) Process(b *pipeline.Batch) {
	s.inside.Lock() // nobody else wants it, but when the ring is closed
	defer s.inside.Unlock()
	if s.finished.Load() {
		return
	}
	packets, rules := uint64(0), s.rules.Load()
	for i := range b.Packets {
		p, m := &b.Packets[i], &b.Meta[i]
		n := rules.keep(p, m)
		if n < 0 {
			s.ring.discarded.Add(1)
			continue
		}
		bl := s.builder
		if bl.img == nil || !bl.room(n) || p.Time < s.lastTime-stepBack || int(p.Iface) >= s.described {
			s.end()
			if why := s.begin(int(p.Iface), b.Now); why >= 0 {
				s.ring.dropped[why].Add(1)
				continue
			}
		}
		bl.add(p, m, n)
		s.lastTime = p.Time
		packets++
	}
	if packets > 0 {
		s.first.Store(s.builder.h.first)
		s.last.Store(s.builder.h.last)
		s.unsaved = true
		s.ring.packets.Add(packets)
	}
	s.tick(b.Now)
	if s.want.Load() {
		mark := b.Now - idleSlack
		if n := len(b.Packets); n != 0 {
			mark = b.Packets[n-1].Time
		}
		s.show(mark)
	}
}

// begin starts a block, or says why it cannot.
func (s *stage) begin(iface int, now int64) cause {
	r := s.ring
	if s.head == nil || !sameTable(s.table, s.interfaces()) {
		s.describe()
	}
	if iface >= s.described {
		return causeFormat
	}
	img := r.take()
	if img == nil {
		return causeQueue
	}
	s.first.Store(math.MaxInt64)
	s.last.Store(math.MinInt64)
	s.current.Store(r.seq.Load() + 1)
	h := header{worker: s.worker, generation: r.d.generation, ring: r.d.ring, seq: r.seq.Add(1), lost: s.lost.Load()}
	s.builder.begin(img, h, s.head)
	s.began, s.savedAt, s.viewed = now, now, 0
	s.lastTime = math.MinInt64 / 2
	return -1
}

// maxHead bounds the descriptions of interfaces in a block.
const maxHead = 128 << 10

func (s *stage) describe() {
	s.table = s.interfaces()
	s.head = appendHead(nil, nil)
	s.described = 0
	for i := range s.table {
		if len(s.head) > maxHead {
			break
		}
		s.described = i + 1
		s.head = appendHead(s.head[:0], s.table[:s.described])
	}
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
	if b.img == nil {
		return
	}
	img := b.img
	b.finish(img)
	for _, n := range r.droppedNow() {
		img.h.dropped += n
	}
	b.reset()
	s.unsaved = false
	r.mu.Lock()
	img.h.total = r.total.Add(uint64(img.h.bytes))
	r.waiting[img.h.seq] = img
	r.flights[img.h.seq] = img.h.total
	s.view.Store(nil)
	s.current.Store(0)
	r.mu.Unlock()
	r.queue <- img // has room for every image
}

func (r *Ring) droppedNow() (n [causes]uint64) {
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
	if b.img == nil {
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
		b.finish(img)
		img.h.total = s.ring.total.Load() + uint64(img.h.bytes)
		s.savedAt, s.unsaved = now, false
		s.ring.tails <- img // has room for the images of all stages
	default: // the last one is still being written
	}
}

// show gives queries a copy of the unfinished block, and says that everything up to mark is in it or in a finished one.
func (s *stage) show(mark int64) {
	s.want.Store(false)
	bl := s.builder
	if bl.img != nil && bl.h.packets != s.viewed {
		img := image{buf: make([]byte, blockSize)}
		bl.finish(&img)
		s.viewed = bl.h.packets
		s.view.Store(&snapshot{img.h, img.buf})
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
	s.mark.Store(math.MaxInt64)
	s.finished.Store(true)
	s.asked.Add(1)
}
