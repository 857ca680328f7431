package capture

import (
	"math"
	"sync/atomic"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// idleSlack is how far behind the clock an idle worker of a live source says to be: frames may still wait in a receive ring, for 45 ms
// at most in package afpacket.
const idleSlack = int64(50 * time.Millisecond)

// A Stage shows the packets of one worker to all captures. It is a pipeline.Stage and belongs to its worker.
type Stage struct {
	of      *Captures
	worker  int
	inside  atomic.Uint64 // odd while Process runs
	mark    atomic.Int64  // every frame up to this time has been processed
	results []filter.Result
	tally   []ifaceCount // of the batch
}

// A list is what the stages work on. It never changes; each change to the captures makes a new one.
type list struct {
	all     []*Capture
	workers []work
}

// work is one worker's part of a list.
type work struct {
	lanes      []*lane // all of them
	everything []*lane // without a filter
	skip       []*lane // with a filter, in the order of set; undecided packets are ignored
	hold       []*lane // likewise after skip; undecided packets wait
	set        *filter.Set
}

// Process shows b to every capture.
func (s *Stage) Process(b *pipeline.Batch) {
	s.inside.Add(1)
	if l := s.of.list.Load(); len(l.all) != 0 {
		s.process(&l.workers[s.worker], b)
	}
	s.advance(b)
	s.inside.Add(1)
}

func (s *Stage) process(w *work, b *pipeline.Batch) {
	lo, hi := span(b.Packets)
	s.count(b.Packets)
	for _, l := range w.lanes {
		l.begin(b, lo, hi)
	}
	for _, l := range w.everything {
		for i := range b.Packets {
			if !l.on {
				break
			}
			l.take(b, i)
		}
	}
	if len(w.skip)+len(w.hold) != 0 {
		s.filtered(w, b)
	}
	for _, l := range w.lanes {
		l.finish(b, s.tally)
	}
}

// count makes the tally of a batch, once for all captures.
func (s *Stage) count(packets []packet.Packet) {
	s.tally = s.tally[:0]
	last := -1
	for i := range packets {
		iface := packets[i].Iface
		if last < 0 || s.tally[last].iface != iface {
			last = s.find(iface)
		}
		s.tally[last].frames++
	}
}

// find returns the place of an interface in the tally.
func (s *Stage) find(iface uint16) int {
	for i := range s.tally {
		if s.tally[i].iface == iface {
			return i
		}
	}
	s.tally = append(s.tally, ifaceCount{iface: iface})
	return len(s.tally) - 1
}

// filtered asks the filters of all captures at once about each packet.
func (s *Stage) filtered(w *work, b *pipeline.Batch) {
	n := len(w.skip) + len(w.hold)
	if cap(s.results) < n {
		s.results = make([]filter.Result, n)
	}
	results := s.results[:n]
	for i := range b.Packets {
		p, m := &b.Packets[i], &b.Meta[i]
		w.set.Match(p, &m.Ref, m.L7, results)
		for k, r := range results[:len(w.skip)] {
			if r == filter.Yes {
				w.skip[k].take(b, i)
			}
		}
		for k, l := range w.hold {
			l.takeOrHold(b, i, results[len(w.skip)+k])
		}
	}
}

// take queues packet i of the batch, of which the filter said yes.
func (l *lane) take(b *pipeline.Batch, i int) {
	p := &b.Packets[i]
	if !l.on || l.partial && !l.inWindow(p.Time) {
		return
	}
	l.ended(i, l.put(&p.Frame))
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
	mark := b.Now
	if n := len(b.Packets); n != 0 {
		mark = b.Packets[n-1].Time
	} else if s.of.Live {
		mark -= idleSlack
	}
	if mark > s.mark.Load() {
		s.mark.Store(mark)
	}
}

// Finish says that the worker's source has ended, after its last batch. Captures of savefiles learn that what they hold will not get a
// verdict any more; in captures of live ports it stays held.
func (s *Stage) Finish() {
	s.inside.Add(1)
	for _, l := range s.of.list.Load().workers[s.worker].hold {
		if l.c.spec.Block && l.c.end.Load() == nil {
			l.release()
			l.show()
		}
	}
	s.mark.Store(math.MaxInt64)
	s.inside.Add(1)
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
