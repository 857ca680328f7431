package ring

import (
	"galvo/services/internal/ring/block"
)

// searchable reports whether a time can be found in a block that lies on a device by reading a few of its chunks.
func (t *task) searchable() bool {
	return t.from == 0 && len(t.places) > 0 && !t.waits && t.shown == nil && t.Flags&block.FlagUnsorted == 0
}

// around are the chunks that probably say how many packets of a block, which the query's interval cuts, lie in it.
func (q *Results) around(t *task) (c block.Chunks) {
	for _, time := range []int64{q.q.From, q.q.To} {
		if time > t.First && time <= t.Last {
			c |= block.Around(time, t.First, t.Last, t.DataEnd)
		}
	}
	return c
}

// countCut counts the packets of a block, which the query's interval cuts, that lie in the interval: nobody wants them. ok is false if its chunks do not say, or are
// damaged; then all of it is to be read.
func (q *Results) countCut(t *task, v *view) (ok bool) {
	if !q.fetchCut(t, v) {
		return false
	}
	from, ok := q.before(t, v, q.q.From)
	if !ok {
		return false
	}
	to, ok := q.before(t, v, q.q.To)
	if !ok || to < from {
		return false
	}
	q.count(func(s *Scan) {
		if t.Last >= q.told {
			s.drops.add(v.Header.Dropped)
		}
	})
	q.skip(min(t.Last, q.q.To-1), uint64(to-from))
	return true
}

// fetchCut reads some chunks of a block; not ok if it had to read all of them, or one is damaged.
func (q *Results) fetchCut(t *task, v *view) (ok bool) {
	err := q.fetch(t, v)
	return err == nil && t.lost == 0 && v.Chunks != block.All
}

// mostLooks is how often chunks of a block are read to find a time: around where it should be, some of those that are left, and those between two of these.
const mostLooks = 3

// before returns how many packets of a block are earlier than a time. Some of its chunks are read, and if they do not say, others.
func (q *Results) before(t *task, v *view, time int64) (n int, ok bool) {
	switch {
	case time <= t.First:
		return 0, true
	case time > t.Last:
		return int(t.Packets), true
	}
	left := block.All
	for range mostLooks {
		var err error
		if n, left, err = v.Before(time, left); err != nil || left == 0 {
			return n, err == nil
		}
		q.empty(v)
		if t.chunks = left.Thin(); !q.fetchCut(t, v) {
			return 0, false
		}
	}
	n, left, err := v.Before(time, left)
	return n, err == nil && left == 0
}
