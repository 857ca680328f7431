package block

import (
	"bytes"
	"math"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/opentable"
)

// An Image is a block in memory: while it is built, while it waits for the disk, and as long as somebody reads it there.
type Image struct {
	Buf    []byte // Size bytes that begin at a page
	Header Header
	Sum
	Keys []uint64 // of all its packets, each once, unless the header has FlagPartial
	Refs int      // how many use it; its owner counts them
}

// MaxKeys bounds the keys of a block: a block of real traffic has 1100.
const MaxKeys = 6144

// A Builder makes the blocks of one worker. It belongs to the worker's goroutine.
type Builder struct {
	Image  *Image // that is built; nil if there is none
	buf    []byte
	pos    int
	Header Header // as far as it is known
	Sum

	entries []entry
	notes   []entryNote
	events  []event
	hosts   []byte
	codes   []byte
	slots   opentable.Table[uint16] // number of an entry + 1
	set     opentable.Table[uint64] // keys
	bloom   Bloom
	bound   int    // of the encoded entries and events
	lastID  uint64 // that the next entry's counts from
	scratch []filter.Key
	stream  []byte
}

// NewBuilder makes a builder, with all memory that it will need.
func NewBuilder() *Builder {
	return &Builder{
		entries: make([]entry, 0, maxEntries), events: make([]event, 0, maxEvents), hosts: make([]byte, 0, maxHosts),
		notes: make([]entryNote, 0, maxEntries), codes: make([]byte, 0, 2*maxPackets), slots: opentable.New[uint16](2 * maxEntries), set: opentable.New[uint64](2 * 8192),
		scratch: make([]filter.Key, 0, 512), stream: make([]byte, 0, 1<<19),
	}
}

// Begin starts a block in img, whose header says who writes it. head is what AppendHead made.
func (b *Builder) Begin(img *Image, h Header, head []byte) {
	b.Image, b.buf, b.Header = img, img.Buf, h
	b.pos = copy(b.buf, head)
	b.Header.DataStart = uint32(b.pos)
	b.Header.First, b.Header.Last = math.MaxInt64, math.MinInt64
	b.bloom = Bloom(b.buf[trailerAt+bloomAt:][:bloomSize])
	clear(b.bloom)
	b.Sum = Sum{}
	img.Keys = img.Keys[:0]
}

// Reset forgets the block.
func (b *Builder) Reset() {
	b.slots.Reset(len(b.entries))
	b.set.Reset(len(b.Image.Keys))
	b.Image, b.buf, b.bloom = nil, nil, nil
	b.entries, b.notes, b.events, b.hosts, b.codes, b.bound = b.entries[:0], b.notes[:0], b.events[:0], b.hosts[:0], b.codes[:0], 0
	b.lastID = 0
}

// perPacket bounds what a packet adds to a block beside its own bytes: two entries with an event and a host name each, and a code.
const perPacket = 2*(maxEntryBytes+maxEventBytes+l7.MaxHost) + 2 + 3

// packetHead bounds what a packet block takes beside the packet's bytes.
const packetHead = 28 + 3 + 8 + 4 + 4

// Room reports whether a packet of so many captured bytes fits into the block.
func (b *Builder) Room(captured int) bool {
	return b.pos+captured+packetHead+localSize(b.bound+len(b.codes)+perPacket)+LocalHead <= trailerAt && len(b.entries)+2 <= maxEntries && len(b.codes) < 2*maxPackets-2 &&
		int(b.Header.Packets) < maxPackets && len(b.events)+3 <= maxEvents && len(b.hosts)+l7.MaxHost <= maxHosts
}

