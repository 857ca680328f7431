package packet_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"galvo/services/internal/packet"
)

// A check compares one fact about the outermost headers. got returns the text that tshark prints, empty where the fact is absent.
type check struct {
	field string
	got   func(p *packet.Packet) string
}

// has makes the text of a value that is there if the layer is.
func has(layer packet.Layers, text func(p *packet.Packet) string) func(p *packet.Packet) string {
	return func(p *packet.Packet) string {
		if p.Layers&layer == 0 {
			return ""
		}
		return text(p)
	}
}

// have makes the text of a field that is there if so many bytes of the IP header are.
func have(layer packet.Layers, n uint8, text func(p *packet.Packet) string) func(p *packet.Packet) string {
	return func(p *packet.Packet) string {
		if p.Layers&layer == 0 || p.Have < n {
			return ""
		}
		return text(p)
	}
}

func num[T ~uint8 | ~uint16 | ~uint32 | ~int](v T) string { return fmt.Sprint(v) }

func tags(p *packet.Packet, text func(i int) string, tpids ...uint16) string {
	var all []string
	for i := range int(p.VLANs) {
		if slices.Contains(tpids, p.TPID(i)) {
			all = append(all, text(i))
		}
	}
	return strings.Join(all, ",")
}

func hexMAC(m uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m)
	return net.HardwareAddr(b[2:]).String()
}

func addr4(a uint32) string {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}).String()
}

func addr6(hi, lo uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b).String()
}

func bit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

const either4 = packet.IPv4 | packet.PartIPv4
const either6 = packet.IPv6 | packet.PartIPv6

