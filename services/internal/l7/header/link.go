package header

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// Frame names a frame that carries no IP from the frame itself: what is straight on the link layer, and what that carries. A shim, such as that of HSR, is a
// protocol of its own.
func Frame(p *packet.Packet) (proto, app protocol.ID) {
	proto, app = behindShims(p)
	shim := named(EtherType, uint64(p.Shim))
	if shim == 0 { // there is none, or none that has a name
		return proto, app
	}
	if app == 0 {
		app = proto
	}
	return shim, app
}

// behindShims is Frame for what comes after shims.
func behindShims(p *packet.Packet) (proto, app protocol.ID) {
	at := int(p.L2End)
	if at > len(p.Data) {
		return 0, 0
	}
	body := p.Data[at:]
	switch {
	case p.Layers&packet.PPPoE != 0:
		return protocol.PPPoE, pppProtocol(p)
	case p.Layers&packet.MPLS != 0:
		return named(EtherType, 0x8847), 0
	case p.Layers&packet.LLC != 0:
		if id := llcProtocol(p, body); id != 0 {
			return id, 0
		}
	case p.EtherType == 0 && (p.Link == packet.LinkPPP || p.Link == packet.LinkPPPHDLC || p.Link == packet.LinkPPPDir):
		return pppProtocol(p), 0
	case p.Link == packet.LinkCHDLC && p.EtherType == 0x2000: // CDP, by its number in SNAP
		return named(SNAP, 0x00000c<<16|0x2000), 0
	}
	if p.EtherType == 0 {
		return 0, 0
	}
	return etherProtocol(p.EtherType, body), 0
}

// etherProtocol names what comes after an EtherType.
func etherProtocol(et uint16, body []byte) protocol.ID {
	id := named(EtherType, uint64(et))
	switch id {
	case protocol.SlowProtocols:
		if len(body) > 0 {
			if sub := named(Slow, uint64(body[0])); sub != 0 {
				return sub
			}
		}
	case protocol.PTP:
		return PTP(body)
	case protocol.PROFINET:
		return profinetFrame(body)
	}
	return id
}

// llcProtocol names an 802.3 frame by its service access points; body is what follows the LLC header.
func llcProtocol(p *packet.Packet, body []byte) protocol.ID {
	if p.Layers&packet.SNAP != 0 {
		oui, pid := p.SNAP()
		return named(SNAP, uint64(oui)<<16|uint64(pid))
	}
	if dsap := p.DSAP(); dsap == 0xfe || dsap&^1 == 0x14 || dsap == 0x20 || dsap == 0x34 || dsap == 0x54 { // the access points of OSI network layers
		if len(body) > 0 {
			return named(NLPID, uint64(body[0]))
		}
		return 0
	}
	return named(LLC, uint64(p.DSAP()))
}

// pppProtocol names a frame of PPP by its protocol field, which is the last one of the link layer's and has two bytes where it names a control protocol.
func pppProtocol(p *packet.Packet) protocol.ID {
	at := int(p.L2End) - 2
	if at < 0 || p.EtherType == 0x8863 || at < int(p.PPPoEAt)+6 {
		return 0
	}
	return named(PPP, uint64(binary.BigEndian.Uint16(p.Data[at:])))
}

// profinetFrame names a PROFINET frame by its frame id (IEC 61158-6-10, table of FrameID).
func profinetFrame(b []byte) protocol.ID {
	if len(b) < 2 {
		return protocol.PROFINET
	}
	id := binary.BigEndian.Uint16(b)
	for _, r := range profinetFrames {
		if id >= r.from && id <= r.to {
			return r.is
		}
	}
	return protocol.PROFINET
}

var profinetFrames = [...]struct {
	from, to uint16
	is       protocol.ID
}{
	{0x8000, 0xfbff, protocol.PROFINETRT}, // classes 2 and 1
	{0x0100, 0x7fff, protocol.PROFINETRT}, // class 3
	{0xfefc, 0xfeff, protocol.PROFINETDCP},
	{0xfc01, 0xfc01, protocol.PROFINETAlarm}, {0xfe01, 0xfe01, protocol.PROFINETAlarm},
	{0x0020, 0x0021, protocol.PROFINETPTCP}, {0x0080, 0x0081, protocol.PROFINETPTCP}, {0xff00, 0xff43, protocol.PROFINETPTCP},
}
