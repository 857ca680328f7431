package ring

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"sync"

	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// A view is a block that is being looked at: what a query or a Source found in it.
type view struct {
	buf     []byte
	h       header
	flows   flowTable
	packets []packet.Packet // what the query wants of it
	meta    []pipeline.Meta // parallel
	next    int             // first one not delivered
	owned   bool            // buf is one of Ring.buffers
	free    bool            // it is no block and has no token
	looked  uint32          // packets that were looked at
	passed  []uint32        // parallel: of these, how many were not wanted before the packet and after the one before it
	rest    uint32          // and after the last one
}

// A walker goes through the packets of a block and completes what the flow table says about each.
type walker struct {
	b       []byte // what is left
	links   []packet.LinkType
	v       *view
	ordinal int

	p     *packet.Packet // where the next packet goes; own unless the caller has a place for it
	own   packet.Packet
	inner packet.Packet // innermost headers of a tunnelled packet
	ref   flow.Ref
	entry *tableEntry
}

var errData = errors.New("its packets make no sense")

// next goes on to the next packet; false at the end of the block.
func (w *walker) next() (bool, error) {
	for len(w.b) >= 12 {
		kind, size := le.Uint32(w.b), int(le.Uint32(w.b[4:]))
		if size < 12 || size > len(w.b) || size&3 != 0 {
			return false, errData
		}
		block := w.b[:size]
		w.b = w.b[size:]
		if kind != 6 {
			continue
		}
		return true, w.enhanced(block)
	}
	if w.ordinal != int(w.v.h.packets) {
		return false, errData
	}
	return false, nil
}

// enhanced reads an enhanced packet block, as pcapng.AppendPacket writes it.
func (w *walker) enhanced(b []byte) error {
	if len(b) < 32 || w.ordinal >= len(w.v.flows.of) {
		return errData
	}
	iface, captured := le.Uint32(b[8:]), int(le.Uint32(b[20:]))
	end := 28 + (captured+3)&^3
	if captured > len(b) || end > len(b)-4 || int(iface) >= len(w.links) {
		return errData
	}
	p := w.p
	p.Frame = packet.Frame{
		Data: b[28 : 28+captured : 28+captured], Len: le.Uint32(b[24:]), Iface: uint16(iface),
		Time: int64(uint64(le.Uint32(b[12:]))<<32 | uint64(le.Uint32(b[16:]))),
	}
	if len(b)-4-end >= 8 && le.Uint16(b[end:]) == 2 {
		p.Flags = packet.Flags(b[end+4]) & packet.DirMask
		if b[end+7]&1 != 0 {
			p.Flags |= packet.FCSBad
		}
	}
	p.Decode(w.links[iface])
	w.entry = &w.v.flows.entries[w.v.flows.of[w.ordinal]]
	w.refer()
	w.ordinal++
	return nil
}

// refer makes the reference to the flow of the packet.
func (w *walker) refer() {
	e := w.entry
	w.ref = flow.Ref{}
	if e.flags&entryFlow == 0 {
		return
	}
	p, outer := w.p, &w.v.flows.entries[e.outer]
	if !e.keyed {
		e.take(p)
	}
	w.ref.Flow, w.ref.Outer = &e.record, &outer.record
	if p.Layers&packet.LaterFragment != 0 {
		lend(p, &outer.record)
	}
	w.ref.OuterFrom = sender(&outer.record, p)
	w.ref.From = w.ref.OuterFrom
	if outer != e && p.Tunnel != packet.NoTunnel {
		w.ref.From = sender(&e.record, w.innermost())
	}
}

// innermost decodes what is inside the packet.
func (w *walker) innermost() *packet.Packet {
	w.inner = *w.p
	found := w.p
	for at := *w.p; at.Inner(&at); {
		if at.Layers&packet.IP != 0 {
			w.inner = at
			found = &w.inner
		}
	}
	return found
}

// take takes the key of a flow from its first packet in the block.
func (e *tableEntry) take(p *packet.Packet) {
	r := &e.record
	e.keyed = true
	r.Proto = p.Proto
	src, dst, ok := addressesOf(p, r)
	if !ok {
		return
	}
	from := 0
	if e.flags&entryFrom1 != 0 {
		from = 1
	}
	copy(r.Addr[from][:], src)
	copy(r.Addr[1-from][:], dst)
	if p.Ports() {
		r.Port[from], r.Port[1-from] = p.SrcPort, p.DstPort
	}
}

