package flow

import (
	"encoding/binary"

	"galvo/services/internal/packet"
)

// Find finds or makes the flow of p, which was decoded, and counts p in it. For a tunnelled packet it does so for the outermost and for the
// innermost headers. For a later fragment it fills in Proto, the ports and the layer that has them from the datagram's first fragment; other
// facts of layer 4 stay unknown there.
func (t *Table) Find(p *packet.Packet) (ref Ref) {
	t.FindInto(&ref, p)
	return ref
}

// FindInto is Find with the result in place: copying a Ref right after it was written costs a tenth of reading a savefile.
func (t *Table) FindInto(ref *Ref, p *packet.Packet) {
	ref.Stream, ref.Call, ref.Host = nil, nil, nil
	if p.Layers&(packet.Tunnel|packet.Fragment) != 0 {
		t.findDeep(ref, p)
		return
	}
	if t.cfg.Only != nil && !t.cfg.Only(p) {
		ref.set(nil, 0)
		return
	}
	r, from := t.find(p)
	t.give(ref, r, from, p)
}

// FindAhead finds packet i of those that were announced with Ahead, Lead times Advance ago, as FindInto does, but leaves Stream, Call and Host of one whose flow
// matters as they are: they are for others to fill in, who mostly are not there. Packets are found in their order.
func (t *Table) FindAhead(i int, ref *Ref) {
	if t.found.busy>>i&1 != 0 {
		t.findAhead(i, ref)
	} else {
		*ref = Ref{}
	}
}

// findAhead is FindAhead for a packet whose flow matters.
func (t *Table) findAhead(i int, ref *Ref) {
	i &= AheadMax - 1
	run := t.found
	p, pr := &run.packets[i], &run.probes[i]
	guess := run.guesses[i]
	if pr.plain && guess != 0 { // most packets are that: what follows does the same, and decides more
		r := &t.records[guess-1]
		from, ok := Endpoint(0), false
		if pr.kind&v6 == 0 && pr.kind == r.kind() {
			from, ok = direction(pr.compare4(r))
		} else {
			from, ok = pr.match(r)
		}
		if ok && p.Time-r.Last <= t.patient {
			ref.set(r, from)
			r.Flags &^= Outside
			r.count(from&1, p.Time, p.Len, t.batch)
			return
		}
	}
	if p.Layers&(packet.Tunnel|packet.Fragment) != 0 {
		t.findDeep(ref, p)
		return
	}
	h := run.hashes[i]
	if h == 0 {
		ref.set(nil, 0)
		return
	}
	r, from := t.settle(pr, p, h, guess)
	t.give(ref, r, from, p)
}

// give counts p, which is neither tunnelled nor a fragment, in its flow, and says which one that is.
func (t *Table) give(ref *Ref, r *Record, from Endpoint, p *packet.Packet) {
	ref.set(r, from)
	if r == nil {
		return
	}
	r.Flags &^= Outside
	t.add(r, from, p, p.Len)
}

func (ref *Ref) set(r *Record, from Endpoint) {
	ref.Flow, ref.Outer, ref.From, ref.OuterFrom = r, r, from, from
}

// Innermost returns the packet whose headers are those of Ref.Flow for p, which was the last one that was found: p itself unless that is tunnelled. Valid until the
// next packet is found.
func (t *Table) Innermost(p *packet.Packet) *packet.Packet {
	if p.Layers&packet.Tunnel == 0 {
		return p
	}
	return t.inner
}

// findDeep is Find for tunnels and fragments.
func (t *Table) findDeep(ref *Ref, p *packet.Packet) {
	q := t.join.descend(p)
	t.inner = q
	n := t.join.recall(q)
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
	t.join.remember(p, q, ref)
}

// find returns the record of the headers of p, made if need be, and the sender within it; nil if they name no flow or there is no room.
func (t *Table) find(p *packet.Packet) (*Record, Endpoint) {
	var pr probe
	h := pr.set(&t.join.seed, p)
	return t.settle(&pr, p, h, 0)
}

// settle is find for a packet with a probe, the hash of its key, which may be 0, and a guess. The tables may have changed since these were made.
func (t *Table) settle(pr *probe, p *packet.Packet, h uint64, guess uint32) (*Record, Endpoint) {
	if h == 0 {
		return nil, 0
	}
	r, from, ok := (*Record)(nil), Endpoint(0), false
	if guess != 0 {
		r = &t.records[guess-1]
		from, ok = pr.match(r)
	}
	if !ok {
		if r, from = t.lookup(pr, h); r == nil {
			return t.make(&pr.key, h, p), 0
		}
	}
	if p.Time-r.Last <= t.patient && p.TCPBits&syn == 0 || !t.over(r, p) {
		return r, from
	}
	t.end(r.number)
	t.free.put(r.number)
	return t.make(&pr.key, h, p), 0
}

