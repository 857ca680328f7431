package packet

// The headers of other media than Ethernet.

// tokenRing follows IEEE 802.5, 3.2: access and frame control, addresses of which the first bit of the source tells of a routing field, and LLC.
func tokenRing(d []byte) (LinkType, int) {
	if len(d) < 15 || d[1]>>6 != 1 {
		return nowhere, 0
	}
	n := 14
	if d[8]&0x80 != 0 {
		n += int(d[14] & 31)
	}
	return LinkATM, n
}

// fddi follows ISO 9314-2: frame control, addresses, and LLC in asynchronous frames.
func fddi(d []byte) (LinkType, int) {
	if len(d) < 13 || d[0]&0xf0 != 0x50 {
		return nowhere, 0
	}
	return LinkATM, 13
}

// arcnet follows RFC 1051 and, with a field of three bytes for what is split, RFC 1201: addresses of a byte, and the protocol. A frame whose length the hardware cannot send
// begins with a longer field, which has the protocol again.
func arcnet(d []byte) (LinkType, int) {
	if len(d) >= 4 && d[2] != 240 && d[2] != 241 && d[3] == 0xff {
		return arcnetProtocol(d, 2, 10)
	}
	return arcnetProtocol(d, 2, 6)
}

// linuxARCNET is arcnet as Linux writes it: with an offset of two bytes after the addresses, and whole frames only.
func linuxARCNET(d []byte) (LinkType, int) { return arcnetProtocol(d, 4, 8) }

func arcnetProtocol(d []byte, at, n int) (LinkType, int) {
	if at >= len(d) {
		return nowhere, 0
	}
	switch d[at] {
	case 240:
		return LinkIPv4, at + 1
	case 241:
		return etARP, at + 1
	case 212:
		return LinkIPv4, n
	case 213:
		return etARP, n
	case 214:
		return etRARP, n
	case 196:
		return LinkIPv6, n
	}
	return nowhere, 0
}

// ax25 follows AX.25 2.2, 3: addresses of seven bytes, the last of which is marked, control, and in frames of information the protocol, of which 0xcc is IPv4.
func ax25(d []byte) (LinkType, int) {
	n := 14
	for n <= len(d) && d[n-1]&1 == 0 {
		n += 7
	}
	if n+2 > len(d) || d[n]&1 != 0 && d[n]&^0x10 != 3 || d[n+1] != 0xcc {
		return nowhere, 0
	}
	return LinkIPv4, n + 2
}

// kiss follows the KISS protocol of terminal node controllers: a byte whose lower half is 0 for data; 12 for data with a number of two bytes.
func kiss(d []byte) (LinkType, int) {
	switch {
	case len(d) > 0 && d[0]&15 == 0:
		return 3, 1
	case len(d) > 0 && d[0]&15 == 12:
		return 3, 3
	}
	return nowhere, 0
}

// fibreChannel follows FC-FS, 9: routing control, of which data has 0 in the upper half, the type, of which IP has 5, and a flag that tells of a network header.
func fibreChannel(d []byte) (LinkType, int) {
	switch {
	case len(d) < 24, d[0]>>4 != 0 || d[8] != 5, d[11]&0x08 != 0 && be32(d, 20) != 0: // the last: with an offset, it is not the first part of a sequence
		return nowhere, 0
	case d[13]&0x20 != 0:
		return LinkATM, 24 + 16
	}
	return LinkATM, 24
}

func fibreChannelDelimited(d []byte) (LinkType, int) {
	if len(d) < 4 {
		return nowhere, 0
	}
	next, n := fibreChannel(d[4:])
	return next, 4 + n
}

// sunATM follows what SunATM puts before a packet: the lower half of the first byte names what it is, virtual path and channel.
func sunATM(d []byte) (LinkType, int) {
	const emulation, llc, ilmi, signalling = 1, 2, 5, 6
	if len(d) < 6 {
		return nowhere, 0
	}
	switch kind := d[0] & 15; {
	case kind == emulation:
		if be16(d, 4) == 0xff00 { // control
			return nowhere, 0
		}
		return LinkEthernet, 6 // after the number of the emulated station
	case kind == llc:
		return LinkATM, 4
	case kind == ilmi, kind == signalling, d[1] == 0 && be16(d, 2) == 5:
		return nowhere, 0
	}
	return aal5(d, 4)
}

