package ring

import (
	"slices"

	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
)

// match asks the filter about the packets of a block.
func (q *Results) match(t *task, v *view) error {
	w, err := v.walk(&q.tables)
	if err != nil {
		return err
	}
	undecided, passed := uint64(0), uint32(0)
	v.packets = slices.Grow(v.packets, int(v.h.packets)+1)
	for {
		w.p = &v.packets[:len(v.packets)+1][len(v.packets)]
		more, err := w.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i := w.ordinal - 1
		if w.p.Time < q.q.From || w.p.Time >= q.q.To || i < int(t.from) {
			continue
		}
		v.looked++
		known := w.entry.at(i)
		w.ref.Host = known.host
		verdict := known.verdict
		result := q.q.Filter.Match(w.p, &w.ref, verdict)
		if result == filter.Unknown && q.q.Hold {
			if result, verdict = q.later(t, w, i, verdict); result == filter.Unknown {
				if q.hold(t, w, verdict) {
					continue
				}
				verdict = lastVerdict(verdict)
				result = q.q.Filter.Match(w.p, &w.ref, verdict)
			}
		}
		switch result {
		case filter.Yes:
			v.packets = v.packets[:len(v.packets)+1]
			v.meta = append(v.meta, pipeline.Meta{Ref: w.ref, L7: verdict})
			v.passed, passed = append(v.passed, passed), 0
			continue
		case filter.Unknown:
			undecided++
		}
		passed++
	}
	v.rest = passed
	if q.q.Live {
		t.held = q.admit(&v.flows)
	}
	if undecided > 0 {
		q.count(func(s *Scan) { s.Undecided += undecided })
	}
	return nil
}

// later asks the filter again about a packet whose result is unknown, with what became known of its flow after it, and returns the latest verdict.
func (q *Results) later(t *task, w *walker, packet int, v l7.Verdict) (filter.Result, l7.Verdict) {
	e := w.entry
	for k := range e.events {
		if ev := &e.events[k]; ev.packet > packet {
			v, w.ref.Host = ev.verdict, ev.host
			if r := q.q.Filter.Match(w.p, &w.ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	if e.id != 0 {
		for k := 0; ; k++ {
			ev := q.resolve.event(&w.v.h, e.id, k, w.p.Time)
			if ev == nil {
				break
			}
			v, w.ref.Host = ev.verdict, ev.host
			if r := q.q.Filter.Match(w.p, &w.ref, v); r != filter.Unknown {
				return r, v
			}
		}
	}
	return filter.Unknown, v
}

// lastVerdict is what is known about a flow if nothing more will be known.
func lastVerdict(v l7.Verdict) l7.Verdict {
	switch v.State {
	case l7.Partial:
		v.State = l7.Final
	case l7.NoFlow, l7.Pending:
		v.State = l7.Unknown
	}
	return v
}
