package ring

import (
	"galvo/services/internal/ring/block"
)

// searchable reports whether a time can be found in a block that lies on a device by reading a few of its chunks.
func (t *task) searchable() bool {
	return t.from == 0 && len(t.places) > 0 && !t.waits && t.shown == nil && t.Flags&block.FlagUnsorted == 0
}

// countCut counts the packets of a block, which the query's interval cuts, that lie in the interval: nobody wants them. ok is false if its chunks do not say, or are
// damaged; then all of it is to be read.
func (q *Results) countCut(t *task, v *view) (ok bool) {
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

// before returns how many packets of a block are earlier than a time. It reads a few chunks, and then those between two of them.
func (q *Results) before(t *task, v *view, time int64) (n int, ok bool) {
	switch {
	case time <= t.First:
		return 0, true
	case time > t.Last:
		return int(t.Packets), true
	}
	left, read := block.All, block.Spread
	for range 2 {
		q.empty(v)
		t.chunks = read
		if err := q.fetch(t, v); err != nil || t.lost != 0 || v.Chunks == block.All {
			return 0, false
		}
		var err error
		if n, left, err = v.Before(time, left); err != nil || left == 0 {
			return n, err == nil
		}
		read = left
	}
	return 0, false
}