var checks = []check{
	{"eth.dst", has(packet.Ethernet, func(p *packet.Packet) string { return hexMAC(p.DstMAC()) })},
	{"eth.src", has(packet.Ethernet, func(p *packet.Packet) string { return hexMAC(p.SrcMAC()) })},
	{"vlan.id", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) & 0xfff) }, 0x8100, 0x9100)
	}},
	{"vlan.priority", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) >> 13) }, 0x8100, 0x9100)
	}},
	{"ieee8021ad.id", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) & 0xfff) }, 0x88a8)
	}},
	{"ieee8021ad.priority", func(p *packet.Packet) string {
		return tags(p, func(i int) string { return num(p.TCI(i) >> 13) }, 0x88a8)
	}},
	{"mpls.label", has(packet.MPLS, func(p *packet.Packet) string {
		var all []string
		for i := range int(p.Labels) {
			all = append(all, num(p.Label(i)>>12))
		}
		return strings.Join(all, ",")
	})},
	{"mpls.exp", has(packet.MPLS, func(p *packet.Packet) string {
		var all []string
		for i := range int(p.Labels) {
			all = append(all, num(p.Label(i)>>9&7))
		}
		return strings.Join(all, ",")
	})},
	{"pppoe.session_id", has(packet.PPPoE, func(p *packet.Packet) string {
		_, session := p.PPPoE()
		return fmt.Sprintf("0x%04x", session)
	})},
	{"llc.dsap", has(packet.LLC, func(p *packet.Packet) string { return fmt.Sprintf("0x%02x", p.DSAP()) })},
	{"arp.src.proto_ipv4", func(p *packet.Packet) string {
		if a, ok := p.ARPSender(); ok {
			return addr4(a)
		}
		return ""
	}},
	{"arp.dst.proto_ipv4", func(p *packet.Packet) string {
		if a, ok := p.ARPTarget(); ok {
			return addr4(a)
		}
		return ""
	}},
	{"ip.src", have(either4, 16, func(p *packet.Packet) string { return addr4(p.Src4()) })},
	{"ip.dst", has(packet.IPv4, func(p *packet.Packet) string { return addr4(p.Dst4()) })},
	{"ip.id", have(either4, 6, func(p *packet.Packet) string { return fmt.Sprintf("0x%04x", p.ID()) })},
	{"ip.flags.df", have(either4, 8, func(p *packet.Packet) string { return bit(p.DontFragment()) })},
	{"ip.flags.mf", have(either4, 8, func(p *packet.Packet) string { return bit(p.Layers&packet.Fragment != 0 && p.MoreFragments()) })},
	{"ip.frag_offset", have(either4, 8, func(p *packet.Packet) string {
		if p.Layers&packet.Fragment == 0 {
			return "0"
		}
		return num(p.FragmentOffset() / 8)
	})},
	{"ip.proto", has(either4, func(p *packet.Packet) string {
		if p.Layers&packet.HasProto == 0 {
			return ""
		}
		return num(p.Proto)
	})},
	{"ip.ttl", has(either4, func(p *packet.Packet) string {
		if !p.HasTTL() {
			return ""
		}
		return num(p.TTL())
	})},
	{"ip.dsfield.dscp", has(either4, func(p *packet.Packet) string {
		if !p.HasTrafficClass() {
			return ""
		}
		return num(p.TrafficClass() >> 2)
	})},
	{"ipv6.src", have(either6, 24, func(p *packet.Packet) string { return addr6(p.Src6()) })},
	{"ipv6.dst", has(packet.IPv6, func(p *packet.Packet) string { return addr6(p.Dst6()) })},
	{"ipv6.hlim", has(either6, func(p *packet.Packet) string {
		if !p.HasTTL() {
			return ""
		}
		return num(p.TTL())
	})},
	{"ipv6.tclass.dscp", has(either6, func(p *packet.Packet) string {
		if !p.HasTrafficClass() {
			return ""
		}
		return num(p.TrafficClass() >> 2)
	})},
	{"ipv6.fraghdr.offset", has(either6, func(p *packet.Packet) string {
		if p.FragAt == 0 {
			return ""
		}
		return num(p.FragmentOffset() / 8)
	})},
	{"tcp.srcport", has(packet.TCP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"tcp.dstport", has(packet.TCP, func(p *packet.Packet) string { return num(p.DstPort) })},
	{"tcp.flags", func(p *packet.Packet) string {
		if f, ok := p.TCPFlags(); ok {
			return fmt.Sprintf("0x%04x", uint16(p.Data[p.L4+12]&15)<<8|uint16(f))
		}
		return ""
	}},
	{"udp.srcport", has(packet.UDP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"udp.dstport", has(packet.UDP, func(p *packet.Packet) string { return num(p.DstPort) })},
	{"sctp.srcport", has(packet.SCTP, func(p *packet.Packet) string { return num(p.SrcPort) })},
	{"icmp.type", has(packet.ICMP, func(p *packet.Packet) string { return num(p.ICMPType()) })},
	{"icmpv6.type", has(packet.ICMPv6, func(p *packet.Packet) string { return num(p.ICMPType()) })},
	{"igmp.type", has(packet.IGMP, func(p *packet.Packet) string { return fmt.Sprintf("0x%02x", p.IGMPType()) })},
	{"gre.proto", has(packet.GRE, func(p *packet.Packet) string { return fmt.Sprintf("0x%04x", p.GREProto()) })},
	{"gre.key", func(p *packet.Packet) string {
		if k, ok := p.GREKey(); ok {
			return fmt.Sprintf("0x%08x", k)
		}
		return ""
	}},
	{"vxlan.vni", func(p *packet.Packet) string {
		if v, ok := p.VNI(); ok && p.Tunnel == packet.VXLAN {
			return num(v)
		}
		return ""
	}},
	{"geneve.vni", func(p *packet.Packet) string {
		if v, ok := p.VNI(); ok && p.Tunnel == packet.Geneve {
			return fmt.Sprintf("0x%06x", v)
		}
		return ""
	}},
	{"gtp.teid", func(p *packet.Packet) string {
		if v, ok := p.TEID(); ok {
			return fmt.Sprintf("0x%08x", v)
		}
		return ""
	}},
	{"erspan.spanid", func(p *packet.Packet) string {
		if v, _, ok := p.ERSPAN(); ok {
			return num(v)
		}
		return ""
	}},
	{"tcp.payload", has(packet.TCP, func(p *packet.Packet) string { return hex.EncodeToString(p.L7()) })},
	{"udp.payload", has(packet.UDP, func(p *packet.Packet) string { return hex.EncodeToString(p.L7()) })},
}
