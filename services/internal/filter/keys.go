package filter

import (
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// A field is something of a packet that a Set looks up once for all its filters.
type field uint8

// The fields, the most selective first.
const (
	source4 field = iota // IPv4 address
	destination4
	host6source // IPv6 address, mixed into one word
	host6destination
	net6source // upper half of an IPv6 address
	net6destination
	sourceMAC
	destinationMAC
	sourcePort // TCP and UDP
	destinationPort
	tagID        // of any VLAN tag
	protocolName // of the verdict
	ipProtocol
	fields
)

// A guard is a range of values of a field.
type guard struct {
	field  field
	lo, hi uint64
}

// A keysFunc returns what a packet must have one of for == to hold, nothing if that cannot be said, and whether having one suffices.
type keysFunc func(s *set) (guards []guard, enough bool)

// guards returns what a packet must have one of for the tree to be anything but No, and whether having one makes it Yes.
func (n *node) guards(env *Env) ([]guard, bool) {
	switch n.op {
	case compare:
		o := n.cmp.operand
		if o.keys == nil || n.cmp.op == "!=" || !o.frame && env.Tunnels != OuterHeaders {
			return nil, false
		}
		guards, enough := o.keys(n.cmp.set)
		if portsDiffer := env.SCTP || env.Fragments != WholeDatagrams; portsDiffer && usesPorts(guards) {
			return nil, false
		}
		return guards, enough
	case and:
		var best []guard
		for _, k := range n.kids {
			if g, _ := k.guards(env); g != nil && (best == nil || breadth(g) < breadth(best)) {
				best = g
			}
		}
		return best, false
	case or:
		var every []guard
		enough := true
		for _, k := range n.kids {
			g, e := k.guards(env)
			if g == nil {
				return nil, false
			}
			every = append(every, g...)
			enough = enough && e
		}
		return every, enough
	}
	return nil, false
}

func usesPorts(guards []guard) bool {
	for _, g := range guards {
		if g.field == sourcePort || g.field == destinationPort {
			return true
		}
	}
	return false
}

// breadth orders guards by how many packets they let through, by rule of thumb: single values before ranges, addresses before protocols.
func breadth(guards []guard) int {
	most := 0
	for _, g := range guards {
		b := int(g.field)
		if g.lo != g.hi {
			b += int(fields)
		}
		most = max(most, b)
	}
	return most
}

func addressKeys(which sides) keysFunc {
	return func(s *set) (guards []guard, enough bool) {
		enough = true
		for _, a := range s.addresses {
			g, ok := a.guard()
			if !ok {
				return nil, false
			}
			enough = enough && !a.v6 && !a.hasPort
			if which&sourceSide != 0 {
				guards = append(guards, g)
			}
			if which&destinationSide != 0 {
				g.field++
				guards = append(guards, g)
			}
		}
		return guards, enough
	}
}

// guard returns the guard for the source side.
func (a *address) guard() (guard, bool) {
	switch {
	case !a.v6:
		rest := uint64(^uint32(a.maskLo))
		return guard{source4, a.lo, a.lo | rest}, rest&(rest+1) == 0
	case a.host:
		n := mix(a.hi, a.lo)
		return guard{host6source, n, n}, true
	}
	return guard{net6source, a.hi, a.hi | ^a.maskHi}, true
}

// mix makes one word of an IPv6 address; different addresses may get the same.
func mix(hi, lo uint64) uint64 { return hi*0x9e3779b97f4a7c15 ^ lo }

func macKeys(which sides) keysFunc {
	return func(s *set) (guards []guard, enough bool) {
		for _, m := range s.macs {
			hi := m.value | (1<<48-1)&^m.mask
			if which&sourceSide != 0 {
				guards = append(guards, guard{sourceMAC, m.value, hi})
			}
			if which&destinationSide != 0 {
				guards = append(guards, guard{destinationMAC, m.value, hi})
			}
		}
		return guards, true
	}
}

func portKeys(which sides) keysFunc {
	return func(s *set) (guards []guard, enough bool) {
		if which&sourceSide != 0 {
			guards = append(guards, s.guards(sourcePort)...)
		}
		if which&destinationSide != 0 {
			guards = append(guards, s.guards(destinationPort)...)
		}
		return guards, true
	}
}

func serverPortKeys(s *set) ([]guard, bool) {
	guards, _ := portKeys(eitherSide)(s)
	return guards, false
}

func anyTagKeys(s *set) ([]guard, bool) {
	if s.none {
		return nil, false
	}
	return s.guards(tagID), true
}

func someTagKeys(s *set) ([]guard, bool) {
	guards, _ := anyTagKeys(s)
	return guards, false
}

func protocolKeys(s *set) ([]guard, bool) { return s.guards(ipProtocol), true }

// guards is nil where no number is in the set; such a comparison is evaluated.
func (s *set) guards(f field) (guards []guard) {
	for _, r := range s.ranges {
		guards = append(guards, guard{f, uint64(r.lo), uint64(r.hi)})
	}
	return guards
}

// verdictKeys are the protocols that a name stands for: itself and what belongs to it. That the verdict is pending or unknown is looked up apart.
func verdictKeys(s *set) (guards []guard, enough bool) {
	for _, p := range protocol.Protocols() {
		for _, id := range s.protocols {
			if (l7.Verdict{Proto: p.ID}).Is(id) {
				guards = append(guards, guard{protocolName, uint64(p.ID), uint64(p.ID)})
			}
		}
	}
	if guards == nil {
		return nil, false
	}
	return guards, false
}
