package block

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
)

// A flow table tells for each packet of a block which flow it belongs to and what was known of it then. An entry is a flow, or a pair of flows for a
// tunnelled packet, or only a verdict for a packet without flow. FORMAT.md has the bytes.

// Bounds of one block's flow table.
const (
	maxEntries = 16384
	maxPackets = 24576
	maxEvents  = 16384
	maxHosts   = 256 << 10
	noEntry    = -1
)

// An entry is a flow of the block that is being built. It fills a line of the processor's cache: each packet looks at one.
type entry struct {
	id        uint64 // of the flow within its worker; 0 = none
	outerID   uint64
	l2        [2]uint64 // hashes of link headers whose keys are in the index
	chunks    Chunks    // that have its packets, and those of the entries whose outer one it is
	verdict   l7.Verdict
	flags     entryFlags
	host      hostRef // the name that the last event told
	note      int32   // in builder.notes; noEntry if it has none
	lastPkt   int32   // ordinal of its last packet; noEntry before the first
	firstItem int16   // in builder.events
	lastItem  int16
}

// An entryNote is what few entries have.
type entryNote struct {
	record key   // if entryKey
	outer  int32 // if entryOuter
}

type entryFlags uint8

const (
	entryFlow      entryFlags = 1 << iota // it is a flow; else only a verdict
	entryServer1                          // endpoint 1 is the server
	entryLower1                           // endpoint 1 has the lower address, or the same one and the lower port
	entryKey                              // the key is written; else every packet has it
	entryOuter                            // packets of this entry belong to an outer flow, too
	entryV6                               // of a written key
	EntryContinued                        // the flow had packets before this block
	entryOutside                          // flow.Outside
)

// A key is what a written entry says of a flow.
type key struct {
	addr  [2][16]byte
	port  [2]uint16
	proto uint8
}

// An event is what became known of a flow with a packet.
type event struct {
	packet  int32
	next    int16
	verdict l7.Verdict
	host    hostRef
}

// A hostRef is where a name is in Builder.hosts, and, in the lower 8 bits, how long it is; 0 is none.
type hostRef uint32

func newHostRef(at, n int) hostRef { return hostRef(at<<8 | n) }

func (r hostRef) len() int { return int(r & 0xff) }

func (r hostRef) of(hosts []byte) []byte { return hosts[r>>8:][:r.len()] }

// Sizes that bound an encoded entry and event.
const (
	maxKeyBytes   = 37
	maxEntryBytes = 4 + binary.MaxVarintLen64 + maxKeyBytes
	maxEventBytes = 1 + 3 + 2 + 2 + 1 // protocol ids are below 2^14
)

// varintLen is how many bytes binary.AppendVarint appends.
func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

// appendFlows encodes the flow table: number of entries, entries, and for each packet how far back the last one of its entry is.
func (b *Builder) appendFlows(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.entries)))
	last := uint64(0)
	for i := range b.entries {
		e := &b.entries[i]
		dst = append(dst, byte(e.flags))
		if e.flags&entryFlow != 0 {
			dst = binary.AppendVarint(dst, int64(e.id-last))
			last = e.id
		}
		if e.flags&entryOuter != 0 {
			dst = binary.AppendUvarint(dst, uint64(b.notes[e.note].outer))
		}
		if e.flags&entryKey != 0 {
			dst = b.notes[e.note].record.append(dst, e.flags)
		}
		dst = b.appendEvents(dst, e)
	}
	return append(dst, b.codes...)
}

func (k *key) append(dst []byte, flags entryFlags) []byte {
	n := 4
	if flags&entryV6 != 0 {
		n = 16
	}
	dst = append(append(dst, k.addr[0][:n]...), k.addr[1][:n]...)
	dst = le.AppendUint16(le.AppendUint16(dst, k.port[0]), k.port[1])
	return append(dst, k.proto)
}

// Bits of an event's first byte above the state.
const (
	eventProto = 1 << (3 + iota)
	eventApp
	eventHost
	eventMore // another event follows
)

