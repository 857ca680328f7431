package capture

import (
	"math"
	"time"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// How long a packet waits for the verdict of its flow before its filter is asked as if there never were one.
const (
	holdLive = int64(5 * time.Second)   // the window of package l7
	holdPast = int64(120 * time.Second) // what ends a silent flow: the past has the time
)

// A hold keeps packets of flows without a verdict, in memory of fixed size. It belongs to a lane.
//
// Packets leave when the verdict of their flow changes, as a later packet shows, or when they are too old. Their filter is asked again,
// packet by packet, because it may look at more than the verdict. A packet that matches waits as long as an older one of its flow does,
// so within a flow the order is right; packets of other flows overtake.
type hold struct {
	ring []byte // the packets' bytes, oldest first
	tail uint64 // bytes ever put into the ring, with gaps at its end

	items       []item // in a ring by number
	first, next uint64 // numbers of the oldest item and of the one to come
	longest     int64  // ns that an item may wait

	flows []heldFlow // open addressing by id, at most half full; id 0 is free
	used  int

	host []byte   // of the flow that is being resolved, as the batch's packet has it
	none flow.Ref // of packets whose records belong to other flows by now

	streams bool        // the filter looks at what came before in TCP streams
	stream  flow.Stream // of the packet whose bytes were lent last
}

// An item is a packet that waits. Its Data lies in the ring at at.
type item struct {
	packet packet.Packet
	at     uint64
	n      int // bytes of the frame; those of its options are behind them
	more   int
	ref    flow.Ref
	call   flow.Call // what ref.Call points to, where inCall is set
	inCall bool
	stream heldStream
	flow   uint64 // id of ref.Flow
	outer  uint64 // id of ref.Outer
	later  uint64 // number of the next item of the flow + 1, 0 = none
	gone   bool
}

// A heldStream is flow.Stream of a packet, whose bytes lie behind those of the packet. The zero value is none.
type heldStream struct {
	before, after  uint16
	skip, new      uint32
	in, open, more bool
}

// A heldFlow is a flow with packets that wait.
type heldFlow struct {
	id          uint64
	first, last uint64 // numbers of its items
	verdict     l7.Verdict
}

// newHold divides the memory evenly between bytes and what is noted of each packet.
func newHold(bytes uint64, past bool) *hold {
	n := int(max(bytes/768, 64))
	slots := 1
	for slots < 2*n {
		slots *= 2
	}
	h := &hold{ring: make([]byte, max(bytes/2, 2*maxSnap)), items: make([]item, n), flows: make([]heldFlow, slots), longest: holdLive}
	if past {
		h.longest = holdPast
	}
	return h
}

// waits returns 1 if packets wait in the lane, else 0.
func (l *lane) waits() uint64 {
	if l.hold != nil && l.hold.first != l.hold.next {
		return 1
	}
	return 0
}

// takeOrHold does with packet i of the batch what the filter said, and with the held packets of its flow what the verdict says.
func (l *lane) takeOrHold(b *pipeline.Batch, i int, yes, unknown bool) {
	p, m := &b.Packets[i], &b.Meta[i]
	if !l.on || l.partial && p.Time < l.c.from {
		return
	}
	if o := l.expire(p.Time); o != counted {
		l.ended(i, refused)
		return
	}
	f := l.hold.find(m.Flow)
	if f != nil && (l.hold.learn(f, m.Call) || f.verdict != m.L7) {
		f.verdict = m.L7
		l.hold.host = m.Host
		o := l.resolve(f, math.MinInt64)
		l.hold.host = nil
		if o != counted {
			l.ended(i, refused)
			return
		}
		f = l.hold.find(m.Flow)
	}
	switch {
	case l.partial && p.Time >= l.c.until: // says what it can of those that wait, and no more
	case unknown && m.Flow != nil, yes && f != nil:
		if !l.hold.add(p, m, b.OptionsOf(i)) {
			l.dropped++
			l.iface(p.Iface).dropped++
			return
		}
		l.held++
	case yes:
		l.ended(i, l.put(&p.Frame, b.OptionsOf(i)))
	}
}

// expire asks the filter about the packets that are too old at a time as if their flow were never recognised.
func (l *lane) expire(now int64) outcome {
	h := l.hold
	for h.first != h.next {
		it := h.item(h.first)
		switch {
		case it.gone:
			h.first++
		case now-it.packet.Time < h.longest:
			return counted
		default:
			if o := l.resolve(h.lookup(it.flow), now-h.longest); o != counted {
				return o
			}
		}
	}
	return counted
}

// lastVerdict is what is known about the flow of a packet if nothing more will be known.
func lastVerdict(it *item) l7.Verdict {
	var v l7.Verdict
	if it.ref.Flow.ID == it.flow { // else the record is another flow's by now
		v = l7.VerdictOf(it.ref.Flow)
	}
	return v.Last()
}

// resolve asks the filter again about the held packets of a flow, oldest first, up to the first one that goes on waiting. For packets of
// the time old and before there is no more waiting.
func (l *lane) resolve(f *heldFlow, old int64) outcome {
	h, id := l.hold, f.id
	for {
		it := h.item(f.first)
		v, tooOld := f.verdict, it.packet.Time <= old
		if tooOld {
			v = lastVerdict(it)
			it.call.Pending = false
		}
		h.lend(it)
		r := l.c.spec.Filter.Match(&it.packet, h.refOf(it), v)
		if r == filter.Unknown && !tooOld {
			it.packet.Data = nil
			return counted
		}
		var o outcome
		if r == filter.Yes {
			if o = l.put(&it.packet.Frame, h.options(it)); o == refused {
				return o
			}
		}
		l.held--
		it.packet.Data, it.gone = nil, true
		if it.later == 0 {
			h.remove(id)
			return o
		}
		f.first = it.later - 1
		if o != counted {
			return o
		}
	}
}

// refOf returns the flow of a packet that waited, as far as its records are still there.
func (h *hold) refOf(it *item) *flow.Ref {
	ref := &it.ref
	if it.ref.Flow.ID != it.flow || it.ref.Outer != nil && it.ref.Outer.ID != it.outer {
		ref = &h.none
	} else {
		it.ref.Host = h.host
	}
	if ref.Call = nil; it.inCall {
		ref.Call = &it.call
	}
	if ref.Stream = nil; it.stream.in {
		ref.Stream = &h.stream
	}
	return ref
}

// learn tells the held packets of a flow the calls of the message that they began, and reports whether there was one that waited for them.
func (h *hold) learn(f *heldFlow, call *flow.Call) bool {
	if call == nil || call.Continues == 0 {
		return false
	}
	learnt := false
	for number := f.first; ; {
		it := h.item(number)
		if it.inCall && it.call.Pending && it.call.Message == call.Continues {
			for _, id := range call.IDs[:call.Own] {
				it.call.Add(id)
			}
			it.call.Pending, learnt = false, true
		}
		if it.later == 0 {
			return learnt
		}
		number = it.later - 1
	}
}

// release asks the filter about all held packets as if nothing more will be known about their flows.
func (l *lane) release() {
	h := l.hold
	for ; h.first != h.next; h.first++ {
		it := h.item(h.first)
		if !it.gone && l.resolve(h.lookup(it.flow), math.MaxInt64) != counted {
			return
		}
	}
}

func (h *hold) item(number uint64) *item { return &h.items[number%uint64(len(h.items))] }

func (h *hold) bytes(it *item, n int) []byte {
	at := it.at % uint64(len(h.ring))
	return h.ring[at : at+uint64(n)]
}

// lend gives a packet its bytes, and h.stream those of its stream.
func (h *hold) lend(it *item) {
	st := &it.stream
	b := h.bytes(it, it.n+it.more+int(st.before)+int(st.after))
	it.packet.Data, b = b[:it.n], b[it.n+it.more:]
	h.stream = flow.Stream{Before: b[:st.before], After: b[st.before:], Skip: int(st.skip), New: int(st.new), Open: st.open, More: st.more}
}

// options returns the options of a packet that waited, or nil.
func (h *hold) options(it *item) []byte {
	if it.more == 0 {
		return nil
	}
	at := it.at%uint64(len(h.ring)) + uint64(it.n)
	return h.ring[at : at+uint64(it.more)]
}

// add keeps a packet with its options, or reports false if there is no room.
func (h *hold) add(p *packet.Packet, m *pipeline.Meta, options []byte) bool {
	for h.first != h.next && h.item(h.first).gone {
		h.first++
	}
	n := min(len(p.Data), maxSnap)
	var st flow.Stream
	if h.streams && m.Stream != nil {
		st = *m.Stream
	}
	all := n + len(options) + len(st.Before) + len(st.After)
	at, ok := h.place(all)
	if !ok || h.next-h.first == uint64(len(h.items)) {
		return false
	}
	number := h.next
	h.next++
	h.tail = at + uint64(all)
	it := h.item(number)
	*it = item{packet: *p, at: at, n: n, more: len(options), ref: m.Ref, flow: m.Flow.ID}
	it.ref.Host, it.ref.Call, it.ref.Stream = nil, nil, nil // valid in this batch only
	if m.Call != nil {
		it.call, it.inCall = *m.Call, true
	}
	if m.Outer != nil {
		it.outer = m.Outer.ID
	}
	if h.streams && m.Stream != nil {
		it.stream = heldStream{uint16(len(st.Before)), uint16(len(st.After)), uint32(st.Skip), uint32(st.New), true, st.Open, st.More}
	}
	h.lend(it)
	copy(it.packet.Data, p.Data)
	copy(h.stream.Before, st.Before)
	copy(h.stream.After, st.After)
	it.packet.Data = nil
	copy(h.options(it), options)
	f := h.slot(m.Flow.ID)
	if f.id == 0 {
		*f = heldFlow{id: m.Flow.ID, first: number, verdict: m.L7}
		h.used++
	} else {
		h.item(f.last).later = number + 1
	}
	f.last = number
	return true
}

// place finds n bytes in a row behind the newest ones.
func (h *hold) place(n int) (at uint64, ok bool) {
	size := uint64(len(h.ring))
	at = h.tail
	if rest := size - at%size; rest < uint64(n) {
		at += rest
	}
	oldest := at
	if h.first != h.next {
		oldest = h.item(h.first).at
	}
	return at, at+uint64(n)-oldest <= size
}

// find returns the held flow of a record, or nil.
func (h *hold) find(r *flow.Record) *heldFlow {
	if h.used == 0 || r == nil {
		return nil
	}
	return h.lookup(r.ID)
}

func (h *hold) lookup(id uint64) *heldFlow {
	if f := h.slot(id); f.id != 0 {
		return f
	}
	return nil
}

// slot returns the place of a flow in the table, or the free one where it belongs. Ids start at 1 and count up, which spreads them well.
func (h *hold) slot(id uint64) *heldFlow {
	mask := uint64(len(h.flows) - 1)
	for i := home(id) & mask; ; i = (i + 1) & mask {
		if f := &h.flows[i]; f.id == id || f.id == 0 {
			return f
		}
	}
}

func home(id uint64) uint64 { return id * 0x9e3779b97f4a7c15 >> 32 }

// remove takes a flow out of the table, and moves up those that were pushed on by it.
func (h *hold) remove(id uint64) {
	mask := uint64(len(h.flows) - 1)
	i := home(id) & mask
	for h.flows[i].id != id {
		i = (i + 1) & mask
	}
	h.used--
	for j := (i + 1) & mask; h.flows[j].id != 0; j = (j + 1) & mask {
		if want := home(h.flows[j].id) & mask; (j-want)&mask >= (j-i)&mask {
			h.flows[i] = h.flows[j]
			i = j
		}
	}
	h.flows[i] = heldFlow{}
}
