package filter

import (
	"encoding/binary"
	"fmt"
	"strings"

	"galvo/services/internal/packet"
)

var transportOperands = []operand{
	{
		name: "tcpFlags", subject: "Above IP", values: "`syn`, `ack`, `fin`, `rst`, `psh`, `urg`, `ece`, `cwr`, joined by `+`; `!` before a flag: it is clear",
		example: "tcpFlags == syn+!ack", meaning: "All listed flags of the TCP header are as stated; the others may be set or not: `syn` matches SYN-ACK too.",
		is: "TCP flags have", isNot: "TCP flags do not have", oracle: "tcp.flags.syn == 1 && tcp.flags.ack == 0 && !icmp && !icmpv6",
		read: readFlags,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				flags, ok := p.TCPFlags()
				if !ok {
					return false
				}
				for _, f := range s.flags {
					if flags&f.mask == f.value {
						return true
					}
				}
				return false
			}
		},
	},
	{
		name: "icmpType", subject: "Above IP", values: "0 to 255, or names: `echo-reply` (0), `unreachable` (3), `redirect` (5), `echo` (8), `time-exceeded` (11), ...",
		example: "icmpType == 8", meaning: "The type of an ICMP message over IPv4. IPv6 has `icmpv6Type`, because the numbers differ.",
		is: "ICMP type is", oracle: "icmp.type#1 == 8",
		read: (&numbers{max: 255, what: "an ICMP type", names: icmpTypes}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				return p.Layers&(packet.ICMP|packet.LaterFragment) == packet.ICMP && s.has(uint32(p.ICMPType()))
			}
		},
	},
	{
		name: "icmpv6Type", subject: "Above IP", values: "0 to 255, or names: `echo` (128), `echo-reply` (129), `router-advertisement` (134), `neighbor-solicitation` (135), ...",
		example: "icmpv6Type == 135", meaning: "The type of an ICMPv6 message.",
		is: "ICMPv6 type is", oracle: "icmpv6.type#1 == 135",
		read: (&numbers{max: 255, what: "an ICMPv6 type", names: icmpv6Types}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				return p.Layers&(packet.ICMPv6|packet.LaterFragment) == packet.ICMPv6 && s.has(uint32(p.ICMPType()))
			}
		},
	},
	{
		name: "greKey", subject: "Above IP", values: "0 to 0xffffffff", ordered: true,
		example: "greKey == 7", meaning: "The key of the GRE header (RFC 2890). Version 1 (PPTP) has a payload length and a call id in its place, and no key.",
		is: "GRE key is", oracle: "gre.key#1 == 7",
		read: (&numbers{max: 1<<32 - 1, what: "a GRE key", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				key, ok := p.GREKey()
				return ok && s.has(key)
			}
		},
	},
	{
		name: "vni", subject: "Above IP", values: "0 to 16777215", ordered: true,
		example: "vni == 100", meaning: "The network identifier of a VXLAN or Geneve header.",
		is: "VXLAN or Geneve network identifier is", oracle: "vxlan.vni#1 == 100 || geneve.vni#1 == 100",
		read: (&numbers{max: 1<<24 - 1, what: "a network identifier", ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				vni, ok := p.VNI()
				return ok && s.has(vni)
			}
		},
	},
}

// icmpTypes are the names of RFC 792, 950, 1256 and 8335.
var icmpTypes = []numberName{
	{0, "echo-reply", ""}, {3, "unreachable", "destination-unreachable"}, {4, "source-quench", ""}, {5, "redirect", ""}, {8, "echo", "echo-request"},
	{9, "router-advertisement", ""}, {10, "router-solicitation", ""}, {11, "time-exceeded", ""}, {12, "parameter-problem", ""}, {13, "timestamp", ""},
	{14, "timestamp-reply", ""}, {17, "address-mask", ""}, {18, "address-mask-reply", ""}, {42, "extended-echo", ""}, {43, "extended-echo-reply", ""},
}

// icmpv6Types are the names of RFC 4443, 2710, 3810 and 4861.
var icmpv6Types = []numberName{
	{1, "unreachable", "destination-unreachable"}, {2, "packet-too-big", ""}, {3, "time-exceeded", ""}, {4, "parameter-problem", ""}, {128, "echo", "echo-request"},
	{129, "echo-reply", ""}, {130, "mld-query", ""}, {131, "mld-report", ""}, {132, "mld-done", ""}, {133, "router-solicitation", "rs"}, {134, "router-advertisement", "ra"},
	{135, "neighbor-solicitation", "ns"}, {136, "neighbor-advertisement", "na"}, {137, "redirect", ""}, {143, "mldv2-report", ""},
}

