package filter

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

const wordsAnyNone = ", a list of them; `any`, `none`"

var (
	tagIDs = &numbers{max: 4095, what: "a VLAN id from 0 to 4095", any: true, none: true, ranges: true}
	labels = &numbers{max: 1<<20 - 1, what: "an MPLS label from 0 to 1048575", any: true, none: true, ranges: true}
)

var linkOperands = []operand{
	{
		name: "macProtocol", subject: "Link layer", values: "names, or the number of an EtherType such as `0x88cc`; see the table below",
		example: `macProtocol == "Non IP"`,
		meaning: "What the link layer carries: every protocol met from the Ethernet header to the first network layer counts, through VLAN tags, SNAP, PPPoE, MPLS and shims. A frame with MPLS over IPv4 is `MPLS` and `IPv4`. `Non IP` is a frame in which neither IPv4 nor IPv6 is reached that way.",
		is:      "protocol on the link layer is", oracle: "arp", prune: pruning{byKey, "link protocol"},
		read: readLinkProtocol, header: func(s *set, _ *Env) func(*packet.Packet) bool { return s.linkProtocol },
	},
	{
		name: "ethertype", subject: "Link layer", values: "0 to 0xffff, or names of `macProtocol` that are EtherTypes", ordered: true,
		example: "ethertype == 0x8892", meaning: "An EtherType of the frame is the number: the one after the MAC addresses, the one of each VLAN tag, or the one of SNAP. What a shim leads on to is no EtherType of the frame. Lengths (802.3) are no EtherType.",
		is: "an EtherType is", isNot: "no EtherType is", oracle: "eth.type == 0x8892 || vlan.etype == 0x8892 || ieee8021ad.etype == 0x8892", prune: pruning{byKey, "link protocol"},
		read: (&numbers{max: 0xffff, what: "an EtherType", hex: 4, ranges: true, names: nil}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				et := p.EtherType
				if p.Shim != 0 && (p.VLANs == 0 || p.L2End != p.VLANAt+4*uint16(p.VLANs)) { // it is the shim's, not that of Ethernet or of a tag
					et = 0
				}
				if et != 0 && s.has(uint32(et)) || p.Shim != 0 && s.has(uint32(p.Shim)) {
					return true
				}
				for i := range int(p.VLANs) {
					if s.has(uint32(p.TPID(i))) {
						return true
					}
				}
				return false
			}
		},
	},
	{
		name: "vlan", subject: "Link layer", values: "0 to 4095" + wordsAnyNone, ordered: true,
		example: "vlan == 10,20", meaning: "The id of a tag is the number, of the outer or an inner one. Tags have the types 0x8100, 0x88a8 and 0x9100. `any` is at least one tag, `none` no tag.",
		is: "VLAN id is", isNot: "no VLAN id is", oracle: "vlan.id == 10 || ieee8021ad.id == 10", prune: pruning{byKey, "vlan"},
		read: tagIDs.read, keys: anyTagKeys,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				if p.VLANs == 0 {
					return s.none
				}
				return anyTag(s, p)
			}
		},
	},
	{
		name: "outervlan", subject: "Link layer", values: "as `vlan`", ordered: true,
		example: "outervlan == 10", meaning: "The id of the first tag is the number.",
		is: "outer VLAN id is", oracle: "vlan.id#1 == 10 && !ieee8021ad || ieee8021ad.id#1 == 10", prune: pruning{byKey, "vlan"},
		read: tagIDs.read, keys: someTagKeys,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return tag(s, p, 0) }
		},
	},
	{
		name: "innervlan", subject: "Link layer", values: "as `vlan`", ordered: true,
		example: "innervlan == none", meaning: "The id of the second tag is the number. `none` is a frame with fewer than two tags.",
		is: "inner VLAN id is", oracle: "vlan.id#2 == 20 || ieee8021ad && vlan.id#1 == 20", prune: pruning{byKey, "vlan"},
		read: tagIDs.read, keys: someTagKeys,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return tag(s, p, 1) }
		},
	},
	{
		name: "qosVlanPcp", subject: "Link layer", values: "0 to 7", ordered: true,
		example: "qosVlanPcp == 5", meaning: "The priority code point of the first VLAN tag.",
		is: "priority of the outer VLAN tag is", oracle: "vlan.priority#1 == 5 && !ieee8021ad || ieee8021ad.priority#1 == 5",
		read: (&numbers{max: 7, what: "a priority from 0 to 7", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.VLANs > 0 && s.has(uint32(p.TCI(0)>>13)) }
		},
	},
	{
		name: "mpls", subject: "Link layer", values: "0 to 1048575" + wordsAnyNone, ordered: true,
		example: "mpls == 29", meaning: "A label of the stack is the number. `any` is a stack of any depth, `none` no stack.",
		is: "MPLS label is", isNot: "no MPLS label is", oracle: "mpls.label == 29", prune: pruning{byKey, "mpls"},
		read: labels.read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return label(s, p, 0, int(p.Labels)) }
		},
	},
	{
		name: "outerMpls", subject: "Link layer", values: "as `mpls`", ordered: true,
		example: "outerMpls == 29", meaning: "The top label is the number.",
		is: "top MPLS label is", oracle: "the first of the fields mpls.label", prune: pruning{byKey, "mpls"},
		read: labels.read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return label(s, p, 0, min(1, int(p.Labels))) }
		},
	},
	{
		name: "innerMpls", subject: "Link layer", values: "as `mpls`", ordered: true,
		example: "innerMpls == any", meaning: "A label below the top is the number. `none` is a stack of fewer than two labels, or none.",
		is: "MPLS label below the top is", isNot: "no MPLS label below the top is", oracle: "the fields mpls.label but the first", prune: pruning{byKey, "mpls"},
		read: labels.read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return label(s, p, 1, int(p.Labels)) }
		},
	},
	{
		name: "qosMplsTc", subject: "Link layer", values: "0 to 7", ordered: true,
		example: "qosMplsTc == 6", meaning: "The traffic class of the top label.",
		is: "traffic class of the top MPLS label is", oracle: "the first of the fields mpls.exp",
		read: (&numbers{max: 7, what: "a traffic class from 0 to 7", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.Labels > 0 && s.has(p.Label(0)>>9&7) }
		},
	},
	{
		name: "slowSubtype", subject: "Link layer", values: "0 to 255; `LACP` (1), `Marker` (2), `OAM` (3), `OSSP` (10)",
		example: "slowSubtype == LACP", meaning: "The first byte after EtherType 0x8809.",
		is: "slow protocol subtype is", oracle: "slow.subtype == 1",
		read: (&numbers{max: 255, what: "a subtype of the slow protocols", names: []numberName{{1, "LACP", ""}, {2, "Marker", "LAMP"}, {3, "OAM", ""}, {10, "OSSP", ""}}}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				return p.EtherType == 0x8809 && int(p.L2End) < len(p.Data) && s.has(uint32(p.Data[p.L2End]))
			}
		},
	},
	{
		name: "len", subject: "Link layer", values: "bytes", ordered: true, frame: true,
		example: "len > 1518", meaning: "The length of the frame on the wire, without the frame check sequence.",
		is: "frame length in bytes is", oracle: "frame.len > 1518",
		read: (&numbers{max: 1<<32 - 1, what: "a number of bytes", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return s.has(p.Len) }
		},
	},
	{
		name: "badCRC", subject: "Link layer", values: "`0`, `1`", frame: true, needs: needsFCS,
		example: "badCRC == 1", meaning: "1: the frame check sequence is wrong; 0: it was checked and is right. Where the port cannot tell, neither holds; a live capture that needs it while no port can is refused. The frame check sequence is never part of the frame.",
		facts: [2]string{"the frame check sequence is right", "the frame check sequence is wrong"}, oracle: "eth.fcs.status == 0 with -o eth.fcs:Always -o eth.check_fcs:TRUE",
		read: (&numbers{max: 1, what: "0 or 1"}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			good, bad := s.has(0), s.has(1)
			return func(p *packet.Packet) bool {
				return bad && p.Flags&packet.FCSMask == packet.FCSBad || good && p.Flags&packet.FCSMask == packet.FCSGood
			}
		},
	},
}

