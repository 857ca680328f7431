package filter

import (
	"slices"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// A Key is something of a packet that an index over blocks of packets remembers: its kind in the upper 8 bits, its value in the others.
// Keys of one kind sort by value. They are part of the ring's format (ring/FORMAT.md): a kind or a value must not change its meaning.
type Key uint64

// The kinds.
const (
	keyAddress4  Key = 1 + iota // IPv4 address: of the IP header, or of ARP
	keyAddress6                 // 32 bits of a hash of an IPv6 address
	keyNet6                     // upper 48 bits of an IPv6 address
	keyMAC                      // 48 bits
	keyPort                     // TCP, UDP, SCTP
	keyProto                    // IP protocol
	keyVLAN                     // id of any tag
	keyMPLS                     // any label
	keyLink                     // EtherType, or a row of linkProtocols that has none
	keyInterface                // port id
	keyVerdict                  // carrier or application; pendingVerdict and unknownVerdict
)

// Values of keyVerdict beside the protocol ids of package l7.
const (
	pendingVerdict = 1 << 20
	unknownVerdict = 1<<20 + 1
)

const keyBits = 56

// Kinds is how many kinds there may be.
const Kinds = 1 << (64 - keyBits)

// Kind returns the kind of a key.
func (k Key) Kind() Key { return k >> keyBits }

// Common reports whether keys of the kind are those of nearly all packets, such as the port that they came from: where in a block packets have them is not worth knowing.
func (k Key) Common() bool {
	kind := k.Kind()
	return kind == keyInterface || kind == keyLink || kind == keyProto
}

func newKey(kind Key, value uint64) Key { return kind<<keyBits | Key(value)&(1<<keyBits-1) }

// AppendKeys appends the keys of p, which was decoded, and of all that its tunnels carry; and those of the verdict of its flow. A key may come twice.
// It takes the ports of later fragments from p.
func AppendKeys(dst []Key, p *packet.Packet, v l7.Verdict) []Key {
	dst = AppendVerdictKeys(dst, v)
	dst = AppendTypeKeys(dst, p)
	dst = AppendNetworkKeys(AppendMACKeys(dst, p), p)
	if p.Layers&packet.Tunnel == 0 {
		return dst
	}
	q := levels.Get().(*[2]packet.Packet)
	q[0] = *p
	for q[0].Inner(&q[0]) {
		dst = appendProtocolKeys(dst, &q[0])
		dst = AppendNetworkKeys(AppendMACKeys(dst, &q[0]), &q[0])
	}
	levels.Put(q)
	return dst
}

// AppendTypeKeys appends the part of AppendKeys that says which kind of frame it is: its port and its link protocols. Where there are neither LLC, shims nor labels, they
// depend on the port, Layers, the EtherType and the tags' TPIDs.
func AppendTypeKeys(dst []Key, p *packet.Packet) []Key {
	return appendProtocolKeys(append(dst, newKey(keyInterface, uint64(portID(p)))), p)
}

// AppendFlowKeys appends the addresses and ports of a flow: what later fragments inside a tunnel do not show.
func AppendFlowKeys(dst []Key, r *flow.Record) []Key {
	dst = append(dst, newKey(keyProto, uint64(r.Proto)), newKey(keyPort, uint64(r.Port[0])), newKey(keyPort, uint64(r.Port[1])))
	for i := range r.Addr {
		if r.Flags&flow.V6 != 0 {
			dst = appendAddress(dst, v6(r.Addr[i][:]))
		} else {
			a := r.Addr[i]
			dst = appendAddress(dst, v4(uint32(a[0])<<24|uint32(a[1])<<16|uint32(a[2])<<8|uint32(a[3])))
		}
	}
	return dst
}

// AppendVerdictKeys appends the keys of a verdict.
func AppendVerdictKeys(dst []Key, v l7.Verdict) []Key {
	switch v.State {
	case l7.NoFlow:
		return dst
	case l7.Pending, l7.Partial: // a later verdict may name anything
		dst = append(dst, newKey(keyVerdict, pendingVerdict))
	case l7.Unknown, l7.Guessed:
		dst = append(dst, newKey(keyVerdict, unknownVerdict))
	}
	if v.Proto != 0 {
		dst = append(dst, newKey(keyVerdict, uint64(v.Proto)))
	}
	if v.App != 0 {
		dst = append(dst, newKey(keyVerdict, uint64(v.App)))
	}
	return dst
}

func appendProtocolKeys(dst []Key, p *packet.Packet) []Key {
	if p.EtherType != 0 {
		dst = append(dst, newKey(keyLink, uint64(p.EtherType)))
	}
	if p.Shim != 0 {
		dst = append(dst, newKey(keyLink, uint64(p.Shim)))
	}
	for i := range int(p.VLANs) {
		dst = append(dst, newKey(keyLink, uint64(p.TPID(i))))
	}
	rows := linkProtocols
	if p.VLANs == 0 && p.Labels == 0 && p.Layers&(packet.PPPoE|packet.LLC|packet.SNAP) == 0 && p.Link != packet.LinkCHDLC {
		rows = rows[:ipProtocolRows] // what most packets are
	}
	for i := range rows {
		if l := &rows[i]; l.holds != nil && l.holds(p) {
			dst = append(dst, newKey(keyLink, namedProtocol+uint64(i)))
		}
	}
	if p.Layers&anyIP != 0 {
		dst = append(dst, newKey(keyLink, map6(p.Layers&(packet.IPv6|packet.PartIPv6) != 0)))
	}
	return dst
}

// AppendMACKeys appends the part of AppendKeys that is about MAC addresses, tags and labels, without what tunnels carry.
func AppendMACKeys(dst []Key, p *packet.Packet) []Key {
	if p.Layers&packet.Ethernet != 0 {
		dst = append(dst, newKey(keyMAC, p.SrcMAC()), newKey(keyMAC, p.DstMAC()))
	}
	for i := range int(p.VLANs) {
		dst = append(dst, newKey(keyVLAN, uint64(p.TCI(i)&0xfff)))
	}
	for i := range int(p.Labels) {
		dst = append(dst, newKey(keyMPLS, uint64(p.Label(i)>>12)))
	}
	return dst
}

// AppendNetworkKeys appends the part of AppendKeys that is about IP, ARP and ports, without what tunnels carry.
func AppendNetworkKeys(dst []Key, p *packet.Packet) []Key {
	if p.Layers&packet.ARP != 0 {
		if a, ok := p.ARPSender(); ok {
			dst = append(dst, newKey(keyAddress4, uint64(a)))
		}
		if a, ok := p.ARPTarget(); ok {
			dst = append(dst, newKey(keyAddress4, uint64(a)))
		}
	}
	if p.Layers&anyIP == 0 {
		return dst
	}
	src, dstAddr, hasSrc, hasDst := addresses(p)
	if hasSrc {
		dst = appendAddress(dst, src)
	}
	if hasDst {
		dst = appendAddress(dst, dstAddr)
	}
	if p.Layers&packet.HasProto != 0 {
		dst = append(dst, newKey(keyProto, uint64(p.Proto)))
	}
	if p.Ports() {
		dst = append(dst, newKey(keyPort, uint64(p.SrcPort)), newKey(keyPort, uint64(p.DstPort)))
	}
	return dst
}

// map6 returns the EtherType of an IP version.
func map6(six bool) uint64 {
	if six {
		return 0x86dd
	}
	return 0x0800
}

func appendAddress(dst []Key, a ipAddr) []Key {
	if !a.v6 {
		return append(dst, newKey(keyAddress4, a.lo))
	}
	return append(dst, newKey(keyAddress6, mix(a.hi, a.lo)>>32), newKey(keyNet6, a.hi>>16))
}

// A KeyRange is all keys from Lo to Hi, both included. They are of one kind.
type KeyRange struct{ Lo, Hi Key }

// A Prune tells which blocks of packets cannot matter to a filter.
type Prune struct {
	any  []KeyRange // of which a block must have one; nil in a node with kids
	and  bool       // all kids must hold, else one
	kids []*Prune
}

// Prune returns what a block of packets must have for the result of f to be anything but No for one of them; nil if that cannot be said of f.
func (f *Filter) Prune() *Prune {
	if f.tree == nil {
		return nil
	}
	return f.tree.prune(f.env)
}

// Maybe reports whether a block may hold a packet that matters. has says whether the block may have one of the keys of a range. It may be called on nil.
func (p *Prune) Maybe(has func(KeyRange) bool) bool {
	if p == nil {
		return true
	}
	for _, r := range p.any {
		if has(r) {
			return true
		}
	}
	for _, k := range p.kids {
		if k.Maybe(has) != p.and {
			return !p.and
		}
	}
	return p.and
}

// MaybeFragment reports whether a later fragment may matter, whatever its first one told: its protocol and its ports. It may be called on nil.
func (p *Prune) MaybeFragment(f *packet.Packet) bool {
	if p == nil {
		return true
	}
	keys := AppendKeys(nil, f, l7.Verdict{})
	return p.Maybe(func(r KeyRange) bool {
		kind := r.Lo.Kind()
		return kind == keyProto || kind == keyPort || slices.ContainsFunc(keys, func(k Key) bool { return k >= r.Lo && k <= r.Hi })
	})
}

// Where returns in which parts of a block there may be a packet that matters, as a set of bits. in says which parts have all packets that have, or whose flow has, one
// of the keys of a range. It may be called on nil: all.
func (p *Prune) Where(in func(KeyRange) uint64) uint64 {
	if p == nil {
		return ^uint64(0)
	}
	var parts uint64
	for _, r := range p.any {
		parts |= in(r)
	}
	if p.and {
		parts = ^uint64(0)
	}
	for _, k := range p.kids {
		if p.and {
			parts &= k.Where(in)
		} else {
			parts |= k.Where(in)
		}
	}
	return parts
}

// Ranges calls f for every range of keys that p asks for. It may be called on nil.
func (p *Prune) Ranges(f func(KeyRange)) {
	if p == nil {
		return
	}
	for _, r := range p.any {
		f(r)
	}
	for _, k := range p.kids {
		k.Ranges(f)
	}
}

func (n *node) prune(env *Env) *Prune {
	switch n.op {
	case compare:
		return n.cmp.prune(env)
	case and:
		p := &Prune{and: true}
		for _, k := range n.kids {
			if q := k.prune(env); q != nil {
				p.kids = append(p.kids, q)
			}
		}
		if len(p.kids) == 0 {
			return nil
		}
		return p
	case or:
		p := &Prune{}
		for _, k := range n.kids {
			q := k.prune(env)
			if q == nil {
				return nil
			}
			p.kids = append(p.kids, q)
		}
		return p
	}
	return nil
}

// prune turns a comparison into the keys that it asks for; nil for a complement, and where the operand has no keys.
func (c *comparison) prune(env *Env) *Prune {
	p := c.operand.prune
	if p.by == byNothing || c.op == "!=" || c.set.none {
		return nil
	}
	list := keySets[p.keys](c, env)
	if list == nil {
		return nil
	}
	return &Prune{any: list}
}

// A keySet makes ranges of keys from the values of a comparison, nil if it cannot; an empty list is held by no block.
type keySet func(c *comparison, env *Env) []KeyRange

// keySets are the ways in which operands ask for keys, by the name in their rows.
var keySets = map[string]keySet{
	"address":       addressRanges,
	"mac":           macRanges,
	"port":          numberRanges(keyPort),
	"protocol":      numberRanges(keyProto),
	"vlan":          numberRanges(keyVLAN),
	"mpls":          numberRanges(keyMPLS),
	"link protocol": numberRanges(keyLink),
	"interface":     numberRanges(keyInterface),
	"link":          linkRanges,
	"group message": groupRanges,
	"verdict":       verdictRanges,
}

func numberRanges(kind Key) keySet {
	return func(c *comparison, _ *Env) []KeyRange {
		list := []KeyRange{}
		for _, r := range c.set.ranges {
			list = append(list, KeyRange{newKey(kind, uint64(r.lo)), newKey(kind, uint64(r.hi))})
		}
		return list
	}
}

func addressRanges(c *comparison, _ *Env) []KeyRange {
	list := []KeyRange{}
	for _, a := range c.set.addresses {
		g, ok := a.guard()
		switch {
		case !ok:
			return nil
		case !a.v6:
			list = append(list, KeyRange{newKey(keyAddress4, g.lo), newKey(keyAddress4, g.hi)})
		case a.host:
			list = append(list, KeyRange{newKey(keyAddress6, g.lo>>32), newKey(keyAddress6, g.lo>>32)})
		default:
			list = append(list, KeyRange{newKey(keyNet6, g.lo>>16), newKey(keyNet6, g.hi>>16)})
		}
	}
	return list
}

func macRanges(c *comparison, _ *Env) []KeyRange {
	list := []KeyRange{}
	for _, m := range c.set.macs {
		list = append(list, KeyRange{newKey(keyMAC, m.value), newKey(keyMAC, m.value|(1<<48-1)&^m.mask)})
	}
	return list
}

func linkRanges(c *comparison, env *Env) []KeyRange {
	list := []KeyRange{}
	for _, p := range env.Ports {
		if p.Link != 0 && c.set.has(uint32(p.Link)) {
			list = append(list, KeyRange{newKey(keyInterface, uint64(p.ID)), newKey(keyInterface, uint64(p.ID))})
		}
	}
	return list
}

// groupRanges ask for the protocols that carry IGMP and MLD.
func groupRanges(*comparison, *Env) []KeyRange {
	const igmp, icmpv6 = 2, 58
	return []KeyRange{{newKey(keyProto, igmp), newKey(keyProto, igmp)}, {newKey(keyProto, icmpv6), newKey(keyProto, icmpv6)}}
}

// verdictRanges ask for the protocols that the names stand for, and for flows of which nothing is known yet.
func verdictRanges(c *comparison, _ *Env) []KeyRange {
	one := func(v uint64) KeyRange { return KeyRange{newKey(keyVerdict, v), newKey(keyVerdict, v)} }
	list := []KeyRange{one(pendingVerdict)}
	if c.set.unknown {
		list = append(list, one(unknownVerdict))
	}
	guards, _ := verdictKeys(c.set)
	for _, g := range guards {
		list = append(list, one(g.lo))
	}
	return list
}
