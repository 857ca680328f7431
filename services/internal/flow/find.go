package flow

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"galvo/services/internal/packet"
)

// Find finds or makes the flow of p, which was decoded, and counts p in it. For a tunnelled packet it does so for the outermost and for the
// innermost headers. For a later fragment it fills in Proto, the ports and the layer that has them from the datagram's first fragment; other
// facts of layer 4 stay unknown there.
func (t *Table) Find(p *packet.Packet) Ref {
	t.inner = p
	if p.Layers&(packet.Tunnel|packet.Fragment) != 0 {
		return t.findDeep(p)
	}
	r, from := t.find(p)
	if r == nil {
		return Ref{}
	}
	r.Flags &^= Outside
	t.add(r, from, p, p.Len)
	return Ref{Flow: r, Outer: r, From: from, OuterFrom: from}
}

// Innermost returns the packet whose headers are those of Ref.Flow, as the last Find met it: the argument of Find itself unless that is
// tunnelled. Valid until the next Find.
func (t *Table) Innermost() *packet.Packet { return t.inner }

// findDeep is Find for tunnels and fragments.
func (t *Table) findDeep(p *packet.Packet) Ref {
	q := t.descend(p)
	t.inner = q
	n := t.recall(q)
	var ref Ref
	ref.Outer, ref.OuterFrom = t.find(p)
	ref.Flow, ref.From = ref.Outer, ref.OuterFrom
	switch {
	case q != p:
		ref.Flow, ref.From = t.find(q)
	case n != nil && n.tunnelled(t):
		ref.Flow, ref.From = &t.records[n.flow], n.from
	}
	if ref.Outer != nil && ref.Outer != ref.Flow {
		t.add(ref.Outer, ref.OuterFrom, p, p.Len)
	}
	if ref.Flow != nil {
		ref.Flow.Flags &^= Outside
		t.add(ref.Flow, ref.From, q, p.Len)
	}
	t.remember(p, q, ref)
	return ref
}

// descend decodes what is inside p, level by level, and returns the innermost packet that has IP; p itself if there is none.
func (t *Table) descend(p *packet.Packet) *packet.Packet {
	t.depth = 0
	found := p
	for at := p; t.depth < maxDepth && at.Inner(&t.levels[t.depth]); t.depth++ {
		at = &t.levels[t.depth]
		if at.Layers&packet.IP != 0 {
			found = at
		}
	}
	return found
}

// find returns the record of the headers of p, made if need be, and the sender within it; nil if they name no flow or there is no room.
//
// The key stays in registers and the sender is computed, not decided: a mispredicted branch costs as much as the rest. The tags of a
// bucket are compared at once for the same reason.
func (t *Table) find(p *packet.Packet) (*Record, Endpoint) {
	var src0, src1, dst0, dst1 uint64
	ports, kind := uint32(0), uint32(p.Proto)
	switch {
	case p.Layers&packet.IPv4 != 0:
		w := binary.LittleEndian.Uint64(p.Data[int(p.L3)+12:])
		src0, dst0 = w&math.MaxUint32, w>>32
	case p.Layers&packet.IPv6 != 0:
		h := p.Data[p.L3:][:40]
		kind |= v6
		src0, src1 = binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])
		dst0, dst1 = binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])
	default:
		return nil, 0
	}
	if hasPorts[p.Proto] {
		if !p.Ports() {
			return nil, 0
		}
		ports = uint32(p.SrcPort) | uint32(p.DstPort)<<16
	}
	back := ports<<16 | ports>>16
	h := t.seed.mix(src0, src1, dst0, dst1, ports, kind)
	tag := tagOf(h)
	b := &t.index[t.first(h)]
	for last := false; ; last = true {
		for m := b.candidates(tag); m != 0; m &= m - 1 {
			r := &t.records[uint32(b[(bits.TrailingZeros64(m)>>3+1)&7])-1]
			a0, a1 := binary.LittleEndian.Uint64(r.Addr[0][:8]), binary.LittleEndian.Uint64(r.Addr[0][8:])
			b0, b1 := binary.LittleEndian.Uint64(r.Addr[1][:8]), binary.LittleEndian.Uint64(r.Addr[1][8:])
			other := uint64(r.kind() ^ kind)
			forth := a0 ^ src0 | a1 ^ src1 | b0 ^ dst0 | b1 ^ dst1 | uint64(r.ports()^ports) | other
			reply := a0 ^ dst0 | a1 ^ dst1 | b0 ^ src0 | b1 ^ src1 | uint64(r.ports()^back) | other
			if min(forth, reply) != 0 {
				continue
			}
			from := Endpoint(0)
			if forth != 0 {
				from = 1
			}
			if p.Time-r.Last <= t.patient && p.TCPBits&syn == 0 || !t.over(r, p) {
				return r, from
			}
			t.end(r.number)
			t.free.put(r.number)
			return t.make(key{src0, src1, dst0, dst1, ports, kind}, h, p), 0
		}
		if last {
			return t.make(key{src0, src1, dst0, dst1, ports, kind}, h, p), 0
		}
		b = &t.index[t.second(h)]
	}
}

// over reports whether r has ended before p, which has its 5-tuple.
func (t *Table) over(r *Record, p *packet.Packet) bool {
	switch {
	case t.idle(r, p.Time):
		t.count.Expired++
	case r.Proto == protoTCP && t.reopens(r, p):
		t.count.Reopened++
	default:
		return false
	}
	return true
}