// tag compares the id of tag i.
func tag(s *set, p *packet.Packet, i int) bool {
	if int(p.VLANs) <= i {
		return s.none
	}
	return s.has(uint32(p.TCI(i) & 0xfff))
}

// anyTag reports whether the id of any tag is in the set.
func anyTag(s *set, p *packet.Packet) bool {
	for i := range int(p.VLANs) {
		if s.has(uint32(p.TCI(i) & 0xfff)) {
			return true
		}
	}
	return false
}

// label compares the labels from the first up to, but without, the last.
func label(s *set, p *packet.Packet, first, last int) bool {
	if first >= last {
		return s.none
	}
	for i := first; i < last; i++ {
		if s.has(p.Label(i) >> 12) {
			return true
		}
	}
	return false
}

// A linkProtocol is a name that macProtocol knows. Those with an EtherType are found by it, the others by holds.
type linkProtocol struct {
	name      string
	aliases   string // separated by blanks
	etherType uint16
	holds     func(p *packet.Packet) bool
}

// ipProtocolRows is how many rows from the first on may hold for a packet without tags, labels, LLC and PPPoE, unless it is of Cisco HDLC. Rows stay where they are, and new ones come
// last: their number is written to the index of a ring.
const ipProtocolRows = 3

var linkProtocols = []linkProtocol{
	{name: "IPv4", aliases: "IP", holds: func(p *packet.Packet) bool { return p.Layers&(packet.IPv4|packet.PartIPv4) != 0 }},
	{name: "IPv6", holds: func(p *packet.Packet) bool { return p.Layers&(packet.IPv6|packet.PartIPv6) != 0 }},
	{name: "Non IP", aliases: "NonIP Non-IP", holds: func(p *packet.Packet) bool { return p.Layers&anyIP == 0 }},
	{name: "ARP", etherType: 0x0806},
	{name: "RARP", etherType: 0x8035},
	{name: "VLAN", aliases: "802.1Q dot1q", holds: func(p *packet.Packet) bool { return p.VLANs > 0 }},
	{name: "MPLS", holds: func(p *packet.Packet) bool { return p.Labels > 0 }},
	{name: "PPPoE", holds: func(p *packet.Packet) bool { return p.Layers&packet.PPPoE != 0 }},
	{name: "LLC", aliases: "802.2", holds: func(p *packet.Packet) bool { return p.Layers&packet.LLC != 0 }},
	{name: "SNAP", holds: func(p *packet.Packet) bool { return p.Layers&packet.SNAP != 0 }},
	{name: "STP", aliases: "RSTP MSTP PVST", holds: isSTP},
	{name: "CDP", holds: isCDP},
	{name: "VTP", holds: func(p *packet.Packet) bool { return isSNAP(p, 0x00000c, 0x2003) }},
	{name: "UDLD", holds: func(p *packet.Packet) bool { return isSNAP(p, 0x00000c, 0x0111) }},
	{name: "ISIS", aliases: "IS-IS CLNP OSI", holds: func(p *packet.Packet) bool { return p.Layers&packet.LLC != 0 && p.DSAP() == 0xfe && p.SSAP() == 0xfe }},
	{name: "LLDP", etherType: 0x88cc},
	{name: "SLOW", aliases: "LACP", etherType: 0x8809},
	{name: "PTP", etherType: 0x88f7},
	{name: "PROFINET", aliases: "PN PNIO", etherType: 0x8892},
	{name: "EtherCAT", etherType: 0x88a4},
	{name: "POWERLINK", aliases: "EPL", etherType: 0x88ab},
	{name: "SERCOS", etherType: 0x88cd},
	{name: "GOOSE", etherType: 0x88b8},
	{name: "SV", etherType: 0x88ba},
	{name: "MRP", etherType: 0x88e3},
	{name: "PRP", etherType: 0x88fb},
	{name: "HSR", etherType: 0x892f},
	{name: "CFM", aliases: "Y.1731", etherType: 0x8902},
	{name: "EAPOL", aliases: "802.1X", etherType: 0x888e},
	{name: "MACsec", etherType: 0x88e5},
	{name: "FCoE", etherType: 0x8906},
	{name: "FIP", etherType: 0x8914},
	{name: "RoCE", etherType: 0x8915},
	{name: "AoE", etherType: 0x88a2},
	{name: "AVTP", etherType: 0x22f0},
	{name: "MSRP", etherType: 0x22ea},
	{name: "MVRP", etherType: 0x88f5},
	{name: "HomePlug", aliases: "HomePlugAV", etherType: 0x88e1},
	{name: "IPX", etherType: 0x8137},
	{name: "AppleTalk", etherType: 0x809b},
	{name: "DECnet", etherType: 0x6003},
	{name: "Loopback", aliases: "CTP", etherType: 0x9000},
	{name: "PAUSE", etherType: 0x8808},
	{name: "WoL", etherType: 0x0842},
	{name: "TRILL", etherType: 0x22f3},
	{name: "NSH", etherType: 0x894f},
}

