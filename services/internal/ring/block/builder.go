package block

import (
	"bytes"
	"math"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/opentable"
	"galvo/services/internal/ring/sum"
)

// An Image is a block in memory: while it is built, while it waits for the disk, and as long as somebody reads it there.
type Image struct {
	Buf    []byte // Size bytes that begin at a page
	Header Header
	Keys   []uint64 // of all its packets, each once, unless the header has FlagPartial
	Chunks []Chunks // parallel, once it is finished: all packets that have the key, or whose flow has it, are in these
	Refs   int      // how many use it; its owner counts them
}

// MaxKeys bounds the keys of a block: a block of real traffic has 1100.
const MaxKeys = 6144

// A Builder makes the blocks of one worker. It belongs to the worker's goroutine.
type Builder struct {
	Image  *Image // that is built; nil if there is none
	buf    []byte
	pos    int
	Header Header // as far as it is known
	sum    uint32 // CRC-32C of buf up to summed: it costs a quarter while the bytes are still in the processor's cache
	summed int
	chunk  int    // how many chunks have begun
	nth    uint32 // first packet of the last one

	entries []entry
	notes   []entryNote
	events  []event
	hosts   []byte
	codes   []byte
	slots   opentable.Table[uint16] // number of an entry + 1
	keys    keyList
	bound   int    // of the encoded entries and events
	brim    bool   // there may be no room for an entry, event or name of the next packet
	lastID  uint64 // that the next entry's counts from
	stream  []byte
}

// NewBuilder makes a builder, with all memory that it will need.
func NewBuilder() *Builder {
	return &Builder{
		entries: make([]entry, 0, maxEntries), events: make([]event, 0, maxEvents), hosts: make([]byte, 0, maxHosts),
		notes: make([]entryNote, 0, maxEntries), codes: make([]byte, 0, 2*maxPackets), slots: opentable.New[uint16](2 * maxEntries), keys: newKeyList(),
		stream: make([]byte, 0, 1<<19),
	}
}

// Begin starts a block in img, whose header says who writes it. head is what AppendHead made.
func (b *Builder) Begin(img *Image, h Header, head []byte) {
	b.Image, b.buf, b.Header = img, img.Buf, h
	b.pos = copy(b.buf, head)
	b.Header.DataStart = uint32(b.pos)
	b.Header.First, b.Header.Last = math.MaxInt64, math.MinInt64
	clear(BloomOf(b.buf[:Size]))
	b.sum, b.summed, b.chunk, b.nth = 0, 0, 0, 0
	b.reach()
	img.Keys, img.Chunks = img.Keys[:0], img.Chunks[:0]
}

// reach sums the block up to where the next packet begins, and notes that the chunks up to that place begin there.
func (b *Builder) reach() {
	b.sum, b.summed = sum.On(b.sum, b.buf[b.summed:b.pos]), b.pos
	for ; b.chunk <= b.pos>>chunkShift; b.chunk++ {
		chunk{at: uint32(b.pos), before: b.Header.Packets - b.nth, sum: b.sum}.put(b.buf[trailerAt:], b.chunk)
		b.nth = b.Header.Packets
	}
}

// Reset forgets the block.
func (b *Builder) Reset() {
	b.slots.Reset(len(b.entries))
	b.keys.reset(len(b.Image.Keys))
	b.Image, b.buf = nil, nil
	b.entries, b.notes, b.events, b.hosts, b.codes, b.bound = b.entries[:0], b.notes[:0], b.events[:0], b.hosts[:0], b.codes[:0], 0
	b.lastID, b.brim = 0, false
}

// perPacket bounds what a packet adds to a block beside its own bytes: two entries with an event and a host name each, and a code.
const perPacket = 2*(maxEntryBytes+maxEventBytes+protocol.MaxHost) + 2 + 3

// packetHead bounds what a packet block takes beside the packet's bytes.
const packetHead = 28 + 3 + 8 + 4 + 4

// mostBeside bounds what the flow table takes beside its entries and codes, what the next packet adds to it, and that packet's head.
const mostBeside = packetHead + perPacket + (trailerAt/(maxLocal-LocalHead)+2)*(LocalHead+3)