// Add puts a packet into the block, which has room. Of its bytes captured are kept.
func (b *Builder) Add(p *packet.Packet, m *pipeline.Meta, captured int) {
	i := b.find(p, m, captured)
	e := &b.entries[i]
	ordinal := int32(b.Header.Packets)
	b.note(e, ordinal, m)
	b.index(e, p, m)
	distance := 0
	if e.lastPkt != noEntry {
		distance = int(ordinal - e.lastPkt)
	}
	e.lastPkt = ordinal
	b.codes = appendCode(b.codes, distance)

	f := &p.Frame
	prefetch(&b.buf[b.pos+writeAhead], captured)
	b.pos = len(pcapng.AppendPacket(b.buf[:b.pos], uint32(f.Iface), f.Time, f.Data[:captured], f.Len, f.Flags, nil))
	if f.Time < b.Header.Last {
		b.Header.Flags |= FlagUnsorted
	}
	b.Header.First, b.Header.Last = min(b.Header.First, f.Time), max(b.Header.Last, f.Time)
	b.Header.Packets++
	b.Header.Bytes += uint32(captured)
	if b.pos-b.Sum.to >= sumStep {
		b.goOn(b.buf, b.pos)
	}
}

// writeAhead is how far before its time the memory of a block is fetched. It was another block's, and went to the disk from there: the processor writes each line
// that is not in its caches only when it is there. The trailer's size is the most that it can be.
const writeAhead = 2048

// sumStep is how many bytes of a block are summed at once: few enough to be in the nearest cache.
const sumStep = 16 << 10

// noFlow stands for the outer flow of an entry without packets of its own.
const noFlow = math.MaxUint64

// find returns the entry of a packet, made if need be.
func (b *Builder) find(p *packet.Packet, m *pipeline.Meta, captured int) int32 {
	if m.Flow == nil {
		return b.flowless(m.L7)
	}
	explicit := captured < len(p.Data) || p.Tunnel != packet.NoTunnel || p.Layers&packet.Fragment != 0 || m.Flow != m.Outer
	id, outerID := m.Flow.ID, m.Flow.ID
	outer := int32(noEntry)
	if m.Outer != nil && m.Outer != m.Flow {
		outerID = m.Outer.ID
		outer = b.silent(m.Outer)
	}
	if i := int(m.Flow.Hint); i < len(b.entries) {
		if e := &b.entries[i]; e.id == id && e.outerID == outerID {
			return int32(i)
		}
	}
	at := b.slot(id, outerID, l7.Verdict{})
	if i := b.slots.At[at]; i != 0 {
		m.Flow.Hint = i - 1
		return int32(i) - 1
	}
	m.Flow.Hint = uint16(len(b.entries))
	e := b.append(at, id, outerID)
	e.flags = entryFlow | recordFlags(m.Flow, p.Time)
	if outer != noEntry {
		e.flags |= entryOuter
		b.noteOf(e).outer = outer
	}
	if m.From == 1 {
		e.flags |= entryFrom1
	}
	if explicit {
		b.keyed(e, m.Flow)
	}
	return int32(len(b.entries) - 1)
}

// silent returns the entry of a flow that is the outside of a packet of another flow.
func (b *Builder) silent(r *flow.Record) int32 {
	at := b.slot(r.ID, noFlow, l7.Verdict{})
	if i := b.slots.At[at]; i != 0 {
		return int32(i) - 1
	}
	e := b.append(at, r.ID, noFlow)
	e.flags = entryFlow | recordFlags(r, r.First)
	b.keyed(e, r)
	i := int32(len(b.entries) - 1)
	e.firstItem = b.event(noEntry, l7.Verdict{State: SilentState}, hostRef{})
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
		f |= EntryContinued
	}
	return f
}

