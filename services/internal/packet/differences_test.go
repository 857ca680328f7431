package packet_test

import (
	"strings"
	"testing"

	"galvo/services/internal/packet"
)

// A difference is one that is meant to be: why we say something else than tshark 4.0.
type difference struct {
	field  string // "" is any
	reason string
	is     func(s sample, p *packet.Packet, r row) bool
}

var differences = []difference{
	{"ip.dst", "tshark looks for a source route in the options before it shows the destination, and shows the route's end",
		func(_ sample, p *packet.Packet, _ row) bool { return p.Layers&packet.IPv4 != 0 && p.Data[p.L3]&15 > 5 }},
	{"", "tshark gives up at IPv4 options that make no sense",
		func(_ sample, p *packet.Packet, r row) bool {
			return p.Layers&packet.IPv4 != 0 && p.Data[p.L3]&15 > 5 && strings.HasSuffix(r.get("frame.protocols"), ":ip")
		}},
	{"", "tshark takes the last 16 bytes that were captured for MACsec's check value",
		func(s sample, p *packet.Packet, _ row) bool { return p.Shim == 0x88e5 && len(s.data) < int(s.wire) }},
	{"", "TRILL and NSH of another version than 0 are not looked behind",
		func(s sample, p *packet.Packet, _ row) bool {
			return (p.EtherType == 0x22f3 || p.EtherType == 0x894f) && p.Layers&(packet.IPv4|packet.IPv6|packet.PartIPv4|packet.PartIPv6) == 0
		}},
	{"vlan.", "VLAN tags that a shim parts from others do not count",
		func(_ sample, p *packet.Packet, _ row) bool { return p.Shim != 0 && p.Layers&packet.VLAN != 0 }},
	{"tcp.payload", "tshark takes the last 4 bytes in FabricPath for a check sequence",
		func(_ sample, p *packet.Packet, _ row) bool { return p.Shim == 0x8903 }},
	{"icmp.type", "tshark shows the type only with the 6 bytes up to the checksum and identifier",
		func(_ sample, p *packet.Packet, _ row) bool { return int(p.L4)+6 > int(p.End) }},
	{"igmp.type", "tshark shows the type only with the byte behind it",
		func(_ sample, p *packet.Packet, _ row) bool { return int(p.L4)+2 > int(p.End) }},
	{"llc.dsap", "an LLC header that is cut off is none here",
		func(_ sample, p *packet.Packet, r row) bool { return p.Layers&packet.LLC == 0 && p.Tunnel == 0 }},
	{"tcp.payload", "tshark calls the payload of a reset its cause",
		func(_ sample, p *packet.Packet, _ row) bool { f, _ := p.TCPFlags(); return f&4 != 0 }},
	{"ieee8021ad.", "tshark has other fields for the second of two 802.1ad tags, and shows none that is cut off",
		func(_ sample, p *packet.Packet, r row) bool {
			return p.VLANs > 1 && p.TPID(1) == 0x88a8 || int(p.VLANAt)+4*int(p.VLANs) > len(p.Data)
		}},
	{"", "tshark gives up at an extension header whose options make no sense, we skip it by its length",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.HasSuffix(r.get("frame.protocols"), "ipv6.hopopts") || strings.HasSuffix(r.get("frame.protocols"), "ipv6.dstopts")
		}},
	{"", "IPv6 extension headers other than AH are not looked for in IPv4",
		func(_ sample, p *packet.Packet, r row) bool {
			return p.Layers&packet.IPv4 != 0 && strings.Contains(r.get("frame.protocols"), "ip:ipv6.")
		}},
	{"", "the guess what an MPLS stack carries is a guess",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "pwethheuristic")
		}},
	{"", "tshark looks behind the preamble of an mPacket only if the check sequence is captured and right",
		func(s sample, _ *packet.Packet, r row) bool {
			return r.get("frame.protocols") == "fpp" || r.get("frame.protocols") == "fpp:data"
		}},
	{"", "tshark wants some bytes more: the first 8 of raw IP, where it looks for PPP, all of a packet in ipnet, and the first 70 of Juniper's secure tunnels",
		func(s sample, _ *packet.Packet, r row) bool {
			protocols := r.get("frame.protocols")
			return len(s.data) < int(s.wire) && (strings.HasSuffix(protocols, "raw") || strings.HasPrefix(protocols, "ipnet") || protocols == "juniper")
		}},
	{"", "tshark wants the check sequence behind GFP, and the delimiter behind Fibre Channel",
		func(s sample, _ *packet.Packet, r row) bool {
			protocols := r.get("frame.protocols")
			return len(s.data) < int(s.wire) && (protocols == "gfp" || protocols == "fcsof")
		}},
	{"eth.", "the addresses before what DOCSIS encrypts are those of no Ethernet header",
		func(s sample, p *packet.Packet, r row) bool { return r.get("frame.protocols") == "docsis" }},
	{"", "TCP and UDP that come without IP are not looked at",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "vpp-opaque2:tcp") || strings.Contains(r.get("frame.protocols"), "vpp-opaque2:udp")
		}},
	{"", "tshark takes AAL5 without LLC in ERF for LAN emulation",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.HasPrefix(r.get("frame.protocols"), "erf:atm:lane")
		}},
	{"tcp.payload", "tshark gives up at TCP options that make no sense",
		func(_ sample, _ *packet.Packet, r row) bool { return r.get("_ws.malformed") != "" }},
	{"vxlan.vni", "VXLAN without the flag that says so has no network identifier",
		func(_ sample, p *packet.Packet, r row) bool { return p.Data[p.Payload]&8 == 0 }},
	{"", "Geneve of a version other than 0 is none",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "geneve") && p.Tunnel == packet.NoTunnel && int(p.Payload) < len(p.Data) && p.Data[p.Payload]>>6 != 0
		}},
	{"gtp.teid", "messages that are not of GTP-U are none, even where tshark finds GTP in them",
		func(_ sample, p *packet.Packet, r row) bool { return p.Tunnel == 0 }},
	{"erspan.spanid", "tshark gives up at the routing entries of GRE",
		func(_ sample, _ *packet.Packet, r row) bool {
			return strings.HasSuffix(r.get("frame.protocols"), "gre")
		}},
	{"inner", "VXLAN without the flag that says so is no tunnel",
		func(_ sample, p *packet.Packet, r row) bool { return p.DstPort == 4789 && p.Tunnel == 0 }},
	{"", "EtherIP of a version other than 3 is none",
		func(_ sample, p *packet.Packet, r row) bool {
			return strings.Contains(r.get("frame.protocols"), "etherip") && p.Layers&packet.Tunnel == 0
		}},
	{"", "tshark takes what netfilter logged for little endian, unless it is told otherwise",
		func(s sample, _ *packet.Packet, r row) bool {
			return s.link == packet.LinkNFLog && r.get("frame.protocols") == "nflog"
		}},
	{"", "tshark looks for LLC in a later fragment of IEEE 802.11 when it has not seen the first one",
		func(s sample, _ *packet.Packet, _ row) bool {
			return s.link == packet.LinkWireless && len(s.data) > 22 && s.data[22]&15 != 0
		}},
}

// excuses count how often each difference was needed.
type excuses map[string]int

func (e excuses) explain(s sample, p *packet.Packet, r row, field string) bool {
	for _, d := range differences {
		if strings.HasPrefix(field, d.field) && d.is(s, p, r) {
			e[d.reason]++
			return true
		}
	}
	return false
}

// check fails the test if a reason excuses so much that it hides more than it explains.
func (e excuses) check(t *testing.T, frames int) {
	t.Helper()
	for reason, n := range e {
		t.Logf("%5d times: %s", n, reason)
		if n > 20+frames/15 { // one capture of the corpus has 4,096 frames of a kind
			t.Errorf("%d of %d facts are excused: %s", n, frames, reason)
		}
	}
}
