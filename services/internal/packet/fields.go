package packet

// HasTrafficClass reports whether TrafficClass is known.
func (p *Packet) HasTrafficClass() bool {
	return p.Have >= 4 || p.Have >= 2 && p.Layers&(IPv4|PartIPv4) != 0
}

// HasTTL reports whether TTL is known.
func (p *Packet) HasTTL() bool { return p.Have >= 9 || p.Layers&(IPv6|PartIPv6) != 0 && p.Have >= 8 }

// TPID returns the tag protocol id of tag i, 0 being the outermost: 0x8100, 0x88a8 or 0x9100. Valid for i < VLANs.
func (p *Packet) TPID(i int) uint16 {
	tpid := uint16(0)
	switch {
	case i == 0 && p.Link == LinkSLL2 && p.VLANAt == 20:
		tpid = be16(p.Data, 0)
	case i == 0 && p.VLANAt == 0: // Inner began with the tag
		tpid = uint16(p.Link)
	default:
		tpid = be16(p.Data, int(p.VLANAt)+4*i-2)
	}
	if tpid != etQinQ && tpid != etQinQOld { // some link types have other bytes between an EtherType and what it announces
		return etVLAN
	}
	return tpid
}

// DSAP returns the destination service access point. Valid if Layers has LLC.
func (p *Packet) DSAP() uint8 { return p.Data[p.LLCAt] }

// SSAP returns the source service access point. Valid if Layers has LLC.
func (p *Packet) SSAP() uint8 { return p.Data[p.LLCAt+1] }

// SNAP returns the OUI (24 bits) and the protocol id. Valid if Layers has SNAP.
func (p *Packet) SNAP() (oui uint32, pid uint16) {
	at := int(p.LLCAt) + 3
	return be32(p.Data, at) >> 8, be16(p.Data, at+3)
}

// PPPoE returns the code (0 in sessions) and the session id. Valid if Layers has PPPoE.
func (p *Packet) PPPoE() (code uint8, session uint16) {
	return p.Data[p.PPPoEAt+1], be16(p.Data, int(p.PPPoEAt)+2)
}

// L2Payload returns the captured bytes after the link layer with its tags, SNAP, PPPoE and MPLS.
func (p *Packet) L2Payload() []byte { return p.Data[p.L2End:] }

// ARPOp returns the operation of an ARP packet: 1 request, 2 reply (RFC 826). Valid if Layers has ARP.
func (p *Packet) ARPOp() uint16 { return be16(p.Data, int(p.L3)+6) }

// ARPSender returns the sender's IPv4 address; ok is false if the addresses are not all captured or of another kind.
func (p *Packet) ARPSender() (addr uint32, ok bool) { return p.arpAddr(0) }

// ARPTarget returns the target's IPv4 address; ok is false if the addresses are not all captured or of another kind.
func (p *Packet) ARPTarget() (addr uint32, ok bool) { return p.arpAddr(1) }

// arpAddr knows the layout of RFC 826; that of ATM (hardware type 19, RFC 2225) is another one. AX.25 calls IPv4 0xcc.
func (p *Packet) arpAddr(i int) (uint32, bool) {
	if p.Layers&ARP == 0 {
		return 0, false
	}
	h := p.Data[p.L3:]
	hardware := int(h[4])
	at := 8 + hardware + i*(4+hardware)
	if pro := be16(h, 2); pro != etIPv4 && pro != 0xcc || be16(h, 0) == 19 || h[5] != 4 || 16+2*hardware > len(h) {
		return 0, false
	}
	return be32(h, at), true
}

// DontFragment reports DF. Valid if Layers has IPv4.
func (p *Packet) DontFragment() bool { return p.Data[p.L3+6]&0x40 != 0 }

// MoreFragments reports MF of an IPv4 packet or M of an IPv6 fragment. Valid if Layers has Fragment.
func (p *Packet) MoreFragments() bool {
	if p.Layers&(IPv4|PartIPv4) != 0 {
		return p.Data[p.L3+6]&0x20 != 0
	}
	return p.Data[p.FragAt+3]&1 != 0
}

// FragmentOffset returns the fragment's offset in bytes. Valid if Layers has Fragment.
func (p *Packet) FragmentOffset() int {
	if p.Layers&(IPv4|PartIPv4) != 0 {
		return int(be16(p.Data, int(p.L3)+6)&0x1fff) * 8
	}
	return int(be16(p.Data, int(p.FragAt)+2) &^ 7)
}

// ID returns the identification of an IPv4 packet (16 bits) or of an IPv6 fragment (32 bits). Valid if Layers has IPv4, or IPv6 and Fragment.
func (p *Packet) ID() uint32 {
	if p.Layers&(IPv4|PartIPv4) != 0 {
		return uint32(be16(p.Data, int(p.L3)+4))
	}
	return be32(p.Data, int(p.FragAt)+4)
}

// ICMPType returns the type. Valid if Layers has ICMP or ICMPv6.
func (p *Packet) ICMPType() uint8 { return p.Data[p.L4] }

// IGMPType returns the type of an IGMP message. Valid if Layers has IGMP.
func (p *Packet) IGMPType() uint8 { return p.Data[p.L4] }

// GREProto returns the protocol type of the GRE header. Valid if Layers has GRE.
func (p *Packet) GREProto() uint16 { return be16(p.Data, int(p.L4)+2) }

// GREEnd returns where the GRE header with its options ends, as far as it is captured. Valid if Layers has GRE.
func (p *Packet) GREEnd() int {
	if end := greEnd(p.Data[:p.End], int(p.L4), be16(p.Data, int(p.L4))); end >= 0 {
		return end
	}
	return int(p.End)
}

// GREKey returns the key of RFC 2890; ok is false if there is none or it is not captured. Version 1 has other things in its place.
func (p *Packet) GREKey() (key uint32, ok bool) {
	if p.Layers&GRE == 0 {
		return 0, false
	}
	flags, at := be16(p.Data, int(p.L4)), int(p.L4)+4
	if flags&0xc000 != 0 {
		at += 4
	}
	if flags&0x2007 != 0x2000 || at+4 > int(p.End) {
		return 0, false
	}
	return be32(p.Data, at), true
}

// VNI returns the network identifier of VXLAN or Geneve (24 bits); ok is false for other packets.
func (p *Packet) VNI() (vni uint32, ok bool) {
	if p.Tunnel != VXLAN && p.Tunnel != Geneve {
		return 0, false
	}
	at := int(p.Payload) + 4
	return uint32(be16(p.Data, at))<<8 | uint32(p.Data[at+2]), true
}

// TEID returns the tunnel endpoint identifier of GTP-U; ok is false for other packets.
func (p *Packet) TEID() (teid uint32, ok bool) {
	if p.Tunnel != GTPU {
		return 0, false
	}
	return be32(p.Data, int(p.Payload)+4), true
}

// ERSPAN returns the session id (10 bits) and the VLAN of the mirrored frame; ok is false for other packets and for type I, which has neither.
func (p *Packet) ERSPAN() (session, vlan uint16, ok bool) {
	if p.Tunnel != ERSPAN2 && p.Tunnel != ERSPAN3 {
		return 0, 0, false
	}
	at := greEnd(p.Data, int(p.L4), be16(p.Data, int(p.L4)))
	return be16(p.Data, at+2) & 0x3ff, be16(p.Data, at) & 0xfff, true
}