// Room reports whether a packet of so many captured bytes fits into the block.
func (b *Builder) Room(captured int) bool {
	return b.pos+captured+b.bound+len(b.codes)+mostBeside <= trailerAt && int(b.Header.Packets) < maxPackets && !b.brim
}

// Add puts a packet into the block, which has room. Of its bytes captured are kept.
func (b *Builder) Add(p *packet.Packet, m *pipeline.Meta, captured int) {
	e, i := b.find(p, m, captured)
	here := chunkOf(b.pos)
	e.chunks |= here
	if e.flags&entryOuter != 0 {
		b.entries[b.notes[e.note].outer].chunks |= here
	}
	ordinal := int32(b.Header.Packets)
	b.note(e, i, ordinal, m)
	b.index(e, i, p, m)
	if b.keys.full() && !b.keys.collect(b.Image, nil) {
		b.Header.Flags |= FlagPartial
	}
	distance := 0
	if e.lastPkt != noEntry {
		distance = int(ordinal - e.lastPkt)
	}
	e.lastPkt = ordinal
	b.codes = appendCode(b.codes, distance)

	f := &p.Frame
	prefetch(&b.buf[b.pos+writeAhead], captured)
	b.pos += pcapng.PutPacket(b.buf[b.pos:], uint32(f.Iface), f, captured, nil)
	if f.Time < b.Header.Last {
		b.Header.Flags |= FlagUnsorted
	}
	b.Header.First, b.Header.Last = min(b.Header.First, f.Time), max(b.Header.Last, f.Time)
	b.Header.Packets++
	b.Header.Bytes += uint32(captured)
	if b.pos>>chunkShift >= b.chunk {
		b.reach() // a chunk's bytes are in the nearest cache yet
	}
}

// writeAhead is how far before its time the memory of a block is fetched. It was another block's, and went to the disk from there: the processor writes each line
// that is not in its caches only when it is there. The trailer's size is the most that it can be.
const writeAhead = 2048

// noFlow stands for the outer flow of an entry without packets of its own.
const noFlow = math.MaxUint64

// find returns the entry of a packet, made if need be, and its number.
func (b *Builder) find(p *packet.Packet, m *pipeline.Meta, captured int) (*entry, int32) {
	r := m.Flow
	if r == nil {
		i := b.flowless(m.L7)
		return &b.entries[i], i
	}
	explicit := captured < len(p.Data) || p.Tunnel != packet.NoTunnel || p.Layers&packet.Fragment != 0 || r != m.Outer
	if i := int(r.Hint); i < len(b.entries) && !explicit { // most packets are that: what follows does the same
		if e := &b.entries[i]; e.id == r.ID && e.outerID == r.ID {
			return e, int32(i)
		}
	}
	id, outerID := r.ID, r.ID
	outer := int32(noEntry)
	if m.Outer != nil && m.Outer != r {
		outerID = m.Outer.ID
		outer = b.silent(m.Outer)
	}
	i, at := b.entryOf(m.Flow, id, outerID)
	if i != noEntry {
		if explicit && b.entries[i].flags&entryKey == 0 {
			b.keyed(i, m.Flow) // every packet of an entry without a key shows it
		}
		return &b.entries[i], i
	}
	m.Flow.Hint = uint16(len(b.entries))
	e := b.append(at, id, outerID)
	e.flags = entryFlow | recordFlags(m.Flow, p.Time)
	if outer != noEntry {
		e.flags |= entryOuter
		b.noteOf(e).outer = outer
	}
	i = int32(len(b.entries) - 1)
	if explicit {
		b.keyed(i, m.Flow)
	}
	return e, i
}

// entryOf returns the entry of a flow's packets, or noEntry and the place in slots for one.
func (b *Builder) entryOf(r *flow.Record, id, outerID uint64) (entry int32, at int) {
	if i := int(r.Hint); i < len(b.entries) {
		if e := &b.entries[i]; e.id == id && e.outerID == outerID {
			return int32(i), 0
		}
	}
	at = b.slot(id, outerID, l7.Verdict{})
	i := b.slots.At[at]
	if i == 0 {
		return noEntry, at
	}
	r.Hint = i - 1
	return int32(i) - 1, 0
}

