package flow

import "galvo/services/internal/packet"

// A note is what a first fragment tells the later ones of its datagram.
type note struct {
	datagram uint64 // hash of addresses, protocol and identification; 0 = empty
	time     int64  // of the first fragment
	id       uint64 // of the record of the innermost headers if the first fragment is tunnelled; else 0
	flow     uint32 // number of that record
	layers   packet.Layers
	src, dst uint16
	proto    uint8
	from     Endpoint
}

// fragments is a set-associative store of notes: the oldest of a set makes room.
type fragments [][4]note

func newFragments(n int) fragments { return make(fragments, fragmentSets(n)) }

func fragmentSets(n int) int {
	sets := 1
	for sets*4 < n {
		sets *= 2
	}
	return sets
}

func (f fragments) set(datagram uint64) *[4]note {
	return &f[int(datagram>>8)&(len(f)-1)]
}

// recall fills in what the first fragment of p's datagram told; nil if p is no later fragment or the first one is not known. A header that is cut off
// may say that it is a fragment's, and not whose.
func (t *Table) recall(p *packet.Packet) *note {
	if p.Layers&packet.LaterFragment == 0 || p.Layers&packet.IP == 0 {
		return nil
	}
	datagram := t.seed.datagram(p)
	set := t.frags.set(datagram)
	for i := range set {
		n := &set[i]
		if n.datagram != datagram || p.Time-n.time > int64(t.cfg.Datagram) {
			continue
		}
		p.Layers |= n.layers
		p.SrcPort, p.DstPort, p.Proto = n.src, n.dst, n.proto
		return n
	}
	return nil
}

// tunnelled reports whether later fragments belong to another flow than their own headers name.
func (n *note) tunnelled(t *Table) bool {
	if n.id == 0 {
		return false
	}
	r := &t.records[n.flow]
	return r.ID == n.id && r.Flags&Ended == 0
}

// remember takes a note of each first fragment on the way from p to the innermost packet q.
func (t *Table) remember(p, q *packet.Packet, ref Ref) {
	t.note(p, q, ref)
	for i := range t.depth {
		t.note(&t.levels[i], q, ref)
	}
}

func (t *Table) note(p, q *packet.Packet, ref Ref) {
	if p.Layers&(packet.Fragment|packet.LaterFragment) != packet.Fragment || p.Layers&packet.IP == 0 {
		return
	}
	n := note{
		datagram: t.seed.datagram(p),
		time:     p.Time,
		layers:   p.Layers & (packet.TCP | packet.UDP | packet.SCTP),
		src:      p.SrcPort,
		dst:      p.DstPort,
		proto:    p.Proto,
	}
	if p != q && ref.Flow != nil {
		n.id, n.flow, n.from = ref.Flow.ID, ref.Flow.number, ref.From
	}
	set := t.frags.set(n.datagram)
	oldest := 0
	for i := range set {
		if set[i].datagram == n.datagram {
			oldest = i
			break
		}
		if set[i].time < set[oldest].time {
			oldest = i
		}
	}
	set[oldest] = n
}
