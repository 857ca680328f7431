package ring

import (
	"errors"
	"slices"

	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
)

// errNeedsFlows is the error of a later fragment that may be wanted, in a block without its flow table.
var errNeedsFlows = errors.New("its flow table is needed")

// match asks the filter about the packets of a block.
func (q *Results) match(t *task, v *view) error {
	w, err := v.Walk(&q.Tables)
	if err != nil {
		return err
	}
	undecided, passed := uint64(0), uint32(0)
	lost := q.lostOf(t, v)
	for {
		v.packets = slices.Grow(v.packets, 1) // a rare one keeps few
		w.Packet = &v.packets[:len(v.packets)+1][len(v.packets)]
		more, err := w.Next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i := w.Ordinal - 1
		lost.pass(i, w.Packet.Time)
		if w.Packet.Time < q.q.From || w.Packet.Time >= q.q.To || i < int(t.from) {
			continue
		}
		if w.Untold && q.prune.MaybeFragment(w.Packet) {
			return errNeedsFlows
		}
		v.looked++
		verdict := l7.Verdict{}
		if w.Entry != nil {
			known := w.Entry.At(i)
			w.Ref.Host, verdict = known.Host, known.Verdict
		}
		result := q.q.Filter.Match(w.Packet, &w.Ref, verdict)
		if result == filter.Unknown && q.q.Hold {
			if result, verdict = q.later(t, w, i, verdict); result == filter.Unknown {
				if q.hold(t, w, verdict) {
					continue
				}
				verdict = verdict.Last()
				result = q.q.Filter.Match(w.Packet, &w.Ref, verdict)
			}
		}
		switch result {
		case filter.Yes:
			v.packets = v.packets[:len(v.packets)+1]
			if !q.q.ports {
				w.Packet.Iface = w.Met(w.Packet)
			}
			v.meta = append(v.meta, pipeline.Meta{Ref: w.Ref, L7: verdict})
			v.passed, passed = append(v.passed, passed), 0
			continue
		case filter.Unknown:
			undecided++
		}
		passed++
	}
	lost.end()
	v.rest = passed
	if v.Chunks != block.All && q.within(t.First, t.Last) { // else all of it was to be read
		q.skip(t.Last, uint64(max(0, int(v.Header.Packets)-int(t.from)-lost.packets-int(v.looked))))
	}
	if q.q.Live {
		t.held = q.admit(&v.Flows)
	}
	if undecided > 0 {
		q.count(func(s *Scan) { s.Undecided += undecided })
	}
	return nil
}

// A lostParts says which times the damaged chunks of a block are of, by the packets around them that are read.
type lostParts struct {
	q    *Results
	t    *task
	left [][2]int // ordinals of the packets that are lost, from and to, in order

	packets int   // that are lost
	last    int64 // time of the packet before
}

func (q *Results) lostOf(t *task, v *view) lostParts {
	l := lostParts{q: q, t: t, last: t.First}
	for c := t.lost; c != 0; {
		from, to := c.Run()
		c &^= block.Between(from, to)
		part := v.Packets(from, to)
		l.left = append(l.left, part)
		l.packets += part[1] - part[0]
	}
	if len(l.left) > 0 && v.Header.Flags&block.FlagUnsorted != 0 {
		q.missing(t.First, t.Last)
		l.left = nil
	}
	return l
}

// pass takes note of a packet.
func (l *lostParts) pass(ordinal int, time int64) {
	for len(l.left) > 0 && ordinal >= l.left[0][1] {
		l.q.missing(l.last, time)
		l.left = l.left[1:]
	}
	l.last = time
}

// end says that no packet follows.
func (l *lostParts) end() {
	if len(l.left) > 0 {
		l.q.missing(l.last, l.t.Last)
	}
}

// later asks the filter again about a packet whose result is unknown, with what became known of its flow after it, and returns the latest verdict.
func (q *Results) later(t *task, w *block.Walker, packet int, v l7.Verdict) (filter.Result, l7.Verdict) {
	e := w.Entry
	for k := range e.Events {
		if ev := &e.Events[k]; ev.Packet > packet {
			v, w.Ref.Host = ev.Verdict, ev.Host
			if r := q.q.Filter.Match(w.Packet, &w.Ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	if e.ID != 0 {
		for k := 0; ; k++ {
			ev := q.resolve.event(&w.Block.Header, e.ID, k, w.Packet.Time)
			if ev == nil {
				break
			}
			v, w.Ref.Host = ev.Verdict, ev.Host
			if r := q.q.Filter.Match(w.Packet, &w.Ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	return filter.Unknown, v
}
