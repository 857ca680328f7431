package ring

import (
	"container/heap"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Gap is a time of which packets may be missing in a result, and why.
type Gap struct {
	From, To int64 // both included
	Why      string
}

// A Scan says what a query looked at.
type Scan struct {
	Blocks    uint64 // that the ring has in the interval
	Read      uint64 // of these, blocks that were read: the others cannot hold what was asked for
	Bytes     uint64 // that were read, indexes too, from the devices or from memory
	Packets   uint64 // that were looked at
	Matched   uint64 // of these, delivered
	Passed    uint64 // of these, not wanted, and not later than what was delivered: a query looks ahead of its reader
	Skipped   uint64 // that the indexes say are not wanted, in the same way: packets of the interval that were not looked at
	Held      uint64 // of these, waiting for the verdict of their flow now
	Undecided uint64 // of these, left out because their flow never got a verdict that the filter could decide on
	Disorder  uint64 // delivered after a later one, because the reorder memory was too small
	Dropped   uint64 // that the ring did not take in the interval, about: from the first of its blocks to the last one
	Lost      uint64 // that ports lost in the interval, before any ring saw them, in the same way
	From, To  int64  // begin and end, both included, of what the ring has of the interval; From > To if that is nothing
	Until     int64  // what the interval has before this time was looked at, and delivered unless it is not wanted or waits for a verdict; 0 if that is nothing yet
	Gaps      []Gap
	Empty     string // why nothing matched; empty if something did

	drops  drops
	losses drops
	found  uint64 // packets that are wanted, delivered or not
}

// Scan says what was looked at so far. It may be called from any goroutine.
func (q *Results) Scan() Scan {
	s := q.scanned()
	if s.found == 0 && s.Matched == 0 && q.rounds.Load() > 0 {
		if s.Empty = q.why(&s); s.Read > 0 && q.q.Filter != nil && q.q.Filter.NeedsFCS() {
			s.Empty += "; badCRC needs ports that deliver the frame check sequence"
		}
	}
	return s
}

// scanned returns what was counted so far.
func (q *Results) scanned() Scan {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	s := q.scan
	s.Gaps = slices.Clone(s.Gaps)
	s.Dropped, s.Lost = s.drops.most-s.drops.least, s.losses.most-s.losses.least
	return s
}

// why says why nothing matched. It takes the ring's locks: the caller holds none.
func (q *Results) why(s *Scan) string {
	switch {
	case s.Blocks == 0 || s.From > s.To:
		return q.ring.outside(q.told, q.q.To)
	case s.Read == 0:
		return fmt.Sprintf("none of the ring's %d blocks of the interval has what the filter asks for", s.Blocks)
	case s.Undecided > 0:
		return fmt.Sprintf("none of the %d packets looked at matched; of %d the flow was never recognised", s.Packets, s.Undecided)
	}
	return fmt.Sprintf("none of the %d packets looked at matched", s.Packets)
}

// outside says that the ring has no packet of a time, half-open, and of which time it has some: who asked for seconds where microseconds are meant sees it.
func (r *Ring) outside(from, to int64) string {
	none := "the ring has no packet of the interval"
	if from > -never {
		none += " from " + moment(from)
	}
	if to < never {
		none += " to " + moment(to)
	}
	s := r.State()
	if s.Oldest == 0 {
		return none + ": it is empty"
	}
	return fmt.Sprintf("%s: what it has is from %s to %s", none, moment(s.Oldest), moment(s.Newest))
}

// moment is how a person reads a time.
func moment(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05.000000 UTC") }

// A skip is packets that nobody need look at, and a time that none of them is later than.
type skip struct {
	last    int64
	packets uint64
}

// skips is a heap of them, the earliest first.
type skips []skip

func (s skips) Len() int           { return len(s) }
func (s skips) Less(i, j int) bool { return s[i].last < s[j].last }
func (s skips) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *skips) Push(x any)        { *s = append(*s, x.(skip)) }

func (s *skips) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

// skip notes such packets. They count once something later was delivered.
func (q *Results) skip(last int64, packets uint64) {
	if packets == 0 {
		return
	}
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	heap.Push(&q.skips, skip{last, packets})
}

// skipped counts them up to a time.
func (q *Results) skipped(until int64) {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	for len(q.skips) > 0 && q.skips[0].last <= until {
		s := heap.Pop(&q.skips).(skip)
		q.scan.Skipped += s.packets
		q.lately = append(q.lately, s)
	}
}

// reached notes that what comes before a time was looked at.
func (q *Results) reached(t int64) {
	if t = min(t, q.q.To); t > q.told {
		q.count(func(s *Scan) { s.Until = max(s.Until, t) })
	}
}

// count changes what Scan says.
func (q *Results) count(f func(*Scan)) {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	f(&q.scan)
}

// of returns which part of a time, both included, lies in the interval that was asked for: first > last if that is nothing.
func (q *Results) of(first, last int64) (int64, int64) {
	if first, last = max(first, q.told), min(last, q.q.To-1); first <= last {
		return first, last
	}
	return math.MaxInt64, math.MinInt64
}

// mostGaps is how many gaps are told one by one.
const mostGaps = 1000

// gap notes a gap, as far as it lies in the interval. It may come after later ones.
func (q *Results) gap(from, to int64, why string) {
	if from, to = q.of(from, to); from > to {
		return
	}
	q.count(func(s *Scan) {
		at := slices.IndexFunc(s.Gaps, func(g Gap) bool { return g.Why == why && from <= g.To+1 && g.From <= to+1 })
		if at < 0 && len(s.Gaps) < mostGaps {
			s.Gaps = append(s.Gaps, Gap{from, to, why})
			return
		}
		if at < 0 { // one of them says too much then, but nothing goes untold
			at = nearest(s.Gaps, from, to)
		}
		g := &s.Gaps[at]
		g.From, g.To = min(g.From, from), max(g.To, to)
	})
}

// nearest returns the gap that grows least when it takes in a time.
func nearest(gaps []Gap, from, to int64) (at int) {
	least := uint64(math.MaxUint64)
	for i, g := range gaps {
		if grown := uint64(max(g.To, to)-g.To) + uint64(g.From-min(g.From, from)); grown < least {
			at, least = i, grown
		}
	}
	return at
}
