package ring

import (
	"slices"
	"sync"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/block"
)

// How long a packet of a live query waits for the verdict of its flow, and how many bytes may.
const (
	holdTime  = int64(5 * time.Second) // the window of package l7
	holdBytes = 32 << 20
)

// A waitingRoom keeps packets whose flow may still get a verdict: at the newest end of a live query. What was recorded before is judged by what the ring
// knows. A packet that gets its verdict is delivered before the ones that brought it, and so after packets of other flows that are later.
type waitingRoom struct {
	mu    sync.Mutex
	flows map[uint64][]*waiting
	bytes int
}

type waiting struct {
	packet      packet.Packet
	met         uint16 // index of its interface when it is delivered
	ref         flow.Ref
	flow, outer flow.Record
	verdict     l7.Verdict
}

// mayWait reports whether a packet of a block may wait for its flow's verdict: of what was recorded after it too little has been named.
func (q *Results) mayWait(t *task, packet int64) bool {
	return q.q.Live && q.q.Hold && t.bound <= packet+holdTime
}

// hold keeps a packet if its flow may still get a verdict, and there is room.
func (q *Results) hold(t *task, w *block.Walker, v l7.Verdict) bool {
	if !q.mayWait(t, w.Packet.Time) || w.Entry.ID == 0 || w.Block.Header.Generation != q.ring.d.Generation {
		return false
	}
	room := &q.held
	room.mu.Lock()
	defer room.mu.Unlock()
	if room.bytes+len(w.Packet.Data) > holdBytes {
		return false
	}
	one := &waiting{packet: *w.Packet, met: w.Met(w.Packet), flow: *w.Ref.Flow, outer: *w.Ref.Outer, verdict: v}
	one.packet.Data = slices.Clone(w.Packet.Data)
	one.ref = flow.Ref{Flow: &one.flow, Outer: &one.outer, From: w.Ref.From, OuterFrom: w.Ref.OuterFrom}
	if room.flows == nil {
		room.flows = make(map[uint64][]*waiting)
	}
	room.flows[w.Entry.ID] = append(room.flows[w.Entry.ID], one)
	room.bytes += len(one.packet.Data)
	q.count(func(s *Scan) { s.Held++ })
	return true
}

// admit judges the packets that wait by what a block says of their flows, and returns those that are wanted now; nil if there are none.
func (q *Results) admit(flows *block.FlowTable) *view {
	room := &q.held
	room.mu.Lock()
	defer room.mu.Unlock()
	if len(room.flows) == 0 {
		return nil
	}
	out := &view{free: true}
	for id, events := range flows.Known(false) {
		list := room.flows[id]
		if list == nil {
			continue
		}
		q.judge(out, id, list, func(one *waiting) filter.Result {
			for k := range events {
				one.verdict, one.ref.Host = events[k].Verdict, slices.Clone(events[k].Host)
				if r := q.q.Filter.Match(&one.packet, &one.ref, one.verdict); r != filter.Unknown {
					return r
				}
			}
			return filter.Unknown
		})
	}
	return out.sorted()
}

// expire judges the packets that have waited long enough as if nothing more became known.
func (q *Results) expire() *view {
	room := &q.held
	room.mu.Lock()
	defer room.mu.Unlock()
	if len(room.flows) == 0 {
		return nil
	}
	out := &view{free: true}
	undecided := uint64(0)
	for id, list := range room.flows {
		q.judge(out, id, list, func(one *waiting) filter.Result {
			if q.bound <= one.packet.Time+holdTime && !q.ended { // all that was recorded before bound has been looked at
				return filter.Unknown
			}
			one.verdict = one.verdict.Last()
			r := q.q.Filter.Match(&one.packet, &one.ref, one.verdict)
			if r == filter.Unknown {
				undecided++
				return filter.No
			}
			return r
		})
	}
	q.count(func(s *Scan) { s.Undecided += undecided })
	return out.sorted()
}

// judge asks about the packets of a flow, oldest first, up to one that goes on waiting. q.held.mu is held.
func (q *Results) judge(out *view, id uint64, list []*waiting, ask func(*waiting) filter.Result) {
	judged, passed := uint64(0), uint64(0)
	for len(list) > 0 {
		one := list[0]
		r := ask(one)
		if r == filter.Unknown {
			break
		}
		judged++
		if r == filter.Yes {
			one.packet.Iface = one.met
			out.packets = append(out.packets, one.packet)
			out.meta = append(out.meta, pipeline.Meta{Ref: one.ref, L7: one.verdict})
			out.passed = append(out.passed, 0)
		} else {
			passed++
		}
		q.held.bytes -= len(one.packet.Data)
		list = list[1:]
	}
	q.count(func(s *Scan) { s.Held, s.Passed = s.Held-judged, s.Passed+passed })
	if len(list) == 0 {
		delete(q.held.flows, id)
	} else {
		q.held.flows[id] = list
	}
}

// sorted puts the packets of several flows in order; nil if there are none.
func (v *view) sorted() *view {
	if len(v.packets) == 0 {
		return nil
	}
	v.Header.Flags |= block.FlagUnsorted
	v.order()
	return v
}
