package filter

import (
	"encoding/binary"

	"galvo/services/internal/packet"
)

var ipOperands = []operand{
	{
		name: "l4Protocol", subject: "IP", values: "0 to 255, or names: see the table below",
		example: "l4Protocol == ICMP,ICMPv6", meaning: "The IP protocol number; of IPv6 that of the last extension header. Every fragment carries it.",
		is: "IP protocol is", oracle: "ip.proto#1 == 1", prune: pruning{byKey, "protocol"}, ofFlow: "l4Protocol",
		read: (&numbers{max: 255, what: "an IP protocol", names: ipProtocols}).read, keys: protocolKeys,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.Layers&packet.HasProto != 0 && s.has(uint32(p.Proto)) }
		},
	},
	{
		name: "ttl", aliases: []string{"hoplimit"}, subject: "IP", values: "0 to 255", ordered: true,
		example: "ttl < 5", meaning: "The time to live of IPv4 or the hop limit of IPv6.",
		is: "time to live is", oracle: "ip.ttl#1 == 1 || ipv6.hlim#1 == 1",
		read: (&numbers{max: 255, what: "a time to live from 0 to 255", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.HasTTL() && s.has(uint32(p.TTL())) }
		},
	},
	{
		name: "qosIpDscp", subject: "IP", values: "0 to 63, or names: `EF`, `AF11` to `AF43`, `CS0` to `CS7`, `LE`, `VA`", ordered: true,
		example: "qosIpDscp == EF", meaning: "The differentiated services code point of IPv4 or IPv6 (RFC 2474).",
		is: "DSCP is", oracle: "ip.dsfield.dscp#1 == 46 || ipv6.tclass.dscp#1 == 46",
		read: (&numbers{max: 63, what: "a DSCP", ranges: true, names: codePoints}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.HasTrafficClass() && s.has(uint32(p.TrafficClass()>>2)) }
		},
	},
	{
		name: "ipFragment", subject: "IP", values: "`0`, `1`",
		example: "ipFragment == 1", meaning: "1: an IPv4 packet with more fragments set or an offset above 0. 0: everything else, also what is not IPv4.",
		facts: [2]string{"the packet is no IPv4 fragment", "the packet is an IPv4 fragment"}, oracle: "ip.flags.mf#1 == 1 || ip.frag_offset#1 > 0",
		read:   (&numbers{max: 1, what: "0 or 1"}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool { return fragmentBits(s, 0x3fff) },
	},
	{
		name: "ipDoNotFragment", subject: "IP", values: "`0`, `1`",
		example: "ipDoNotFragment == 1", meaning: "1: an IPv4 packet with the flag. 0: everything else, also what is not IPv4.",
		facts: [2]string{"the packet has not the do-not-fragment flag of IPv4", "the packet has the do-not-fragment flag of IPv4"}, oracle: "ip.flags.df#1 == 1",
		read:   (&numbers{max: 1, what: "0 or 1"}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool { return fragmentBits(s, 0x4000) },
	},
}

// fragmentBits tests the flags and the offset of IPv4, of which both bytes must be captured, as for Wireshark.
func fragmentBits(s *set, mask uint16) func(p *packet.Packet) bool {
	zero, one := s.has(0), s.has(1)
	return func(p *packet.Packet) bool {
		if p.Layers&(packet.IPv4|packet.PartIPv4) == 0 || p.Have < 8 {
			return zero
		}
		if binary.BigEndian.Uint16(p.Data[p.L3+6:])&mask != 0 {
			return one
		}
		return zero
	}
}

// codePoints are the names of RFC 2474, 2597, 3246, 5865 and 8622.
var codePoints = []numberName{
	{0, "CS0", "BE default"}, {8, "CS1", ""}, {16, "CS2", ""}, {24, "CS3", ""}, {32, "CS4", ""}, {40, "CS5", ""}, {48, "CS6", ""}, {56, "CS7", ""},
	{10, "AF11", ""}, {12, "AF12", ""}, {14, "AF13", ""}, {18, "AF21", ""}, {20, "AF22", ""}, {22, "AF23", ""},
	{26, "AF31", ""}, {28, "AF32", ""}, {30, "AF33", ""}, {34, "AF41", ""}, {36, "AF42", ""}, {38, "AF43", ""},
	{46, "EF", ""}, {44, "VA", "voice-admit"}, {1, "LE", ""},
}

// ipProtocols are the names of the IANA registry that are in use.
var ipProtocols = []numberName{
	{0, "HOPOPT", ""}, {1, "ICMP", "ICMPv4"}, {2, "IGMP", ""}, {3, "GGP", ""}, {4, "IPIP", "IPv4 IP-in-IP"}, {5, "ST", ""}, {6, "TCP", ""}, {8, "EGP", ""}, {9, "IGP", ""},
	{17, "UDP", ""}, {27, "RDP", ""}, {29, "ISO-TP4", ""}, {33, "DCCP", ""}, {41, "IPv6", "6in4"}, {43, "IPv6-Route", ""}, {44, "IPv6-Frag", ""}, {45, "IDRP", ""},
	{46, "RSVP", ""}, {47, "GRE", ""}, {50, "ESP", ""}, {51, "AH", ""}, {55, "MOBILE", ""}, {58, "ICMPv6", "ICMP6 IPv6-ICMP"}, {59, "IPv6-NoNxt", ""}, {60, "IPv6-Opts", ""},
	{80, "ISO-IP", ""}, {88, "EIGRP", ""}, {89, "OSPF", "OSPFIGP"}, {94, "IPIP-old", ""}, {97, "EtherIP", ""}, {98, "ENCAP", ""}, {103, "PIM", ""}, {108, "IPComp", ""},
	{112, "VRRP", "CARP"}, {113, "PGM", ""}, {115, "L2TP", "L2TPv3"}, {124, "ISIS", ""}, {132, "SCTP", ""}, {133, "FC", ""}, {135, "Mobility", "MIPv6"}, {136, "UDPLite", "UDP-Lite"},
	{137, "MPLS-in-IP", ""}, {138, "MANET", ""}, {139, "HIP", ""}, {140, "Shim6", ""}, {142, "ROHC", ""}, {143, "Ethernet", ""},
}
