package stats

import (
	"fmt"
	"strconv"
	"sync"

	"galvo/services/internal/l7"
	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// Keys of the link layer that are no EtherType: what a frame carries or is wrapped in besides.
const (
	keyIPv4 = 1<<16 + iota
	keyIPv6
	keyVLAN
	keyMPLS
	keyPPPoE
	keyLLC
	keySNAP
	keySTP
	keyOther // neither an EtherType nor LLC: link types without one, and frames cut off before it
	linkKeys
)

var linkNames = map[uint32]string{
	keyIPv4: "IPv4", keyIPv6: "IPv6", keyVLAN: "VLAN", keyMPLS: "MPLS", keyPPPoE: "PPPoE", keyLLC: "LLC", keySNAP: "SNAP", keySTP: "STP", keyOther: "other",
	0x0806: "ARP", 0x8035: "RARP", 0x88cc: "LLDP", 0x8809: "SLOW", 0x88f7: "PTP", 0x8892: "PROFINET", 0x88a4: "EtherCAT", 0x88ab: "POWERLINK",
	0x88cd: "SERCOS", 0x88b8: "GOOSE", 0x88ba: "SV", 0x88e3: "MRP", 0x88fb: "PRP", 0x892f: "HSR", 0x8902: "CFM", 0x888e: "EAPOL", 0x88e5: "MACsec",
	0x8906: "FCoE", 0x8914: "FIP", 0x8915: "RoCE", 0x88a2: "AoE", 0x22f0: "AVTP", 0x22ea: "MSRP", 0x88f5: "MVRP", 0x88e1: "HomePlug", 0x8137: "IPX",
	0x809b: "AppleTalk", 0x6003: "DECnet", 0x9000: "Loopback", 0x8808: "PAUSE", 0x0842: "WoL", 0x22f3: "TRILL", 0x894f: "NSH",
}

// addLink counts frames under every name of the filter's macProtocol that they have: what they carry, and what that is wrapped in.
func addLink(t *table, k *kind) {
	for _, w := range wrappings {
		if k.layers()&w.layer != 0 {
			t.add(w.key, k.count)
		}
	}
	if k.shim() != 0 {
		t.add(uint32(k.shim()), k.count)
	}
	if k.stp() {
		t.add(keySTP, k.count)
	}
	switch {
	case k.layers()&(packet.IPv4|packet.PartIPv4) != 0:
		t.add(keyIPv4, k.count)
	case k.layers()&(packet.IPv6|packet.PartIPv6) != 0:
		t.add(keyIPv6, k.count)
	case k.layers()&(packet.MPLS|packet.PPPoE) != 0:
	case k.etherType() > 1500:
		t.add(uint32(k.etherType()), k.count)
	case k.layers()&(packet.LLC|packet.SNAP) == 0:
		t.add(keyOther, k.count)
	}
}

var wrappings = []struct {
	layer packet.Layers
	key   uint32
}{{packet.VLAN, keyVLAN}, {packet.MPLS, keyMPLS}, {packet.PPPoE, keyPPPoE}, {packet.LLC, keyLLC}, {packet.SNAP, keySNAP}}

// isSTP knows the two forms of a bridge protocol data unit: LLC 42 (IEEE 802.1D), and Cisco's per VLAN in SNAP. p has LLC.
func isSTP(p *packet.Packet) bool {
	if p.Layers&packet.SNAP == 0 {
		return p.DSAP() == 0x42
	}
	oui, id := p.SNAP()
	return oui == 0x00000c && id == 0x010b
}

// etherTypes are the names of package l7 for EtherTypes beyond those above.
var etherTypes = sync.OnceValue(header.EtherTypes)

func linkName(key uint32) (name, filter string) {
	name, ok := linkNames[key]
	if id := etherTypes()[uint16(key)]; !ok && key < 1<<16 && id != 0 {
		name, ok = protocol.Name(id), true
	}
	if !ok {
		name = fmt.Sprintf("0x%04x", key)
	}
	if key == keyOther || key == overflow {
		return "other", ""
	}
	return name, "macProtocol == " + name
}

var protocolNames = map[uint32]string{
	0: "HOPOPT", 1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 8: "EGP", 9: "IGP", 17: "UDP", 27: "RDP", 33: "DCCP", 41: "IPv6", 46: "RSVP", 47: "GRE",
	50: "ESP", 51: "AH", 58: "ICMPv6", 59: "IPv6-NoNxt", 88: "EIGRP", 89: "OSPF", 97: "EtherIP", 103: "PIM", 108: "IPComp", 112: "VRRP", 113: "PGM",
	115: "L2TP", 132: "SCTP", 135: "Mobility", 136: "UDPLite", 137: "MPLS-in-IP", 139: "HIP", 143: "Ethernet",
}

func protocolName(key uint32) (name, filter string) {
	name, ok := protocolNames[key]
	if !ok {
		name = strconv.Itoa(int(key))
	}
	return name, "l4Protocol == " + name
}

// keyUnknown is the key of flows that were given up; ids of protocols are above 0.
const keyUnknown = 0

// addVerdict counts packets under every name that their verdict has: carrier, application, and the families of both.
func (s *Stage) addVerdict(v l7.Verdict, c count) {
	t := s.layers[layerL7]
	switch v.State {
	case l7.NoFlow, l7.Pending:
		return
	case l7.Unknown, l7.Guessed:
		t.add(keyUnknown, c)
		return
	}
	for id := v.Proto; id != 0 && int(id) < len(s.masters); id = s.masters[id] {
		t.add(uint32(id), c)
	}
	carrier := l7.Verdict{Proto: v.Proto}
	for id := v.App; id != 0 && int(id) < len(s.masters) && !carrier.Is(id); id = s.masters[id] {
		t.add(uint32(id), c)
	}
}

// masters returns the family of each protocol, by id.
func masters() []protocol.ID {
	rows := protocol.Protocols()
	m := make([]protocol.ID, rows[len(rows)-1].ID+1)
	for i := range rows {
		m[rows[i].ID] = rows[i].Master
	}
	return m
}

func verdictName(key uint32) (name, filter string) {
	if key == keyUnknown {
		return "unknown", "l7Protocol == unknown"
	}
	name = protocol.Name(protocol.ID(key))
	return name, "l7Protocol == " + name
}
