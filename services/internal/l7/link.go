package l7

import (
	"encoding/binary"

	"galvo/services/internal/packet"
)

// byEtherType names what is no IP by the type field (IEEE 802 numbers).
var byEtherType = map[uint16]ID{
	0x0806: ARP,
	0x0842: WakeOnLAN,
	0x8809: SlowProtocols,
	0x8863: PPPoE,
	0x8864: PPPoE,
	0x888e: EAPOL,
	0x8892: PROFINET,
	0x88a4: EtherCAT,
	0x88b8: GOOSE,
	0x88ba: SV,
	0x88cc: LLDP,
	0x88e3: MRP,
	0x88e5: MACsec,
	0x88f7: PTP,
	0x8902: EthernetOAM,
}

// linkProtocol names a frame that carries no IP from the frame itself.
func linkProtocol(p *packet.Packet) ID {
	if p.Layers&packet.ARP != 0 {
		return ARP
	}
	if p.Layers&packet.LLC != 0 {
		if id := llcProtocol(p); id != 0 {
			return id
		}
	}
	at := int(p.L2End)
	if at > len(p.Data) {
		return 0
	}
	body := p.Data[at:]
	switch id := byEtherType[p.EtherType]; id {
	case SlowProtocols:
		if len(body) > 0 && body[0] == 1 {
			return LACP
		}
		return id
	case PTP:
		return ptpVersion(body)
	default:
		return id
	}
}

// llcProtocol names an 802.3 frame by its service access points.
func llcProtocol(p *packet.Packet) ID {
	at := int(p.LLCAt)
	if at+2 > len(p.Data) {
		return 0
	}
	switch binary.BigEndian.Uint16(p.Data[at:]) {
	case 0x4242:
		return STP
	case 0xaaaa: // a SNAP header with the organisation's own protocol number
		if at+8 > len(p.Data) || string(p.Data[at+3:at+6]) != "\x00\x00\x0c" {
			return 0
		}
		switch binary.BigEndian.Uint16(p.Data[at+6:]) {
		case 0x010b: // per VLAN
			return STP
		case 0x2000:
			return CDP
		}
	}
	return 0
}

// byIPProtocol names what needs no look at the payload (IANA protocol numbers).
var byIPProtocol = [256]ID{
	1: ICMP, 2: IGMP, 4: IPinIP, 8: EGP, 41: IPinIP, 47: GRE, 50: IPSec, 51: IPSec, 58: ICMPv6, 88: EIGRP, 89: OSPF, 103: PIM, 115: L2TP, 112: VRRP, 113: PGM, 132: SCTP,
}