// A flagSet is what tcpFlags demands: the masked flags have the value.
type flagSet struct{ mask, value uint8 }

// flagNames are the flags from the lowest bit up.
var flagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// flagOrder is how the canonical form lists them.
var flagOrder = []int{1, 4, 0, 2, 3, 5, 6, 7}

var flagAliases = map[string]string{"reset": "rst", "push": "psh"}

func readFlags(c *checker, it item) *Error {
	var f flagSet
	for part := range strings.SplitSeq(it.text, "+") {
		name := strings.ToLower(strings.TrimSpace(part))
		name, clear := strings.CutPrefix(name, "!")
		if known, ok := flagAliases[name]; ok {
			name = known
		}
		bit := uint8(0)
		for i, n := range flagNames {
			if n == name {
				bit = 1 << i
			}
		}
		if name == "" && it.text != "" {
			sign := "beside +"
			if clear {
				sign = "behind !"
			}
			return c.wrong(it, "a TCP flag is missing "+sign, flagNames...)
		}
		if bit == 0 {
			return c.wrong(it, fmt.Sprintf("%q is not a TCP flag%s", short(part), didYouMean(nearest(name, flagNames, 2))), flagNames...)
		}
		value := bit
		if clear {
			value = 0
		}
		if f.mask&bit != 0 && f.value&bit != value {
			return c.wrong(it, fmt.Sprintf("%s cannot be set and clear at once", name), "each flag once")
		}
		f.mask |= bit
		f.value |= value
	}
	c.set.flags = append(c.set.flags, f)
	c.add(f.String())
	return nil
}

func (f flagSet) String() string {
	var parts []string
	for _, i := range flagOrder {
		switch bit := uint8(1) << i; {
		case f.value&bit != 0:
			parts = append(parts, flagNames[i])
		case f.mask&bit != 0:
			parts = append(parts, "!"+flagNames[i])
		}
	}
	return strings.Join(parts, "+")
}

func readGroupAddress(c *checker, it item) *Error {
	if strings.EqualFold(strings.TrimSpace(it.text), "any") {
		c.set.ranges = append(c.set.ranges, interval{0, 0})
		c.add("any")
		return nil
	}
	a, err := parseAddress(c, it, false)
	if err != nil {
		err.Expected = append(err.Expected, "any")
		return err
	}
	if !a.host {
		return c.wrong(it, c.cmp.operand.name+" takes no mask", "an address of 224.0.0.0/4 or ff00::/8", "any")
	}
	if a.v6 && a.hi>>56 != 0xff || !a.v6 && a.lo>>28 != 0xe {
		return c.wrong(it, fmt.Sprintf("%s is not a multicast address", a), "an address of 224.0.0.0/4 or ff00::/8", "any")
	}
	c.set.addresses = append(c.set.addresses, a)
	c.add(a.String())
	return nil
}

// multicastGroup looks for a group address in IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810).
func (s *set) multicastGroup(p *packet.Packet) bool {
	if p.Layers&(packet.IGMP|packet.ICMPv6) == 0 || p.Layers&packet.LaterFragment != 0 {
		return false
	}
	b := p.Data[p.L4:p.End]
	every := len(s.ranges) > 0
	if p.Layers&packet.IGMP != 0 {
		switch b[0] {
		case 0x11, 0x12, 0x16, 0x17:
			return every || len(b) >= 8 && s.hasAddress(v4(binary.BigEndian.Uint32(b[4:])), 0, 0)
		case 0x22:
			return every || s.groupRecords(b, 4)
		}
		return every
	}
	switch b[0] {
	case 130, 131, 132:
		return every || len(b) >= 24 && s.hasAddress(v6(b[8:]), 0, 0)
	case 143:
		return every || s.groupRecords(b, 16)
	}
	return false
}

func v6(b []byte) ipAddr {
	return ipAddr{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), true}
}

// groupRecords looks through the records of an IGMPv3 or MLDv2 report, whose addresses have size bytes.
func (s *set) groupRecords(b []byte, size int) bool {
	at := 8
	for at+4+size <= len(b) {
		a := b[at+4 : at+4+size]
		if size == 4 && s.hasAddress(v4(binary.BigEndian.Uint32(a)), 0, 0) || size == 16 && s.hasAddress(v6(a), 0, 0) {
			return true
		}
		at += 4 + size + int(binary.BigEndian.Uint16(b[at+2:]))*size + int(b[at+1])*4
	}
	return false
}