// addressesOf returns the addresses of the IP header, and notes the version in r.
func addressesOf(p *packet.Packet, r *flow.Record) (src, dst []byte, ok bool) {
	at := int(p.L3)
	switch {
	case p.Layers&packet.IPv4 != 0:
		return p.Data[at+12 : at+16], p.Data[at+16 : at+20], true
	case p.Layers&packet.IPv6 != 0:
		r.Flags |= flow.V6
		return p.Data[at+8 : at+24], p.Data[at+24 : at+40], true
	}
	return nil, nil, false
}

// sender returns the endpoint that sent a packet of a flow.
func sender(r *flow.Record, p *packet.Packet) flow.Endpoint {
	var none flow.Record
	src, dst, ok := addressesOf(p, &none)
	if !ok {
		return 0
	}
	forth := bytes.Equal(src, r.Addr[0][:len(src)]) && bytes.Equal(dst, r.Addr[1][:len(dst)]) && (!p.Ports() || p.SrcPort == r.Port[0] && p.DstPort == r.Port[1])
	if forth {
		return 0
	}
	return 1
}

// lend gives a later fragment what the first one told: its ports, and the protocol behind extension headers.
func lend(p *packet.Packet, r *flow.Record) {
	var none flow.Record
	src, _, ok := addressesOf(p, &none)
	if !ok {
		return
	}
	from := 0
	if !bytes.Equal(src, r.Addr[0][:len(src)]) {
		from = 1
	}
	p.Proto = r.Proto
	p.Layers |= packet.HasProto
	switch r.Proto {
	case 6:
		p.Layers |= packet.TCP
	case 17:
		p.Layers |= packet.UDP
	case 132:
		p.Layers |= packet.SCTP
	default:
		return
	}
	p.SrcPort, p.DstPort = r.Port[from], r.Port[1-from]
}

// A tables knows the interfaces of the blocks of a ring. Most blocks begin with the same bytes.
type tables struct {
	mu    sync.Mutex
	heads map[string][]packet.LinkType
	all   []pipeline.Interface // by index, as the newest block describes them
	seq   uint64               // of that block
}

var errHead = errors.New("its interfaces make no sense")

// links returns the link types of the interfaces of a block.
func (t *tables) links(b []byte, h *header) ([]packet.LinkType, error) {
	head := b[:h.dataStart]
	t.mu.Lock()
	defer t.mu.Unlock()
	links, ok := t.heads[string(head)]
	if !ok {
		r, err := pcapng.NewReader(bytes.NewReader(head))
		if err != nil {
			return nil, errHead
		}
		for _, in := range r.Interfaces() {
			links = append(links, in.Link)
		}
		if t.heads == nil {
			t.heads = make(map[string][]packet.LinkType)
		}
		if len(t.heads) > 1024 {
			clear(t.heads)
		}
		t.heads[string(head)] = links
		t.describe(r.Interfaces(), h.seq)
	}
	return links, nil
}

// describe takes over the interfaces of a block, if none of a newer block is known.
func (t *tables) describe(list []pcapng.Interface, seq uint64) {
	newer := seq >= t.seq
	all := slices.Clone(t.all)
	for i, in := range list {
		p := pipeline.Interface{Port: i + 1, Name: in.Name, Description: in.Description, Link: in.Link, SpeedBits: in.SpeedBits, MAC: in.MAC}
		switch {
		case i >= len(all):
			all = append(all, p)
		case newer:
			all[i] = p
		}
	}
	t.all, t.seq = all, max(t.seq, seq)
}

func (t *tables) interfaces() []pipeline.Interface {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all
}

// walk begins to go through a block.
func (v *view) walk(t *tables) (*walker, error) {
	links, err := t.links(v.buf, &v.h)
	if err != nil {
		return nil, err
	}
	if err := v.flows.read(v.buf, &v.h); err != nil {
		return nil, err
	}
	w := &walker{b: v.buf[v.h.dataStart:v.h.dataEnd], links: links, v: v}
	w.p = &w.own
	return w, nil
}

// order makes the packets rise in time, where they do not.
func (v *view) order() {
	if v.h.flags&flagUnsorted == 0 {
		return
	}
	at := make([]int, len(v.packets))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return int(min(max(v.packets[a].Time-v.packets[b].Time, -1), 1)) })
	packets, meta := slices.Clone(v.packets), slices.Clone(v.meta)
	for i, j := range at { // passed stays: what was not wanted is spread over the block as it was
		v.packets[i], v.meta[i] = packets[j], meta[j]
	}
}

// time returns the time of the next packet.
func (v *view) time() int64 {
	if v.next == len(v.packets) {
		return math.MaxInt64
	}
	return v.packets[v.next].Time
}