// silent returns the entry of a flow that is the outside of a packet of another flow.
func (b *Builder) silent(r *flow.Record) int32 {
	at := b.slot(r.ID, noFlow, l7.Verdict{})
	if i := b.slots.At[at]; i != 0 {
		return int32(i) - 1
	}
	e := b.append(at, r.ID, noFlow)
	e.flags = entryFlow | recordFlags(r, r.First)
	i := int32(len(b.entries) - 1)
	b.keyed(i, r)
	e.firstItem = b.event(noEntry, l7.Verdict{State: silentState}, 0)
	return i
}

// flowless returns the entry of packets without flow that have a verdict.
func (b *Builder) flowless(v l7.Verdict) int32 {
	at := b.slot(0, 0, v)
	if i := b.slots.At[at]; i != 0 {
		return int32(i) - 1
	}
	e := b.append(at, 0, 0)
	e.verdict = v
	return int32(len(b.entries) - 1)
}

// recordFlags says of a flow what does not change. A flow that began before the packet that makes its entry goes on from an earlier block.
func recordFlags(r *flow.Record, now int64) (f entryFlags) {
	if r.Flags&flow.Server1 != 0 {
		f |= entryServer1
	}
	if r.Flags&flow.V6 != 0 {
		f |= entryV6
	}
	if r.Flags&flow.Outside != 0 {
		f |= entryOutside
	}
	if r.First < now {
		f |= entryContinued
	}
	if c := bytes.Compare(r.Addr[1][:], r.Addr[0][:]); c < 0 || c == 0 && r.Port[1] < r.Port[0] {
		f |= entryLower1
	}
	return f
}

// keyed has the key of an entry written.
func (b *Builder) keyed(i int32, r *flow.Record) {
	e := &b.entries[i]
	e.flags |= entryKey
	b.bound += maxKeyBytes
	b.noteOf(e).record = key{r.Addr, r.Port, r.Proto}
	b.keys.list = filter.AppendFlowKeys(b.keys.list, r)
	b.keys.end(uint16(i))
}

// noteOf returns what is kept of an entry beside.
func (b *Builder) noteOf(e *entry) *entryNote {
	if e.note == noEntry {
		e.note = int32(len(b.notes))
		b.notes = append(b.notes, entryNote{})
	}
	return &b.notes[e.note]
}

func (b *Builder) append(at int, id, outerID uint64) *entry {
	b.entries = append(b.entries, entry{id: id, outerID: outerID, note: noEntry, lastPkt: noEntry, firstItem: noEntry, lastItem: noEntry})
	b.brim = b.brim || len(b.entries)+2 > maxEntries
	b.slots.At[at] = uint16(len(b.entries))
	b.bound += 4 + varintLen(int64(id-b.lastID)) // flags, and where it has an outer flow its entry
	if id != 0 {
		b.lastID = id
	}
	return &b.entries[len(b.entries)-1]
}

// slot returns the place of an entry in slots, or the free one where it belongs. v counts for entries without flow only.
func (b *Builder) slot(id, outerID uint64, v l7.Verdict) int {
	if b.slots.Full(len(b.entries)) {
		b.slots.Grow()
		for i := range b.entries {
			e := &b.entries[i]
			b.slots.Put(entryHash(e.id, e.verdict), uint16(i+1))
		}
	}
	t := &b.slots
	for at := t.First(entryHash(id, v)); ; at = (at + 1) & (len(t.At) - 1) {
		i := t.At[at]
		if i == 0 {
			return at
		}
		if e := &b.entries[i-1]; e.id == id && e.outerID == outerID && (id != 0 || e.verdict == v) {
			return at
		}
	}
}

func entryHash(id uint64, v l7.Verdict) uint64 {
	if id == 0 {
		return uint64(v.Proto) * 0x94d049bb133111eb
	}
	return id * 0x9e3779b97f4a7c15
}

