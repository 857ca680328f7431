package block

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"sync"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// A Reader is a block that is being read: all of it, or some chunks and what belongs to them.
type Reader struct {
	Buf    []byte // of Size bytes, where there is anything but what is read
	Header Header
	Chunks Chunks // All for a whole block
	Flows  FlowTable
	table  chunkTable // of one that is not whole

	NoFlows bool // what is known of flows is not wanted, but for later fragments
	Bare    bool // the flow table is not in Buf, since Part was not to have it there
}

// A Walker goes through the packets of a block and completes what the flow table says about each.
type Walker struct {
	b       []byte // what is left of the chunks at hand
	end     int    // ordinal behind them
	left    Chunks // the others
	head    head
	read    bool // the flow table, though it is not wanted
	Block   *Reader
	Ordinal int

	Packet *packet.Packet // where the next packet goes; own unless the caller has a place for it
	own    packet.Packet
	inner  packet.Packet // innermost headers of a tunnelled packet
	Ref    flow.Ref      // nothing without a flow table
	Entry  *Entry        // likewise
	Untold bool          // the packet is a later fragment, and what the first one told is in the flow table, which is not in Block.Buf
}

var errData = errors.New("its packets make no sense")

// Next goes on to the next packet; false at the end of the block.
func (w *Walker) Next() (bool, error) {
	for {
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
		if w.Ordinal != w.end {
			return false, errData
		}
		if w.left == 0 {
			return false, nil
		}
		w.run()
	}
}

// run goes on to the next chunks that lie in a row.
func (w *Walker) run() {
	from, to := w.left.Run()
	t := &w.Block.table
	w.left &^= Between(from, to)
	w.b, w.Ordinal, w.end = w.Block.Buf[t.at[from]:t.at[to]], int(t.nth[from]), int(t.nth[to])
}

// enhanced reads an enhanced packet block, as pcapng.AppendPacket writes it.
func (w *Walker) enhanced(b []byte) error {
	if len(b) < 32 || w.Ordinal >= w.end {
		return errData
	}
	iface, captured := le.Uint32(b[8:]), int(le.Uint32(b[20:]))
	end := 28 + (captured+3)&^3
	if captured > len(b) || end > len(b)-4 || int(iface) >= len(w.head.links) {
		return errData
	}
	p := w.Packet
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
	p.Decode(w.head.links[iface])
	w.Untold = false
	if !w.Block.NoFlows || p.Layers&packet.LaterFragment != 0 {
		if err := w.know(); err != nil {
			return err
		}
	}
	w.Ordinal++
	return nil
}

// know looks into the flow table. Where that is not wanted it only completes a later fragment.
func (w *Walker) know() error {
	v := w.Block
	if v.NoFlows && !w.read {
		if w.Untold = v.Bare; w.Untold {
			return nil
		}
		if err := v.Flows.Read(v.Buf, &v.Header); err != nil {
			return err
		}
		w.read = true
	}
	w.Entry = v.Flows.entry(int(v.Flows.of[w.Ordinal]))
	w.refer()
	if v.NoFlows {
		w.Ref, w.Entry = flow.Ref{}, nil
	}
	return nil
}

// refer makes the reference to the flow of the packet.
func (w *Walker) refer() {
	e := w.Entry
	w.Ref = flow.Ref{}
	if e.flags&entryFlow == 0 {
		return
	}
	p, outer := w.Packet, w.Block.Flows.entry(int(e.outer))
	if !e.keyed {
		e.take(p)
	}
	w.Ref.Flow, w.Ref.Outer = &e.record, &outer.record
	if p.Layers&packet.LaterFragment != 0 {
		lend(p, &outer.record)
	}
	w.Ref.OuterFrom = sender(&outer.record, p)
	w.Ref.From = w.Ref.OuterFrom
	if outer != e && p.Tunnel != packet.NoTunnel {
		w.Ref.From = sender(&e.record, w.innermost())
	}
}

// innermost decodes what is inside the packet.
func (w *Walker) innermost() *packet.Packet {
	w.inner = *w.Packet
	found := w.Packet
	for at := *w.Packet; at.Inner(&at); {
		if at.Layers&packet.IP != 0 {
			w.inner = at
			found = &w.inner
		}
	}
	return found
}

