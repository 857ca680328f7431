package block

import (
	"encoding/binary"
	"math/bits"

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
	links     [2]uint64 // hashes of link headers whose keys are in the index; 0 = none
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

type entryFlags uint16

const (
	entryFlow      entryFlags = 1 << iota // it is a flow; else only a verdict
	entryServer1                          // endpoint 1 is the server
	entryLower1                           // endpoint 1 has the lower address, or the same one and the lower port
	entryKey                              // the key is written; else every packet has it
	entryOuter                            // packets of this entry belong to an outer flow, too
	entryV6                               // of a written key
	entryContinued                        // the flow had packets before this block
	entryOutside                          // flow.Outside
	entrySilent                           // it has no packets of its own; not written: its only event says so
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