func (b *Builder) appendEvents(dst []byte, e *entry) []byte {
	before := int32(0)
	for i := e.firstItem; i != noEntry; i = b.events[i].next {
		ev := &b.events[i]
		head := byte(ev.verdict.State)
		if ev.verdict.Proto != 0 {
			head |= eventProto
		}
		if ev.verdict.App != 0 {
			head |= eventApp
		}
		if ev.host != 0 {
			head |= eventHost
		}
		if ev.next != noEntry {
			head |= eventMore
		}
		dst = append(dst, head)
		if i != e.firstItem {
			dst = binary.AppendUvarint(dst, uint64(ev.packet-before))
		}
		before = ev.packet
		if ev.verdict.Proto != 0 {
			dst = binary.AppendUvarint(dst, uint64(ev.verdict.Proto))
		}
		if ev.verdict.App != 0 {
			dst = binary.AppendUvarint(dst, uint64(ev.verdict.App))
		}
		if ev.host != 0 {
			dst = append(dst, byte(ev.host.len()))
			dst = append(dst, ev.host.of(b.hosts)...)
		}
	}
	return dst
}

// A code tells how far back the last packet of the same entry is; 0 begins the next entry. Distances up to oneByte take one byte.
const (
	oneByte = 159
	twoByte = 160
)

func appendCode(dst []byte, distance int) []byte {
	if distance <= oneByte {
		return append(dst, byte(distance))
	}
	d := distance - twoByte
	return append(dst, byte(twoByte+d>>8), byte(d))
}

// appendLocal puts content into blocks for local use. dst has the room.
func appendLocal(dst []byte, blockType uint32, content []byte) []byte {
	for len(content) > 0 {
		n := min(len(content), maxLocal-LocalHead)
		size := LocalHead + (n+3)&^3
		dst = le.AppendUint32(le.AppendUint32(dst, blockType), uint32(size))
		dst = append(dst, content[:n]...)
		dst = append(dst, "\x00\x00\x00"[:size-LocalHead-n]...)
		dst = le.AppendUint32(dst, uint32(size))
		content = content[n:]
	}
	return dst
}

// localSize is what appendLocal appends for n bytes, at most.
func localSize(n int) int { return n + (n/(maxLocal-LocalHead)+1)*(LocalHead+3) }

// A FlowTable is the flow table of a block, read.
type FlowTable struct {
	Entries []tableEntry
	of      []uint16 // entry of each packet
	content []byte   // of the blocks for local use, joined
}

// A tableEntry is what the block says about a flow. Its record is complete once the packets before have been looked at.
type tableEntry struct {
	ID     uint64 // of the flow, unique in the ring; 0 = none
	Flags  entryFlags
	outer  int  // entry of the outer flow, itself if there is none
	keyed  bool // record has its key
	record flow.Record
	Events []FlowEvent
}

// A FlowEvent is what is known of a flow from a packet on.
type FlowEvent struct {
	Packet  int
	Verdict l7.Verdict
	Host    []byte // borrowed from the block
}

