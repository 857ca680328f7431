package capture

import (
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A Stage shows the packets of one worker to all captures. It is a pipeline.Stage and belongs to its worker.
type Stage struct {
	of     *Feed
	worker int
	inside atomic.Uint64 // odd while Process runs
	mark   atomic.Int64  // every frame up to this time has been processed
	last   int64         // mark before the source ended; set before mark is math.MaxInt64
	tally  []ifaceCount  // of the batch
	behind bool          // a sink has fallen behind by another MB in this batch
}

// A list is what the stages work on. It never changes; each change to the captures makes a new one.
type list struct {
	all     []*Capture
	workers []work
	reach   int // how far the filters look into TCP streams
}

// work is one worker's part of a list.
type work struct {
	lanes      []*lane // all of them
	everything []*lane // without a filter
	groups     []group // with a filter
	timed      bool    // some capture has a start or an end
	streams    bool    // some filter looks into TCP streams
}

// A group is lanes whose filters are asked together. Bit i of a mask is lane i.
type group struct {
	lanes []*lane
	set   *filter.Set // in the order of lanes
	holds uint64      // lanes where undecided packets wait; elsewhere they are ignored
}

// StreamReach implements pipeline.StreamStage.
func (s *Stage) StreamReach() int { return s.of.list.Load().reach }

// Process shows b to every capture.
func (s *Stage) Process(b *pipeline.Batch) {
	s.inside.Add(1)
	if l := s.of.list.Load(); len(l.all) != 0 {
		s.process(&l.workers[s.worker], b)
	}
	s.advance(b)
	s.inside.Add(1)
	if s.behind {
		s.behind = false
		runtime.Gosched()
	}
}

func (s *Stage) process(w *work, b *pipeline.Batch) {
	lo, hi := int64(0), int64(0) // within every window that is none
	if w.timed {
		lo, hi = span(b.Packets)
	}
	s.count(b.Packets)
	for _, l := range w.lanes {
		l.begin(b, lo, hi)
	}
	if w.streams {
		w.countForgotten(b)
	}
	for _, l := range w.everything {
		for i := 0; i < len(b.Packets) && l.on; i++ {
			l.take(b, i)
		}
	}
	for i := range w.groups {
		w.groups[i].process(b)
	}
	for _, l := range w.lanes {
		l.finish(b, s.tally)
		s.behind = s.behind || l.fellBehind()
	}
}

// countForgotten counts the packets whose TCP stream was not kept for the captures that would have looked at it.
func (w *work) countForgotten(b *pipeline.Batch) {
	for i := range b.Meta {
		if st := b.Meta[i].Stream; st == nil || !st.Forgotten {
			continue
		}
		for _, l := range w.lanes {
			if l.on && l.c.reach > 0 && (!l.partial || l.inWindow(b.Packets[i].Time)) {
				l.c.forgotten.Add(1)
			}
		}
	}
}

// count makes the tally of a batch, once for all captures.
func (s *Stage) count(packets []packet.Packet) {
	s.tally = s.tally[:0]
	for first := 0; first < len(packets); {
		iface, next := packets[first].Iface, first+1
		for next < len(packets) && packets[next].Iface == iface {
			next++
		}
		s.find(iface).frames += uint64(next - first)
		first = next
	}
}

// find returns the place of an interface in the tally.
func (s *Stage) find(iface uint16) *ifaceCount {
	for i := range s.tally {
		if s.tally[i].iface == iface {
			return &s.tally[i]
		}
	}
	s.tally = append(s.tally, ifaceCount{iface: iface})
	return &s.tally[len(s.tally)-1]
}

// process asks the filters of all lanes at once about each packet. A packet that none of them wants costs nothing else.
func (g *group) process(b *pipeline.Batch) {
	on, waiting := uint64(0), uint64(0)
	for k, l := range g.lanes {
		if l.on {
			on |= 1 << k
			waiting |= l.waits() << k
		}
	}
	if on == 0 {
		return
	}
	for i := range b.Packets {
		m := &b.Meta[i]
		yes, unknown := g.set.Match(&b.Packets[i], &m.Ref, m.L7)
		if (yes|unknown&g.holds|waiting)&on == 0 {
			continue
		}
		for k := yes & on &^ g.holds; k != 0; k &= k - 1 {
			g.lanes[bits.TrailingZeros64(k)].take(b, i)
		}
		for k := (yes | unknown | waiting) & on & g.holds; k != 0; k &= k - 1 {
			at := bits.TrailingZeros64(k)
			l := g.lanes[at]
			l.takeOrHold(b, i, yes>>at&1 != 0, unknown>>at&1 != 0)
			waiting = waiting&^(1<<at) | l.waits()<<at
		}
	}
}

// take queues packet i of the batch, of which the filter said yes.
func (l *lane) take(b *pipeline.Batch, i int) {
	p := &b.Packets[i]
	if !l.on || l.partial && !l.inWindow(p.Time) {
		return
	}
	l.ended(i, l.put(&p.Frame, b.OptionsOf(i)))
}

// ended notes that the capture ends with packet i of the batch, or before it.
func (l *lane) ended(i int, o outcome) {
	if o == counted {
		return
	}
	l.on, l.seen = false, i
	if o == final {
		l.seen++
	}
}

// advance says up to which time the worker has come.
func (s *Stage) advance(b *pipeline.Batch) {
	if mark := b.Mark(); mark > s.mark.Load() {
		s.mark.Store(mark)
	}
}

// Finish says that the worker's source has ended, after its last batch. Captures of savefiles learn that what they hold will not get a
// verdict any more; in captures of live ports it stays held.
func (s *Stage) Finish() {
	s.inside.Add(1)
	for _, l := range s.of.list.Load().workers[s.worker].lanes {
		if l.hold != nil && l.c.spec.Block && l.c.end.Load() == nil {
			l.release()
			l.show()
		}
		if l.c.end.Load() == nil {
			l.through.Store(math.MaxInt64)
		}
	}
	s.last = s.mark.Load()
	s.mark.Store(math.MaxInt64)
	s.inside.Add(1)
}

// came returns the time to which the worker has come.
func (s *Stage) came() int64 {
	if mark := s.mark.Load(); mark != math.MaxInt64 {
		return mark
	}
	return s.last
}

// span returns the earliest and the latest time of the packets.
func span(packets []packet.Packet) (lo, hi int64) {
	lo, hi = math.MaxInt64, math.MinInt64
	for i := range packets {
		t := packets[i].Time
		lo, hi = min(lo, t), max(hi, t)
	}
	return lo, hi
}