// aal5 guesses what an AAL5 packet at d[n:] is that nothing tells the kind of, from what RFC 2684 and RFC 2364 put at its beginning.
func aal5(d []byte, n int) (LinkType, int) {
	if n+8 > len(d) {
		return nowhere, 0
	}
	switch h := d[n:]; {
	case be16(h, 0) == 0xaaaa && h[2] == 3:
		return LinkATM, n
	case h[1] == 0x21:
		return LinkPPP, n
	case be16(h, 0) == 0:
		return LinkEthernet, n + 2
	case h[2] == 3 && (h[3] == 0xcc || h[3] == 0x8e || be16(h, 3) == 0x80), h[4] == 3 && (h[5] == 0xcc || h[5] == 0x8e || be16(h, 5) == 0x80):
		return LinkFrameRelay, n
	case h[0]>>4 == 4, h[0]>>4 == 6:
		return LinkIPv4, n
	}
	return nowhere, n
}

func aal5LLC(d []byte, n int) (LinkType, int) {
	if next, n := aal5(d, n); next == LinkATM {
		return next, n
	}
	return nowhere, 0
}

// gfp follows the generic framing procedure of ITU-T G.7041, 6.1: length and its check sequence, type of the payload, kind of the extension header, what the payload is, and
// their check sequence; an extension header of a linear frame has four bytes.
func gfp(d []byte) (LinkType, int) {
	const user, management = 0, 5
	if len(d) < 8 || be16(d, 0) < 4 || d[4]>>5 != user && d[4]>>5 != management {
		return nowhere, 0
	}
	n := 8
	if d[4]&15 == 1 {
		n += 4
	}
	switch d[5] {
	case 1:
		return LinkEthernet, n
	case 2:
		return LinkPPPHDLC, n
	}
	return nowhere, n
}

// epon follows IEEE 802.3, 65.1.3.2: what is captured of the preamble, up to the delimiter of the link's id, then six bytes from that on. DPoE has a flag of encryption in them.
func epon(d []byte) (LinkType, int) {
	for n := range 3 {
		if n+6 > len(d) {
			break
		}
		if be16(d, n) == 0xd555 {
			if security := d[n+2]; security != 0x55 && security&2 != 0 {
				break
			}
			return LinkEthernet, n + 6
		}
		if d[n] != 0x55 {
			break
		}
	}
	return nowhere, 0
}

// mPacket follows IEEE 802.3, 99.3: a preamble, and the delimiter of a frame that is not to be parted; parts of frames lead nowhere.
func mPacket(d []byte) (LinkType, int) {
	n := 0
	for n < len(d) && (d[n] == 0x55 || n == 0 && d[0] == 0x50) { // the first byte may be cut in half
		n++
	}
	if n >= len(d) || d[n] != 0xd5 {
		return nowhere, 0
	}
	return LinkEthernet, n + 1
}

// docsis follows DOCSIS 3.1 MULPI, 6.2: frame control, the length of extended headers, the length of all, extended headers, and a check sequence. What is encrypted or part of
// a frame leads nowhere.
func docsis(d []byte) (LinkType, int) {
	const kinds, parameters, extended = 0xc0, 0x3e, 0x01
	const isolation, queueDepth = 0x80, 4 << 1
	if len(d) < 6 {
		return nowhere, 0
	}
	n, headers := 6, 0
	if d[0]&extended != 0 {
		headers = int(d[1])
		n += headers
	}
	if kind := d[0] & kinds; kind != 0 && kind != isolation || d[0]&parameters == queueDepth || n > len(d) || encryptedDOCSIS(d[4:4+headers]) || crcDOCSIS(d[:n-2]) != be16(d, n-2) {
		return nowhere, 0
	}
	return LinkEthernet, n
}

// encryptedDOCSIS looks for an extended header of baseline privacy that says so: 6.2.6.
func encryptedDOCSIS(h []byte) bool {
	for len(h) > 2 {
		if kind := h[0] >> 4; (kind == 3 || kind == 4 || kind == 7) && h[2]&0x80 != 0 {
			return true
		}
		h = h[min(len(h), 1+int(h[0]&15)):]
	}
	return false
}

// crcDOCSIS returns the header check sequence, that of ITU-T V.41 with bits reflected as HDLC has it, in the order of the wire.
func crcDOCSIS(h []byte) uint16 {
	crc := uint16(0xffff)
	for _, b := range h {
		crc ^= uint16(b)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0x8408
		}
	}
	return ^crc>>8 | ^crc<<8
}