// At returns what was known at a packet.
func (e *tableEntry) At(packet int) *FlowEvent {
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
func (t *FlowTable) Read(block []byte, h *Header) error {
	t.content = t.content[:0]
	for at := h.DataEnd; at < h.FlowsEnd; {
		if h.FlowsEnd-at < LocalHead || le.Uint32(block[at:]) != typeFlows {
			return errFlows
		}
		size := le.Uint32(block[at+4:])
		if size < LocalHead || size > h.FlowsEnd-at || size&3 != 0 {
			return errFlows
		}
		t.content = append(t.content, block[at+8:at+size-4]...)
		at += size
	}
	d := Decoder{B: t.content}
	n := d.Uvarint()
	if n != uint64(h.Entries) || n > maxEntries {
		return errFlows
	}
	t.Entries = slices.Grow(t.Entries[:0], int(n))[:n]
	last := uint64(0)
	for i := range t.Entries {
		last = d.entry(&t.Entries[i], i, last, h)
	}
	t.codes(&d, int(h.Packets))
	if d.Bad {
		return errFlows
	}
	return nil
}

// entry reads entry i and returns the id that the next one counts from.
func (d *Decoder) entry(e *tableEntry, i int, last uint64, h *Header) uint64 {
	events := e.Events[:0]
	*e = tableEntry{Flags: entryFlags(d.byte()), outer: i}
	if e.Flags&entryFlow != 0 {
		last += uint64(d.varint())
		e.ID = h.flowID(last)
		e.record.ID = e.ID
	}
	if e.Flags&entryOuter != 0 {
		outer := d.Uvarint()
		if outer >= uint64(i) {
			d.Bad = true
			outer = 0
		}
		e.outer = int(outer)
	}
	if e.Flags&entryServer1 != 0 {
		e.record.Flags |= flow.Server1
	}
	if e.Flags&entryOutside != 0 {
		e.record.Flags |= flow.Outside
	}
	if e.Flags&entryKey != 0 {
		d.key(e)
	}
	e.Events = d.events(events)
	return last
}

func (d *Decoder) key(e *tableEntry) {
	n := 4
	if e.Flags&entryV6 != 0 {
		n = 16
		e.record.Flags |= flow.V6
	}
	b := d.Bytes(2*n + 5)
	if b == nil {
		return
	}
	copy(e.record.Addr[0][:], b[:n])
	copy(e.record.Addr[1][:], b[n:2*n])
	e.record.Port = [2]uint16{le.Uint16(b[2*n:]), le.Uint16(b[2*n+2:])}
	e.record.Proto = b[2*n+4]
	e.keyed = true
}

func (d *Decoder) events(events []FlowEvent) []FlowEvent {
	at := 0
	for {
		head := d.byte()
		var ev FlowEvent
		if len(events) > 0 {
			at += int(d.Uvarint() & 0xffff)
			ev.Packet = at
		} else {
			ev.Packet = noEntry
		}
		ev.Verdict.State = l7.State(head & 7)
		if head&eventProto != 0 {
			ev.Verdict.Proto = l7.ID(d.Uvarint())
		}
		if head&eventApp != 0 {
			ev.Verdict.App = l7.ID(d.Uvarint())
		}
		if head&eventHost != 0 {
			ev.Host = d.Bytes(int(d.byte()))
		}
		events = append(events, ev)
		if head&eventMore == 0 || d.Bad {
			return events
		}
	}
}

// codes reads the entry of each packet.
func (t *FlowTable) codes(d *Decoder, packets int) {
	if d.Bad || packets > maxPackets {
		d.Bad = true
		return
	}
	t.of = slices.Grow(t.of[:0], packets)[:packets]
	begun := 0
	for i := range t.of {
		distance := int(d.byte())
		if distance >= twoByte {
			distance = (distance-twoByte)<<8 + int(d.byte()) + twoByte
		}
		switch {
		case distance > i || distance == 0 && begun >= len(t.Entries):
			d.Bad = true
			return
		case distance > 0:
			t.of[i] = t.of[i-distance]
			continue
		}
		for begun < len(t.Entries)-1 && t.Entries[begun].Silent() {
			begun++
		}
		t.of[i] = uint16(begun)
		e := &t.Entries[begun]
		at := i
		for k := range e.Events {
			if k == 0 {
				e.Events[0].Packet = i
			} else {
				e.Events[k].Packet += at
			}
		}
		begun++
	}
}

// Silent reports whether the entry has no packets of its own: it is the outside of a tunnel.
func (e *tableEntry) Silent() bool {
	return len(e.Events) == 1 && e.Events[0].Verdict.State == SilentState
}

// SilentState is the state of the only event of an entry without packets.
const SilentState = 7

// A Decoder takes values from the front of b. After a value that is not there bad is set and everything is 0.
type Decoder struct {
	B   []byte
	Bad bool
}

func (d *Decoder) byte() byte {
	if len(d.B) == 0 {
		d.Bad = true
		return 0
	}
	v := d.B[0]
	d.B = d.B[1:]
	return v
}

// Uvarint takes an unsigned LEB128.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Bad = true
		d.B = nil
		return 0
	}
	d.B = d.B[n:]
	return v
}

func (d *Decoder) varint() int64 {
	v, n := binary.Varint(d.B)
	if n <= 0 {
		d.Bad = true
		d.B = nil
		return 0
	}
	d.B = d.B[n:]
	return v
}

// Bytes takes n bytes, which it borrows.
func (d *Decoder) Bytes(n int) []byte {
	if n > len(d.B) {
		d.Bad = true
		d.B = nil
		return nil
	}
	v := d.B[:n:n]
	d.B = d.B[n:]
	return v
}
