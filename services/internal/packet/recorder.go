package packet

// The headers that recording programs and devices put before frames.

// enc follows OpenBSD's enc(4): address family, security parameter index and flags of what IPsec has decrypted or will encrypt.
func enc(d []byte) (LinkType, int) {
	if len(d) < 12 {
		return nowhere, 0
	}
	return family(anyOrder(d), 12)
}

// pflog follows OpenBSD's pflog(4): the header's length, which is padded to words, and the address family.
func pflog(d []byte) (LinkType, int) {
	if len(d) < 2 {
		return nowhere, 0
	}
	return family(uint32(d[1]), (int(d[0])+3)&^3)
}

// nflog follows what Linux' netfilter logs: four bytes, and fields of length and type in the writer's byte order, one of which is the packet.
func nflog(d []byte) (LinkType, int) {
	const payload = 9 // NFULA_PAYLOAD
	for at := 4; at+4 <= len(d); {
		n, kind := int(le16(d, at)), le16(d, at+2)
		if kind > 0xff { // none is that large: it is big endian
			n, kind = int(be16(d, at)), be16(d, at+2)
		}
		switch {
		case n < 4:
			return nowhere, 0
		case kind == payload:
			return LinkIPv4, at + 4
		}
		at += (n + 3) &^ 3
	}
	return nowhere, 0
}

// ppi follows the Per-Packet Information header specification: version, flags, the length, and the link type.
func ppi(d []byte) (LinkType, int) {
	if len(d) < 8 {
		return nowhere, 0
	}
	return anyLink(le32(d, 4)), max(8, int(le16(d, 2)))
}

// pktap follows Apple's net/pktap.h: the length, the kind of the record, of which 1 is a packet, and the link type.
func pktap(d []byte) (LinkType, int) {
	if len(d) < 12 || le32(d, 4) != 1 {
		return nowhere, 0
	}
	return sized(anyLink(le32(d, 8)), le32(d, 0), 108)
}

// anyLink is the link type that a header tells.
func anyLink(n uint32) LinkType {
	if n >= uint32(linkPadded) {
		return nowhere
	}
	return LinkType(n)
}

// tzsp follows TaZmen Sniffer Protocol: version, type, encapsulation by numbers of its own, and tagged fields up to one of type 1.
func tzsp(d []byte) (LinkType, int) {
	if len(d) < 5 || d[1] == 4 || d[1] == 5 {
		return nowhere, 0
	}
	next := nowhere
	switch be16(d, 2) {
	case 1:
		next = LinkEthernet
	case 2:
		next = LinkTokenRing
	case 4:
		next = LinkPPP
	case 5:
		next = LinkFDDI
	case 7:
		next = LinkRaw
	case 18:
		next = LinkWireless
	case 119:
		next = LinkPrism
	case 126:
		next = LinkRadiotap
	case 127:
		next = LinkAVS
	}
	for n := 4; n < len(d); {
		switch {
		case d[n] == 1:
			return next, n + 1
		case d[n] == 0:
			n++
		case n+1 >= len(d):
			return nowhere, 0
		default:
			n += 2 + int(d[n+1])
		}
	}
	return nowhere, 0
}

// erf follows Endace's extensible record format: 16 bytes with the type, as many extension headers of 8 bytes as are marked, and what the type brings.
func erf(d []byte) (LinkType, int) {
	n, more := 16, len(d) > 8 && d[8]&0x80 != 0
	for more && n+8 <= len(d) {
		more = d[n]&0x80 != 0
		n += 8
	}
	if more || n > len(d) {
		return nowhere, 0
	}
	switch d[8] & 0x7f {
	case 1, 10, 15, 19:
		return LinkPPPHDLC, n
	case 5, 17: // of many channels
		return LinkPPPHDLC, n + 4
	case 2, 11, 16, 20:
		return LinkEthernet, n + 2
	case 4: // AAL5, after the header of a cell
		return aal5LLC(d, n+4)
	case 9:
		return aal5LLC(d, n+8)
	case 22:
		return LinkIPv4, n
	case 23:
		return LinkIPv6, n
	}
	return nowhere, 0
}

// redback follows SmartEdge's header: protocol, and where the frame and its network layer begin. The difference of these tells what comes before the network layer.
func redback(d []byte) (LinkType, int) {
	if len(d) < 24 {
		return nowhere, 0
	}
	n, before := int(be16(d, 20)), int(be16(d, 22))-int(be16(d, 20))
	switch be16(d, 18) {
	case 1:
		switch before {
		case 0:
			return LinkIPv4, n
		case 2, 4:
			return LinkPPP, n
		}
		return LinkEthernet, n
	case 2:
		if before > 0 {
			return LinkEthernet, n
		}
	case 3, 4, 8:
		return LinkEthernet, n
	case 6:
		if be32(d, 4)&0x04000000 == 0 {
			n += 4
		}
		if before == 0 {
			return LinkPPP, n
		}
		return LinkEthernet, n
	case 9:
		if before == 0 {
			return LinkIPv6, n
		}
		return LinkEthernet, n
	}
	return nowhere, 0
}

// symantec follows Symantec's firewalls: an EtherType at one of two places, the other of which has 0.
func symantec(d []byte) (LinkType, int) {
	if len(d) < 12 || (be16(d, 6) == 0) == (be16(d, 10) == 0) {
		return nowhere, 0
	}
	if et := be16(d, 6); et != 0 {
		return etherLink(et, 44)
	}
	return etherLink(be16(d, 10), 56)
}

// netAnalyzer follows the four bytes of a netANALYZER card, little endian: among them a flag of events, the version, and in version 2 a kind, of which 0 is a frame.
func netAnalyzer(d []byte) (LinkType, int) {
	if len(d) < 4 || d[1]&1 != 0 {
		return nowhere, 0
	}
	if version := d[1] >> 2 & 15; version == 1 || version == 2 && d[3]>>4 == 0 {
		return LinkEthernet, 4
	}
	return nowhere, 0
}

// vpp follows the dispatch trace of vector packet processing, version 1: how many texts there are, which end with 0, and a hint what comes after them; without one the
// packet's first byte tells.
func vpp(d []byte) (LinkType, int) {
	if len(d) < 8 || d[0] != 1 {
		return nowhere, 0
	}
	n := 8
	texts := 4
	if d[2] > 4 {
		texts = 5
	}
	for ; n < len(d) && texts > 0; n++ {
		if d[n] == 0 {
			texts--
		}
	}
	if n >= len(d) {
		return nowhere, 0
	}
	switch hint := d[3]; {
	case hint == 2, (hint == 0 || hint > 5) && d[n] == 0x45:
		return LinkIPv4, n
	case hint == 3, (hint == 0 || hint > 5) && d[n] == 0x60:
		return LinkIPv6, n
	case hint == 4, hint == 5: // TCP or UDP at once
		return nowhere, n
	}
	return LinkEthernet, n
}