func (b *Builder) keyed(e *entry, r *flow.Record) {
	e.flags |= entryKey
	b.bound += maxKeyBytes
	b.noteOf(e).record = key{r.Addr, r.Port, r.Proto}
	b.scratch = filter.AppendFlowKeys(b.scratch[:0], r)
	b.addKeys()
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
func (b *Builder) note(e *entry, ordinal int32, m *pipeline.Meta) {
	if e.firstItem != noEntry && e.verdict == m.L7 && int(e.host.n) == len(m.Host) && (len(m.Host) == 0 || bytes.Equal(b.hosts[e.host.at:][:e.host.n], m.Host)) {
		return
	}
	if len(m.Host) > 0 {
		e.host = hostRef{uint32(len(b.hosts)), uint32(min(len(m.Host), l7.MaxHost))}
		b.hosts = append(b.hosts, m.Host[:e.host.n]...)
		b.bound += 1 + int(e.host.n)
	} else {
		e.host = hostRef{}
	}
	e.verdict = m.L7
	i := b.event(ordinal, m.L7, e.host)
	if e.firstItem == noEntry {
		e.firstItem = i
	} else {
		b.events[e.lastItem].next = i
	}
	e.lastItem = i
	b.scratch = filter.AppendVerdictKeys(b.scratch[:0], m.L7)
	b.addKeys()
}

func (b *Builder) event(ordinal int32, v l7.Verdict, host hostRef) int32 {
	b.events = append(b.events, event{packet: ordinal, next: noEntry, verdict: v, host: host})
	b.bound += 4 + idLen(v.Proto) + idLen(v.App) // the host name is counted by note
	return int32(len(b.events) - 1)
}

// idLen is how many bytes a protocol takes in an event; below 2^14, as all are.
func idLen(id l7.ID) int {
	switch {
	case id == 0:
		return 0
	case id < 128:
		return 1
	}
	return 2
}

// index puts the keys of a packet into the index, unless packets of its entry with the same link header have put them there.
func (b *Builder) index(e *entry, p *packet.Packet, m *pipeline.Meta) {
	plain := m.Flow != nil && p.Tunnel == packet.NoTunnel && p.Layers&(packet.Ethernet|packet.Fragment|packet.LLC) == packet.Ethernet && p.Labels == 0 && p.VLANs < 2
	if !plain {
		b.scratch = filter.AppendKeys(b.scratch[:0], p, l7.Verdict{})
		b.addKeys()
		return
	}
	// The same for both directions, which have the same addresses.
	dst, src := p.DstMAC()*0x9e3779b97f4a7c15, p.SrcMAC()*0x9e3779b97f4a7c15
	h := (dst ^ dst>>32) + (src ^ src>>32) + uint64(p.Iface)*0xbf58476d1ce4e5b9 + uint64(p.EtherType)
	if p.VLANs != 0 {
		h += uint64(p.TCI(0)) * 0x94d049bb133111eb
	}
	if h == 0 || h != e.l2[0] && h != e.l2[1] {
		e.l2[1], e.l2[0] = e.l2[0], h
		b.scratch = filter.AppendKeys(b.scratch[:0], p, l7.Verdict{})
		b.addKeys()
	}
}

// addKeys adds the keys in scratch.
func (b *Builder) addKeys() {
	for _, k := range b.scratch {
		k := uint64(k)
		h := Hash(k)
		at := b.set.First(h)
		for b.set.At[at] != 0 && b.set.At[at] != k {
			at = (at + 1) & (len(b.set.At) - 1)
		}
		if b.set.At[at] == k {
			continue
		}
		b.bloom.addHash(h)
		if len(b.Image.Keys) == MaxKeys {
			b.Header.Flags |= FlagPartial
			continue
		}
		b.set.At[at] = k
		b.Image.Keys = append(b.Image.Keys, k)
		if b.set.Full(len(b.Image.Keys)) {
			b.set.Grow()
			for _, k := range b.Image.Keys {
				b.set.Put(Hash(k), k)
			}
		}
	}
}

// Finish completes img with the flow table: the image that is being built, or another one for a copy of it as far as it is.
func (b *Builder) Finish(img *Image) {
	if img != b.Image {
		copy(img.Buf, b.buf[:b.pos])
		copy(img.Buf[trailerAt:Size], b.buf[trailerAt:Size])
	}
	b.stream = b.appendFlows(b.stream[:0])
	h := b.Header
	h.DataEnd = uint32(b.pos)
	h.Entries = uint32(len(b.entries))
	h.FlowsEnd = uint32(len(appendLocal(img.Buf[:b.pos], typeFlows, b.stream)))
	img.Header = h
	img.Sum = b.Sum
	img.goOn(img.Buf, int(h.FlowsEnd))
}