// take takes the key of a flow from one of its packets.
func (e *Entry) take(p *packet.Packet) {
	r := &e.record
	e.keyed = true
	r.Proto = p.Proto
	src, dst, ok := addressesOf(p, r)
	if !ok {
		return
	}
	var sport, dport uint16
	if p.Ports() {
		sport, dport = p.SrcPort, p.DstPort
	}
	from := 0
	if c := bytes.Compare(src, dst); (c < 0 || c == 0 && sport < dport) == (e.flags&entryLower1 != 0) {
		from = 1
	}
	copy(r.Addr[from][:], src)
	copy(r.Addr[1-from][:], dst)
	r.Port[from], r.Port[1-from] = sport, dport
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

// A Tables knows the interfaces of the blocks of a ring. Most blocks begin with the same bytes.
type Tables struct {
	mu    sync.Mutex
	heads map[string]head
	all   []pipeline.Interface // by port id - 1, as the newest block describes them
	met   []pipeline.Interface // each one, in the order in which they were met: a port id may have been another interface before
	seq   uint64               // of the newest block
}

// A head is what a block's beginning says of its interfaces.
type head struct {
	links []packet.LinkType
	met   []uint16 // parallel: index in Tables.met
}

var errHead = errors.New("its interfaces make no sense")

// head returns what a block says of its interfaces.
func (t *Tables) head(b []byte, h *Header) (head, error) {
	text := b[:h.DataStart]
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.heads[string(text)]
	if !ok {
		list, err := pcapng.InterfacesOf(text)
		if err != nil {
			return head{}, errHead
		}
		known = t.describe(list, h.Seq)
		if t.heads == nil {
			t.heads = make(map[string]head)
		}
		if len(t.heads) > 1024 {
			clear(t.heads)
		}
		t.heads[string(text)] = known
	}
	return known, nil
}

// describe takes over the interfaces of a block, those that are known if none of a newer block was.
func (t *Tables) describe(list []pcapng.Interface, seq uint64) (h head) {
	newer := seq >= t.seq
	all, met := slices.Clone(t.all), slices.Clone(t.met)
	for i, in := range list {
		p := pipeline.Interface{Port: i + 1, Name: in.Name, Description: in.Description, Link: in.Link, SpeedBits: in.SpeedBits, MAC: in.MAC}
		switch {
		case i >= len(all):
			all = append(all, p)
		case newer:
			all[i] = p
		}
		at := slices.IndexFunc(met, func(m pipeline.Interface) bool {
			return m.Port == p.Port && m.Name == p.Name && m.Link == p.Link && m.MAC == p.MAC
		})
		switch {
		case at < 0:
			at, met = len(met), append(met, p)
		case newer:
			met[at] = p
		}
		h.links, h.met = append(h.links, in.Link), append(h.met, uint16(at))
	}
	t.all, t.met, t.seq = all, met, max(t.seq, seq)
	return h
}

// Ports returns the newest description of each port that was met, by port id - 1, as it is in packets.
func (t *Tables) Ports() []pipeline.Interface {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all
}

// Met returns each interface that was met, as Walker.Met has them: one more where a port id has become another interface.
func (t *Tables) Met() []pipeline.Interface {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.met
}

// Met returns the index in Tables.Met of the interface that had received a packet.
func (w *Walker) Met(p *packet.Packet) uint16 { return w.head.met[p.Iface] }

// Walk begins to go through a block.
func (v *Reader) Walk(t *Tables) (*Walker, error) {
	head, err := t.head(v.Buf, &v.Header)
	if err != nil {
		return nil, err
	}
	w := &Walker{head: head, Block: v, left: v.Chunks}
	packets := int(v.Header.Packets)
	if v.Chunks == All {
		w.b, w.end, w.left = v.Buf[v.Header.DataStart:v.Header.DataEnd], packets, 0
	} else {
		packets = int(v.table.nth[v.Chunks.end()])
	}
	w.Packet = &w.own
	if v.NoFlows {
		return w, nil
	}
	return w, v.Flows.readUpTo(v.Buf, &v.Header, packets)
}

// Keys goes through the packets of a block and returns their keys, and for each the chunks with packets that have it, or whose flow has it.
func (w *Walker) Keys(h *Header) (map[filter.Key]Chunks, error) {
	keys, of := make(map[filter.Key]Chunks), make(map[*Entry]Chunks)
	var list []filter.Key
	first, last, bytes := int64(math.MaxInt64), int64(math.MinInt64), uint32(0)
	for {
		here := chunkOf(int(h.DataEnd) - len(w.b))
		more, err := w.Next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		first, last, bytes = min(first, w.Packet.Time), max(last, w.Packet.Time), bytes+uint32(len(w.Packet.Data))
		list = filter.AppendKeys(list[:0], w.Packet, l7.Verdict{})
		for _, k := range list {
			keys[k] |= here
		}
		of[w.Entry] |= here
		of[w.Block.Flows.entry(int(w.Entry.outer))] |= here
	}
	for e, chunks := range of {
		list = list[:0]
		for _, ev := range e.Events {
			list = filter.AppendVerdictKeys(list, ev.Verdict)
		}
		if e.flags&entryKey != 0 {
			list = filter.AppendFlowKeys(list, &e.record)
		}
		for _, k := range list {
			keys[k] |= chunks
		}
	}
	if h.Packets > 0 && (first != h.First || last != h.Last || bytes != h.Bytes) {
		return nil, errors.New("its header does not say what is in it")
	}
	return keys, nil
}
