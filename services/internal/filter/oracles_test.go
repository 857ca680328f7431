package filter

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// An oracle says what values an operand has in a frame, from what tshark shows: == must hold for these and for no others.
type oracle struct {
	operand string
	levels  int    // compare only frames with at most so many IP or Ethernet headers; 0 = any
	only    string // compare only frames with this field
	values  func(f *shown) []string
}

var oracles = []oracle{
	{operand: "ip", values: func(f *shown) []string {
		return append(slices.Clone(f.outerFirst("ip.src", "ipv6.src")), f.outerFirst("ip.dst", "ipv6.dst")...)
	}},
	{operand: "srcip", values: func(f *shown) []string { return f.outerFirst("ip.src", "ipv6.src") }},
	{operand: "dstip", values: func(f *shown) []string { return f.outerFirst("ip.dst", "ipv6.dst") }},
	{operand: "mac", values: func(f *shown) []string { return append(f.mac("eth.src"), f.mac("eth.dst")...) }},
	{operand: "srcmac", values: func(f *shown) []string { return f.mac("eth.src") }},
	{operand: "dstmac", values: func(f *shown) []string { return f.mac("eth.dst") }},
	{operand: "mactype", values: func(f *shown) []string {
		dst := strings.Join(f.mac("eth.dst"), "")
		octet, err := strconv.ParseUint(strings.Split(dst, ":")[0], 16, 8)
		switch {
		case err != nil:
			return nil
		case dst == "ff:ff:ff:ff:ff:ff":
			return []string{"broadcast"}
		case octet&1 != 0:
			return []string{"multicast"}
		}
		return []string{"unicast"}
	}},
	{operand: "port", levels: 1, values: func(f *shown) []string { return f.ports(eitherSide) }},
	{operand: "srcport", levels: 1, values: func(f *shown) []string { return f.ports(sourceSide) }},
	{operand: "dstport", levels: 1, values: func(f *shown) []string { return f.ports(destinationSide) }},
	{operand: "serverport", levels: 1, only: serverField, values: func(f *shown) []string { return f.field[serverField] }},
	{operand: "vlan", levels: 1, values: func(f *shown) []string { return orNone(f.tags("id")) }},
	{operand: "outervlan", levels: 1, values: func(f *shown) []string { return orNone(f.tags("id")[:min(1, len(f.tags("id")))]) }},
	{operand: "innervlan", levels: 1, values: func(f *shown) []string {
		return orNone(f.tags("id")[min(1, len(f.tags("id"))):min(2, len(f.tags("id")))])
	}},
	{operand: "qosVlanPcp", levels: 1, values: func(f *shown) []string { return f.tags("priority")[:min(1, len(f.tags("priority")))] }},
	{operand: "mpls", levels: 1, values: func(f *shown) []string { return orNone(f.field["mpls.label"]) }},
	{operand: "outerMpls", levels: 1, values: func(f *shown) []string { return orNone(f.upto("mpls.label", 1)) }},
	{operand: "innerMpls", levels: 1, values: func(f *shown) []string { return orNone(from(f.field["mpls.label"], 1)) }},
	{operand: "qosMplsTc", levels: 1, values: func(f *shown) []string { return f.upto("mpls.exp", 1) }},
	{operand: "l4Protocol", levels: 1, values: func(f *shown) []string {
		if f.outer == "ip" {
			return f.upto("ip.proto", 1)
		}
		return f.finalHeader()
	}},
	{operand: "qosIpDscp", values: func(f *shown) []string { return f.outerFirst("ip.dsfield.dscp", "ipv6.tclass.dscp") }},
	{operand: "ttl", values: func(f *shown) []string { return f.outerFirst("ip.ttl", "ipv6.hlim") }},
	{operand: "ipFragment", values: func(f *shown) []string {
		if f.outer != "ip" {
			return truth(false)
		}
		return truth(isTrue(f.first("ip.flags.mf")) || !slices.Contains([]string{"", "0"}, f.first("ip.frag_offset")))
	}},
	{operand: "ipDoNotFragment", values: func(f *shown) []string { return truth(f.outer == "ip" && isTrue(f.first("ip.flags.df"))) }},
	{operand: "len", values: func(f *shown) []string { return f.field["frame.len"] }},
	{operand: "interface", values: func(f *shown) []string {
		n, _ := strconv.Atoi(cmp.Or(f.first("frame.interface_id"), "0"))
		return []string{strconv.Itoa(n + 1)}
	}},
	{operand: "arpip", levels: 1, values: func(f *shown) []string {
		return append(slices.Clone(f.field["arp.src.proto_ipv4"]), f.field["arp.dst.proto_ipv4"]...)
	}},
	{operand: "icmpType", levels: 1, values: func(f *shown) []string { return f.field["icmp.type"] }},
	{operand: "icmpv6Type", levels: 1, values: func(f *shown) []string { return f.field["icmpv6.type"] }},
	{operand: "tcpFlags", levels: 1, values: func(f *shown) (flags []string) {
		n, err := strconv.ParseUint(f.first("tcp.flags"), 0, 16)
		if err != nil {
			return nil
		}
		for i, name := range flagNames {
			if n>>i&1 != 0 {
				flags = append(flags, name)
			} else {
				flags = append(flags, "!"+name)
			}
		}
		return flags
	}},
	{operand: "multicastGroup", levels: 1, values: func(f *shown) (groups []string) {
		for _, name := range []string{"igmp.maddr", "icmpv6.mld.multicast_address", "icmpv6.mldr.mar.multicast_address"} {
			for _, g := range f.field[name] {
				if a, err := netip.ParseAddr(g); err == nil && a.IsMulticast() {
					groups = append(groups, g)
				}
			}
		}
		kind, _ := strconv.Atoi(f.first("icmpv6.type"))
		if f.is("igmp") || slices.Contains([]int{130, 131, 132, 143}, kind) {
			groups = append(groups, "any")
		}
		return groups
	}},
	{operand: "macProtocol", levels: 1, values: func(f *shown) (names []string) {
		for name, protocols := range map[string][]string{
			"IPv4": {"ip"}, "IPv6": {"ipv6"}, "ARP": {"arp"}, "MPLS": {"mpls"}, "LLDP": {"lldp"}, "SLOW": {"slow"}, "PROFINET": {"pn_rt"},
			"PPPoE": {"pppoes", "pppoed", "pppoe"}, "STP": {"stp"}, "GOOSE": {"goose"}, "CDP": {"cdp"},
		} {
			if slices.ContainsFunc(protocols, f.is) {
				names = append(names, name)
			}
		}
		if f.levels == 0 {
			names = append(names, `"Non IP"`)
		}
		return names
	}},
	{operand: "ethertype", levels: 1, values: func(f *shown) []string {
		types := slices.Clone(f.field["eth.type"])
		types = append(types, f.field["sll.etype"]...)
		if len(f.field["ieee8021ad.id"]) > 0 && len(f.field["vlan.id"]) > 0 { // what an 88a8 tag leads to has no field
			types = append(types, "0x8100")
		}
		return hexValues(append(types, f.field["vlan.etype"]...))
	}},
	{operand: "slowSubtype", levels: 1, values: func(f *shown) []string { return decimal(f.field["slow.subtype"]) }},
	{operand: "ptpMsgType", levels: 1, values: func(f *shown) []string {
		types := decimal(f.field["ptp.v2.messagetype"])
		if f.is("ptp") {
			types = append(types, "any")
		}
		return types
	}},
	{operand: "profinetFrameId", levels: 1, values: func(f *shown) []string { return hexValues(f.field["pn_rt.frame_id"]) }},
	{operand: "profinetCmOpnum", levels: 1, values: func(f *shown) []string {
		id := f.first("dcerpc.dg_if_id")
		if !strings.HasPrefix(id, "dea0000") || !strings.HasSuffix(id, "-6c97-11d1-8271-00a02442df7d") {
			return nil
		}
		return append([]string{"any"}, f.upto("dcerpc.opnum", 1)...)
	}},
	{operand: "rtpPayloadType", levels: 1, values: func(f *shown) []string { return f.upto("rtp.p_type", 1) }},
	{operand: "callId", levels: 1, values: func(f *shown) []string { return f.field["sip.Call-ID"] }},
	{operand: "greKey", values: func(f *shown) []string { return hexValues(f.upto("gre.key", 1)) }},
	{operand: "vni", values: func(f *shown) []string {
		return decimal(append(f.upto("vxlan.vni", 1), f.upto("geneve.vni", 1)...))
	}},
}