const anyIP = packet.IPv4 | packet.IPv6 | packet.PartIPv4 | packet.PartIPv6

func isSNAP(p *packet.Packet, oui uint32, pid uint16) bool {
	if p.Layers&packet.SNAP == 0 {
		return false
	}
	o, id := p.SNAP()
	return o == oui && id == pid
}

// isSTP knows the two forms of a bridge protocol data unit: LLC 42 (IEEE 802.1D) and Cisco's per-VLAN SNAP.
func isSTP(p *packet.Packet) bool {
	return p.Layers&(packet.LLC|packet.SNAP) == packet.LLC && p.DSAP() == 0x42 || isSNAP(p, 0x00000c, 0x010b)
}

// isCDP knows Cisco's discovery protocol in SNAP and in Cisco HDLC, which has the same number.
func isCDP(p *packet.Packet) bool {
	return isSNAP(p, 0x00000c, 0x2000) || p.Link == packet.LinkCHDLC && p.EtherType == 0x2000
}

func (l *linkProtocol) named(text string) bool {
	return strings.EqualFold(text, l.name) || isOneOf(text, strings.Fields(l.aliases)...)
}

// readLinkProtocol keeps EtherTypes as numbers and other protocols as numbers beyond those.
func readLinkProtocol(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	var names []string
	for i := range linkProtocols {
		l := &linkProtocols[i]
		if l.named(text) {
			c.set.addLinkProtocol(i)
			c.add(quoteIfNeeded(l.name))
			return nil
		}
		names = append(append(names, l.name), strings.Fields(l.aliases)...)
	}
	if id, ok := protocol.Lookup(text); ok {
		if types := etherTypes()[id]; len(types) > 0 {
			for _, et := range types {
				c.set.ranges = append(c.set.ranges, interval{uint32(et), uint32(et)})
			}
			c.add(quoteIfNeeded(protocol.Name(id)))
			return nil
		}
	}
	n, err := parseNumber(text)
	if err != nil || n > 0xffff {
		return c.wrong(it, fmt.Sprintf("%q is not a protocol on the link layer%s", short(text), didYouMean(nearest(text, names, 3))), "a name such as IPv4, ARP or \"Non IP\"", "an EtherType such as 0x88cc")
	}
	c.set.ranges = append(c.set.ranges, interval{uint32(n), uint32(n)})
	c.add(fmt.Sprintf("0x%04x", n))
	return nil
}

