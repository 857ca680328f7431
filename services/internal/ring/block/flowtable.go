package block

import (
	"errors"
	"iter"
	"slices"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// A FlowTable is the flow table of a block, read as far as it was asked for: most of its entries are not, where few packets are looked at.
type FlowTable struct {
	lines   []line
	of      []uint16 // entry of each packet
	content []byte   // of the blocks for local use, joined
	slab    []Entry  // memory for entries that are asked for
	events  []FlowEvent
}

// A line is where an entry stands, and what is known without reading it whole.
type line struct {
	id    uint64 // of the flow, unique in the ring; 0 = none
	entry *Entry // once somebody has asked
	at    uint32 // its key, or if it has none its events, in content
	first int32  // its first packet; noEntry if it has none, or it was not looked for
	outer uint16 // entry of the outer flow, itself if there is none
	flags entryFlags
}

// An Entry is what the block says about a flow.
type Entry struct {
	ID     uint64 // of the flow, unique in the ring; 0 = none
	flags  entryFlags
	outer  uint16
	keyed  bool        // record has its key
	record flow.Record // complete once one of its packets has been looked at
	Events []FlowEvent
}

// A FlowEvent is what is known of a flow from a packet on.
type FlowEvent struct {
	Packet  int
	Verdict l7.Verdict
	Host    []byte // borrowed from the block
}

// At returns what was known at a packet.
func (e *Entry) At(packet int) *FlowEvent {
	i := len(e.Events) - 1
	for i > 0 && e.Events[i].Packet > packet {
		i--
	}
	return &e.Events[i]
}

// flowID makes the id of a flow unique in the ring: a worker's flow table begins anew with every Open.
func (h *Header) flowID(id uint64) uint64 {
	if id == 0 {
		return 0
	}
	return uint64(h.Generation)<<48 | uint64(h.Worker&0xff)<<40 | id&(1<<40-1)
}

var errFlows = errors.New("its flow table makes no sense")

// Read reads the flow table of a block. What it returns borrows the block where the table lies in one piece.
func (t *FlowTable) Read(block []byte, h *Header) error { return t.readUpTo(block, h, int(h.Packets)) }

// readUpTo is Read for who looks at the first so many packets only.
func (t *FlowTable) readUpTo(block []byte, h *Header, packets int) error {
	t.content, t.slab, t.events = nil, t.slab[:0], t.events[:0]
	for at := h.DataEnd; at < h.FlowsEnd; {
		if h.FlowsEnd-at < LocalHead || le.Uint32(block[at:]) != typeFlows {
			return errFlows
		}
		size := le.Uint32(block[at+4:])
		if size < LocalHead || size > h.FlowsEnd-at || size&3 != 0 {
			return errFlows
		}
		piece := block[at+8 : at+size-4]
		if t.content == nil {
			t.content = piece[:len(piece):len(piece)]
		} else {
			t.content = append(t.content, piece...)
		}
		at += size
	}
	d := Decoder{B: t.content}
	n := d.Uvarint()
	if n != uint64(h.Entries) || n > maxEntries {
		return errFlows
	}
	t.lines = slices.Grow(t.lines[:0], int(n))[:n]
	last := uint64(0)
	for i := range t.lines {
		last = t.line(&d, i, last, h)
	}
	t.codes(&d, packets)
	if d.Bad {
		return errFlows
	}
	return nil
}

// line reads what is to be known of entry i, and returns the id that the next one counts from.
func (t *FlowTable) line(d *Decoder, i int, last uint64, h *Header) uint64 {
	l := line{flags: entryFlags(d.byte()), outer: uint16(i), first: noEntry}
	if l.flags&entryFlow != 0 {
		last += uint64(d.varint())
		l.id = h.flowID(last)
	}
	if l.flags&entryOuter != 0 {
		outer := d.Uvarint()
		if outer >= uint64(i) {
			d.Bad = true
			outer = 0
		}
		l.outer = uint16(outer)
	}
	l.at = uint32(len(t.content) - len(d.B))
	if l.flags&entryKey != 0 {
		d.Bytes(l.flags.keySize())
	}
	head := d.event(nil, false)
	if head&eventMore == 0 && l7.State(head&7) == silentState {
		l.flags |= entrySilent
	}
	for head&eventMore != 0 && !d.Bad {
		head = d.event(nil, true)
	}
	t.lines[i] = l
	return last
}

// keySize is how many bytes the key of an entry takes.
func (f entryFlags) keySize() int {
	if f&entryV6 != 0 {
		return 2*16 + 5
	}
	return 2*4 + 5
}

// entry returns an entry.
func (t *FlowTable) entry(i int) *Entry {
	l := &t.lines[i]
	if l.entry == nil {
		if len(t.slab) == cap(t.slab) {
			t.slab = make([]Entry, 0, max(16, min(len(t.lines), 2*len(t.slab)))) // what was given out stays
		}
		t.slab = t.slab[:len(t.slab)+1]
		l.entry = &t.slab[len(t.slab)-1]
		t.read(l.entry, l)
	}
	return l.entry
}

func (t *FlowTable) read(e *Entry, l *line) {
	*e = Entry{ID: l.id, flags: l.flags, outer: l.outer}
	if l.flags&entryFlow != 0 {
		e.record.ID = l.id
	}
	if l.flags&entryServer1 != 0 {
		e.record.Flags |= flow.Server1
	}
	if l.flags&entryOutside != 0 {
		e.record.Flags |= flow.Outside
	}
	d := Decoder{B: t.content[l.at:]}
	if l.flags&entryKey != 0 {
		d.key(e)
	}
	from, ev := len(t.events), FlowEvent{Packet: int(l.first)}
	for more := true; more && !d.Bad; {
		more = d.event(&ev, len(t.events) > from)&eventMore != 0
		t.events = append(t.events, ev)
	}
	e.Events = t.events[from:len(t.events):len(t.events)]
}

func (d *Decoder) key(e *Entry) {
	n := 4
	if e.flags&entryV6 != 0 {
		n = 16
		e.record.Flags |= flow.V6
	}
	b := d.Bytes(e.flags.keySize())
	if b == nil {
		return
	}
	copy(e.record.Addr[0][:], b[:n])
	copy(e.record.Addr[1][:], b[n:2*n])
	e.record.Port = [2]uint16{le.Uint16(b[2*n:]), le.Uint16(b[2*n+2:])}
	e.record.Proto = b[2*n+4]
	e.keyed = true
}

// event reads an event, into ev unless that is nil, and returns its first byte. A later one is so many packets behind what ev was.
func (d *Decoder) event(ev *FlowEvent, later bool) (head byte) {
	head = d.byte()
	var distance, proto, app uint64
	var host []byte
	if later {
		distance = d.Uvarint() & 0xffff
	}
	if head&eventProto != 0 {
		proto = d.Uvarint()
	}
	if head&eventApp != 0 {
		app = d.Uvarint()
	}
	if head&eventHost != 0 {
		host = d.Bytes(int(d.byte()))
	}
	if ev != nil {
		ev.Packet += int(distance)
		ev.Verdict, ev.Host = l7.Verdict{Proto: protocol.ID(proto), App: protocol.ID(app), State: l7.State(head & 7)}, host
	}
	return head
}

// codes reads the entry of each packet.
func (t *FlowTable) codes(d *Decoder, packets int) {
	if d.Bad || packets > maxPackets {
		d.Bad = true
		return
	}
	t.of = slices.Grow(t.of[:0], packets)[:packets]
	b, at, begun := d.B, 0, 0
	for i := range t.of {
		if at >= len(b) {
			d.Bad = true
			return
		}
		distance := int(b[at])
		if at++; distance >= twoByte {
			if at >= len(b) {
				d.Bad = true
				return
			}
			distance = (distance-twoByte)<<8 + int(b[at]) + twoByte
			at++
		}
		switch {
		case distance > i || distance == 0 && begun >= len(t.lines):
			d.Bad = true
			return
		case distance > 0:
			t.of[i] = t.of[i-distance]
			continue
		}
		for begun < len(t.lines)-1 && t.lines[begun].flags&entrySilent != 0 {
			begun++
		}
		t.of[i] = uint16(begun)
		t.lines[begun].first = int32(i)
		begun++
	}
}

// Known yields for each flow of the block what became known of it. With later, of flows that had packets before the block only.
func (t *FlowTable) Known(later bool) iter.Seq2[uint64, []FlowEvent] {
	return func(yield func(uint64, []FlowEvent) bool) {
		for i := range t.lines {
			l := &t.lines[i]
			if l.id == 0 || l.flags&entrySilent != 0 || later && l.flags&entryContinued == 0 {
				continue
			}
			if !yield(l.id, t.entry(i).Events) {
				return
			}
		}
	}
}

// silentState is the state of the only event of an entry that has no packets of its own: it is the outside of a tunnel.
const silentState = 7