// lookup returns the record in the table that matches, or nil.
func (t *Table) lookup(pr *probe, h uint64) (*Record, Endpoint) {
	tag := tagOf(h)
	for _, at := range [2]int{t.first(h), t.second(h)} {
		b := &t.index[at]
		for m := b.candidates(tag); m != 0; m &= m - 1 {
			r := &t.records[b.record(m)-1]
			if from, ok := pr.match(r); ok {
				return r, from
			}
		}
	}
	return nil, 0
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
	r.count(from&1, p.Time, wire, t.batch)
	if p.TCPBits&(syn|fin|rst) != 0 {
		r.turn(from&1, p)
	}
}

func (r *Record) count(from Endpoint, now int64, wire uint32, batch uint16) {
	r.batch = batch
	r.Last = max(r.Last, now)
	if n := r.Packets[from] + 1; n != 0 {
		r.Packets[from] = n
	}
	n := r.low[from] + wire
	r.low[from] = n
	if n < wire {
		r.high[from]++
	}
}

// turn notes how p opens or ends a TCP connection.
func (r *Record) turn(from Endpoint, p *packet.Packet) {
	if p.TCPBits&(syn|ack) == syn && r.Flags&opened == 0 {
		r.Flags |= opened
		r.isn = sequence(p)
	}
	if p.TCPBits&fin != 0 {
		r.Flags |= fin0 << from
	}
	if p.TCPBits&rst != 0 || r.Flags&(fin0|fin1) == fin0|fin1 {
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
func (t *Table) make(k *key, h uint64, p *packet.Packet) *Record {
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
		t.records[i].Flags |= Ended
		t.free.put(i)
		return nil
	}
	r := &t.records[i]
	*r = Record{} // and then field by field: a literal is put together on the stack and copied in larger pieces than it was written in, which stalls
	r.ID, r.number, r.First, r.Last, r.Flags, r.batch = t.count.Created+1, i, p.Time, p.Time, Outside, t.batch
	k.store(r)
	if serverIsReceiver(k, p) {
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

// evictable reports whether r may end now. That the batch's number has few bits protects a record that was last used 65,536 batches ago for one batch more.
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

// place puts a slot into one of its two buckets, if need be by moving another slot to that one's other bucket. It reports whether there was room:
// with four flows for a bucket there nearly always is, while without moving one in a hundred finds none.
func (t *Table) place(h, slot uint64) bool {
	tag := tagOf(h)
	both := [2]int{t.first(h), t.second(h)}
	for _, at := range both {
		if t.index[at].add(slot, tag) {
			return true
		}
	}
	for _, at := range both {
		b := &t.index[at]
		for i := 1; i < len(b); i++ {
			other := t.first(b[i])
			if other == at {
				other = t.second(b[i])
			}
			if t.index[other].add(b[i], b.tag(i)) {
				b.set(i, slot, tag)
				return true
			}
		}
	}
	return false
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
	return port < 1024 && port != 0 || registered[port>>6]>>(port&63)&1 != 0
}

// registered has a bit for each common registered port. Each new flow asks for one or two, and to search a list takes as long as the rest of making it.
var registered = func() (set [1 << 10]uint64) {
	for _, port := range serverPorts {
		set[port>>6] |= 1 << (port & 63)
	}
	return set
}()

var serverPorts = [...]uint16{
	1080, 1194, 1433, 1521, 1701, 1723, 1812, 1813, 1883, 1900, 1935, 2049, 2055, 2123, 2152, 2404, 2575, 3128, 3260, 3268, 3306, 3389,
	3478, 3544, 4500, 4739, 4789, 4840, 5000, 5004, 5060, 5061, 5222, 5223, 5269, 5353, 5355, 5432, 5555, 5672, 5683, 5684, 5900, 5985,
	6081, 6343, 6379, 6443, 6653, 6667, 8000, 8008, 8080, 8081, 8086, 8088, 8443, 8472, 8883, 8888, 9000, 9042, 9090, 9092, 9100, 9200,
	9418, 9995, 9996, 11211, 20000, 27017, 34962, 34963, 34964, 44818, 47808, 51820, 64738,
}
