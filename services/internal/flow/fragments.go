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

// A Joiner tells later fragments what the first one of their datagram said, and looks into tunnels for that. It is what a Table does with the fragments, without flows:
// for who wants to know of no flow, at a tenth of the time.
type Joiner struct {
	seed   seed
	frags  fragments
	life   int64                   // ns that a first fragment is remembered
	levels [maxDepth]packet.Packet // what is inside the frame of the last packet that descend was given, outermost first
	depth  int                     // how many of them were decoded
}

// NewJoiner makes a Joiner that remembers as much as a Table with the same Config.
func NewJoiner(cfg Config) *Joiner {
	j := newJoiner(cfg.withDefaults())
	return &j
}

func newJoiner(cfg Config) Joiner {
	return Joiner{seed: newSeed(), frags: newFragments(cfg.Fragments), life: int64(cfg.Datagram)}
}

// Join takes the next packet, which was decoded, and fills in of a later fragment what Table.Find does.
func (j *Joiner) Join(p *packet.Packet) {
	if p.Layers&(packet.Tunnel|packet.Fragment) == 0 {
		return
	}
	q := j.descend(p)
	j.recall(q)
	j.remember(p, q, &Ref{})
}

// descend decodes what is inside p, level by level, and returns the innermost packet that has IP; p itself if there is none.
func (j *Joiner) descend(p *packet.Packet) *packet.Packet {
	j.depth = 0
	if p.Tunnel == packet.PseudoWire && p.Layers&packet.IP != 0 { // its IP header is the one inside
		return p
	}
	found := p
	for at := p; j.depth < maxDepth && at.Inner(&j.levels[j.depth]); j.depth++ {
		at = &j.levels[j.depth]
		if at.Layers&packet.IP != 0 {
			found = at
		}
	}
	return found
}

// recall fills in what the first fragment of p's datagram told; nil if p is no later fragment or the first one is not known. A header that is cut off
// may say that it is a fragment's, and not whose.
func (j *Joiner) recall(p *packet.Packet) *note {
	if p.Layers&packet.LaterFragment == 0 || p.Layers&packet.IP == 0 {
		return nil
	}
	datagram := j.seed.datagram(p)
	set := j.frags.set(datagram)
	for i := range set {
		n := &set[i]
		if n.datagram != datagram || p.Time-n.time > j.life {
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
func (j *Joiner) remember(p, q *packet.Packet, ref *Ref) {
	j.note(p, q, ref)
	for i := range j.depth {
		j.note(&j.levels[i], q, ref)
	}
}

func (j *Joiner) note(p, q *packet.Packet, ref *Ref) {
	if p.Layers&(packet.Fragment|packet.LaterFragment) != packet.Fragment || p.Layers&packet.IP == 0 {
		return
	}
	n := note{
		datagram: j.seed.datagram(p),
		time:     p.Time,
		layers:   p.Layers & (packet.TCP | packet.UDP | packet.SCTP),
		src:      p.SrcPort,
		dst:      p.DstPort,
		proto:    p.Proto,
	}
	if p != q && ref.Flow != nil {
		n.id, n.flow, n.from = ref.Flow.ID, ref.Flow.number, ref.From
	}
	set := j.frags.set(n.datagram)
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