// add counts a packet of wire bytes in its record.
func (t *Table) add(r *Record, from Endpoint, p *packet.Packet, wire uint32) {
	from &= 1
	r.batch = t.batch
	r.Last = max(r.Last, p.Time)
	if n := r.Packets[from] + 1; n != 0 {
		r.Packets[from] = n
	}
	r.Bytes[from] += uint64(wire)
	r.TCP[from] |= p.TCPBits
	if p.TCPBits&(syn|fin|rst) != 0 {
		r.turn(p)
	}
}

// turn notes how p opens or ends a TCP connection.
func (r *Record) turn(p *packet.Packet) {
	if p.TCPBits&(syn|ack) == syn && r.Flags&opened == 0 {
		r.Flags |= opened
		r.isn = sequence(p)
	}
	if p.TCPBits&rst != 0 || r.TCP[0]&r.TCP[1]&fin != 0 {
		r.Flags |= Finished
	}
}

const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// sequence returns the TCP sequence number of a packet whose flags are captured.
func sequence(p *packet.Packet) uint32 { return binary.BigEndian.Uint32(p.Data[p.L4+4:]) }

// reopens reports whether p opens the 5-tuple of r anew: a SYN with another sequence number than the one that opened r, when r is finished or
// was silent for a while. Otherwise it is a repetition, or lost its way.
func (t *Table) reopens(r *Record, p *packet.Packet) bool {
	if p.TCPBits&(syn|ack) != syn || r.Flags&opened != 0 && r.isn == sequence(p) {
		return false
	}
	return r.Flags&Finished != 0 || p.Time-r.Last > int64(t.cfg.IdleDone)
}

// sweep is how many records each new flow looks at to find idle ones, and window how many a full table looks at to find the one to
// evict: enough to meet an old one, few enough to be cheap.
const (
	sweep  = 2
	window = 16
)

// make begins a record with p's sender as endpoint 0; nil if there is no room.
func (t *Table) make(k key, h uint64, p *packet.Packet) *Record {
	t.Expire(p.Time, sweep)
	i, ok := t.free.take()
	if !ok {
		i, ok = t.evict()
	}
	if !ok {
		t.count.Untracked++
		return nil
	}
	if t.count.Active > t.mask*perBucket && t.mask+1 < len(t.index) {
		t.grow()
	}
	slot := h>>32<<32 | uint64(i+1)
	if !t.place(h, slot) && !t.squeeze(h, slot) {
		t.count.Untracked++
		t.free.put(i)
		return nil
	}
	r := &t.records[i]
	*r = Record{ID: t.count.Created + 1, number: i, First: p.Time, Last: p.Time, Flags: Outside, batch: t.batch}
	k.store(r)
	if serverIsReceiver(&k, p) {
		r.Flags |= Server1
	}
	t.count.Created++
	t.count.Active++
	return r
}

// evict ends the longest idle of the next records and returns it; the current batch's are left alone.
func (t *Table) evict() (i uint32, ok bool) {
	for range window {
		at := uint32(t.hand)
		t.hand = (t.hand + 1) % len(t.records)
		if r := &t.records[at]; t.evictable(r) && (!ok || r.Last < t.records[i].Last) {
			i, ok = at, true
		}
	}
	if ok {
		t.count.Evicted++
		t.end(i)
	}
	return i, ok
}

func (t *Table) evictable(r *Record) bool { return r.Flags&Ended == 0 && r.batch != t.batch }

// squeeze makes room for a slot whose two buckets are full.
func (t *Table) squeeze(h, slot uint64) bool {
	var oldest uint32
	found := false
	for _, at := range [2]int{t.first(h), t.second(h)} {
		for _, s := range t.index[at][1:] {
			i := uint32(s) - 1
			if r := &t.records[i]; t.evictable(r) && (!found || r.Last < t.records[oldest].Last) {
				oldest, found = i, true
			}
		}
	}
	if !found {
		return false
	}
	t.count.Evicted++
	t.end(oldest)
	t.free.put(oldest)
	return t.place(h, slot)
}

// place puts a slot into one of its two buckets if there is room.
func (t *Table) place(h, slot uint64) bool {
	tag := tagOf(h)
	return t.index[t.first(h)].add(slot, tag) || t.index[t.second(h)].add(slot, tag)
}

// serverIsReceiver decides the server side as Record.Server says.
func serverIsReceiver(k *key, p *packet.Packet) bool {
	if !hasPorts[p.Proto] {
		return true
	}
	if p.TCPBits&syn != 0 {
		return p.TCPBits&ack == 0
	}
	if s, d := wellKnown(k.sport()), wellKnown(k.dport()); s != d {
		return d
	}
	return p.Proto != protoTCP || k.sport() >= k.dport()
}

// wellKnown reports whether a port is one that servers listen on: a system port (RFC 6335), or one of the registered ports below.
func wellKnown(port uint16) bool {
	if port < 1024 {
		return port != 0
	}
	_, ok := slices.BinarySearch(serverPorts[:], port)
	return ok
}

// serverPorts are common registered ports, ascending.
var serverPorts = [...]uint16{
	1080, 1194, 1433, 1521, 1701, 1723, 1812, 1813, 1883, 1900, 1935, 2049, 2055, 2123, 2152, 2404, 2575, 3128, 3260, 3268, 3306, 3389,
	3478, 3544, 4500, 4739, 4789, 4840, 5000, 5004, 5060, 5061, 5222, 5223, 5269, 5353, 5355, 5432, 5555, 5672, 5683, 5684, 5900, 5985,
	6081, 6343, 6379, 6443, 6653, 6667, 8000, 8008, 8080, 8081, 8086, 8088, 8443, 8472, 8883, 8888, 9000, 9042, 9090, 9092, 9100, 9200,
	9418, 9995, 9996, 11211, 20000, 27017, 34962, 34963, 34964, 44818, 47808, 50000, 51820, 64738,
}
