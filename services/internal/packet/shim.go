package packet

import "iter"

// A shim is a header between a frame's addresses and its network protocol that an EtherType announces and that leads on to another one, as VLAN tags do.
type shim struct {
	etherType uint16
	size      int                                        // bytes up to the next EtherType, where these are the same in every frame
	addresses int                                        // where in it addresses are that stand for the frame's own; 0 if there are none
	next      func(d []byte, at int) (et uint16, to int) // otherwise what it leads on to, and where that begins; 0 if it leads nowhere
}

// shims are looked for behind VLAN tags, and lead to VLAN tags and each other.
var shims = [...]shim{
	{etherType: 0x892f, size: 4},      // HSR: IEC 62439-3, 5.7: path and size, sequence number
	{etherType: 0xf1c1, size: 4},      // R-TAG of FRER: IEEE 802.1CB, 7.8: reserved, sequence number
	{etherType: 0x893f, size: 6},      // E-TAG: IEEE 802.1BR, 7.5
	{etherType: 0x8926, size: 4},      // VN-Tag of Cisco
	{etherType: 0x8909, size: 6},      // Cisco MetaData: version, length, one option with a security group
	{etherType: 0x88e7, size: 4 + 12}, // I-TAG of PBB: IEEE 802.1Q, 9.7; the customer's addresses follow
	{etherType: etTEB, size: 12},
	{etherType: 0x8903, size: 2 + 12, addresses: 2}, // Cisco FabricPath: numbers of switches came in the place of addresses; tag, then the frame that it carries
	{etherType: 0x22f3, next: trill},
	{etherType: 0x4305, next: batman},
	{etherType: 0x88e5, next: macsec},
	{etherType: 0xd28b, next: arista},
}

// FixedShims yields the EtherTypes of the shims that have the same size in every frame, and how many bytes lie between that EtherType and the next one.
func FixedShims() iter.Seq2[uint16, int] {
	return func(yield func(uint16, int) bool) {
		for _, s := range shims {
			if s.size > 0 && !yield(s.etherType, s.size) {
				return
			}
		}
	}
}

// shim goes through the shim that et announces at d[at:], if it is one that leads on.
func (p *Packet) shim(d []byte, et uint16, at int) (next uint16, to int, ok bool) {
	for i := range shims {
		if s := &shims[i]; s.etherType == et {
			if s.addresses > 0 {
				p.addresses(d, at+s.addresses)
			}
			if s.size > 0 {
				next, to = typeAt(d, at+s.size)
			} else {
				next, to = s.next(d, at)
			}
			if to == 0 || to > len(d) {
				return 0, 0, false
			}
			if p.Shim == 0 {
				p.Shim = et
			}
			return next, to, true
		}
	}
	return 0, 0, false
}

// typeAt reads an EtherType, and returns where what it announces begins; 0 if that is not captured.
func typeAt(d []byte, at int) (et uint16, to int) {
	if at+2 > len(d) {
		return 0, 0
	}
	return be16(d, at), at + 2
}

// trill follows RFC 6325, 3.2: version 0, then options of as many words as five bits say, and an Ethernet frame.
func trill(d []byte, at int) (et uint16, to int) {
	if at+6 > len(d) || d[at]>>6 != 0 {
		return 0, 0
	}
	options := int(be16(d, at)>>6) & 31
	return typeAt(d, at+6+4*options+12)
}

// batman follows batman-adv's packet.h, version 15: the packets that carry Ethernet frames whole.
func batman(d []byte, at int) (et uint16, to int) {
	if at+2 > len(d) || d[at+1] != 15 {
		return 0, 0
	}
	switch d[at] {
	case 0x01: // broadcast
		return typeAt(d, at+14+12)
	case 0x40: // unicast
		return typeAt(d, at+10+12)
	case 0x42: // unicast with the originator's address
		return typeAt(d, at+18+12)
	}
	return 0, 0
}

// macsec follows IEEE 802.1AE, 9.3: version 0, and what is signed only, neither encrypted nor changed, can be read.
func macsec(d []byte, at int) (et uint16, to int) {
	const version, channel, encrypted, changed = 0x80, 0x20, 0x08, 0x04
	switch {
	case at >= len(d), d[at]&(version|encrypted|changed) != 0:
		return 0, 0
	case d[at]&channel != 0:
		return typeAt(d, at+6+8)
	}
	return typeAt(d, at+6)
}

// arista follows what Arista's switches put in front of a frame's own EtherType: a time, of 64 bits or of 48.
func arista(d []byte, at int) (et uint16, to int) {
	if at+4 > len(d) || be16(d, at) != 1 {
		return 0, 0
	}
	switch be16(d, at+2) &^ 0x100 {
	case 0x10:
		return typeAt(d, at+4+8)
	case 0x20:
		return typeAt(d, at+4+6)
	}
	return 0, 0
}

// nsh follows RFC 8300, 2.2: version 0, the length in words, which is 6 with metadata of type 1, and in the fourth byte what comes next, by numbers of its own. What is
// Ethernet makes it a shim.
func (p *Packet) nsh(d []byte, at int) {
	for next := uint8(4); next == 4; {
		if at+4 > len(d) || d[at]>>6 != 0 {
			return
		}
		words := max(2, int(d[at+1]&63))
		if d[at+2]&15 == 1 {
			words = 6
		}
		next = d[at+3]
		if at += 4 * words; at > len(d) {
			return
		}
		p.L2End = uint16(at)
		switch next {
		case 1:
			p.ip(d, at)
		case 2:
			p.ipv6(d, at)
		case 3:
			if et, to := typeAt(d, at+12); to != 0 && p.Shim == 0 {
				p.Shim = etNSH
				p.etherType(d, et, to)
			}
		case 5:
			p.mpls(d, at)
		}
	}
}