// etherTypes are the EtherTypes of the protocols that package l7 names by one.
var etherTypes = sync.OnceValue(func() map[protocol.ID][]uint16 {
	m := make(map[protocol.ID][]uint16)
	for et, id := range header.EtherTypes() {
		m[id] = append(m[id], et)
	}
	for _, list := range m {
		slices.Sort(list)
	}
	return m
})

// namedProtocol is the first number that stands for a row of linkProtocols without EtherType.
const namedProtocol = 1 << 16

func (s *set) addLinkProtocol(i int) {
	n := uint32(linkProtocols[i].etherType)
	if n == 0 {
		n = namedProtocol + uint32(i)
	}
	s.ranges = append(s.ranges, interval{n, n})
}

func (s *set) linkProtocol(p *packet.Packet) bool {
	if s.has(uint32(p.EtherType)) && p.EtherType != 0 {
		return true
	}
	for _, r := range s.ranges {
		switch {
		case r.lo >= namedProtocol:
			if linkProtocols[r.lo-namedProtocol].holds(p) {
				return true
			}
		case metEtherType(p, uint16(r.lo)):
			return true
		}
	}
	return false
}

// metEtherType reports whether the number stands for a protocol that was met beside Packet.EtherType: tags, a shim, and what MPLS and PPPoE carry.
func metEtherType(p *packet.Packet, et uint16) bool {
	switch et {
	case p.Shim:
		return et != 0
	case 0x0800:
		return p.Layers&(packet.IPv4|packet.PartIPv4) != 0
	case 0x86dd:
		return p.Layers&(packet.IPv6|packet.PartIPv6) != 0
	}
	for i := range int(p.VLANs) {
		if p.TPID(i) == et {
			return true
		}
	}
	return false
}