// note keeps what became known of the flow of a packet.
func (b *Builder) note(e *entry, i, ordinal int32, m *pipeline.Meta) {
	if e.firstItem != noEntry && e.verdict == m.L7 && e.host.len() == len(m.Host) && (len(m.Host) == 0 || bytes.Equal(e.host.of(b.hosts), m.Host)) {
		return
	}
	e.host = 0
	if n := min(len(m.Host), protocol.MaxHost); n > 0 {
		e.host = newHostRef(len(b.hosts), n)
		b.hosts = append(b.hosts, m.Host[:n]...)
		b.brim = b.brim || len(b.hosts)+protocol.MaxHost > maxHosts
		b.bound += 1 + n
	}
	e.verdict = m.L7
	item := b.event(ordinal, m.L7, e.host)
	if e.firstItem == noEntry {
		e.firstItem = item
	} else {
		b.events[e.lastItem].next = item
	}
	e.lastItem = item
	b.keys.list = filter.AppendVerdictKeys(b.keys.list, m.L7)
	b.keys.end(uint16(i))
}

func (b *Builder) event(ordinal int32, v l7.Verdict, host hostRef) int16 {
	b.events = append(b.events, event{packet: ordinal, next: noEntry, verdict: v, host: host})
	b.brim = b.brim || len(b.events)+3 > maxEvents
	b.bound += 4 + idLen(v.Proto) + idLen(v.App) // the host name is counted by note
	return int16(len(b.events) - 1)
}

// idLen is how many bytes a protocol takes in an event; below 2^14, as all are.
func idLen(id protocol.ID) int {
	switch {
	case id == 0:
		return 0
	case id < 128:
		return 1
	}
	return 2
}

// index puts the keys of a packet into the index, unless packets with the same ones have put them there.
func (b *Builder) index(e *entry, i int32, p *packet.Packet, m *pipeline.Meta) {
	k := &b.keys
	if m.Flow == nil || p.Tunnel != packet.NoTunnel || p.Layers&(packet.Ethernet|packet.Fragment|packet.LLC) != packet.Ethernet || p.Shim != 0 || p.Labels != 0 || p.VLANs > 1 {
		k.list = filter.AppendKeys(k.list, p, l7.Verdict{})
		k.endSet(chunkOf(b.pos))
		return
	}
	link := k.sets.link(p)
	if link == e.links[0] || link == e.links[1] {
		return
	}
	if e.links[0] == 0 { // all packets of an entry have the same addresses and ports
		k.list = filter.AppendNetworkKeys(k.list, p)
	}
	e.links[1], e.links[0] = e.links[0], link
	k.list = filter.AppendMACKeys(k.list, p)
	k.end(uint16(i))
	if n, found := k.sets.find(k.sets.frameType(p), All); !found {
		k.list = filter.AppendTypeKeys(k.list, p)
		k.end(maxEntries + n)
	}
}

// Finish completes img with the flow table: the image that is being built, or another one for a copy of it as far as it is.
func (b *Builder) Finish(img *Image) {
	if img != b.Image {
		copy(img.Buf, b.buf[:b.pos])
		copy(img.Buf[trailerAt:Size], b.buf[trailerAt:Size])
		b.keys.note(BloomOf(img.Buf[:Size]))
	} else if !b.keys.collect(img, b.entries) {
		b.Header.Flags |= FlagPartial
	}
	b.stream = b.appendFlows(b.stream[:0])
	h := b.Header
	h.DataEnd = uint32(b.pos)
	h.Entries = uint32(len(b.entries))
	h.FlowsEnd = uint32(len(appendLocal(img.Buf[:b.pos], typeFlows, b.stream)))
	h.DataSum = sum.On(b.sum, img.Buf[b.summed:b.pos])
	h.Sum = sum.On(h.DataSum, img.Buf[b.pos:h.FlowsEnd])
	endChunks(img.Buf, b.chunk, h.Packets-b.nth, &h)
	img.Header = h
}
