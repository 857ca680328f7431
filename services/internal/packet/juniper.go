package packet

// A juniperPacket is what comes after Juniper's header.
type juniperPacket struct {
	in bool   // received, not sent
	d  []byte // from the end of the header on
}

// juniper follows the header that Juniper's routers put before a frame: a magic number, which old ones leave out, flags, and extensions with their length. Where the frame's
// own link header was taken away the number of a protocol is in its place; else rest knows how the device's frames begin.
func juniper(rest func(juniperPacket) (LinkType, int)) lead {
	const in, bare, extended = 0x01, 0x02, 0x80
	return func(d []byte) (LinkType, int) {
		if len(d) < 4 {
			return nowhere, 0
		}
		n, flags := 0, d[3]
		if string(d[:3]) == "MGC" {
			n = 4
			if flags&extended != 0 {
				if len(d) < 6 {
					return nowhere, 0
				}
				n = 6 + int(be16(d, 4))
			}
			if flags&bare != 0 {
				if n+4 > len(d) {
					return nowhere, 0
				}
				return juniperProtocol(uint16(d[n]), n+4) // of four bytes, the first of which counts
			}
		}
		if n > len(d) {
			return nowhere, 0
		}
		next, m := rest(juniperPacket{flags&in != 0, d[n:]})
		return next, n + m
	}
}

// juniperProtocol is what Juniper's numbers of protocols stand for.
func juniperProtocol(n uint16, at int) (LinkType, int) {
	switch n {
	case 2, 3:
		return LinkIPv4, at
	case 4, 5, 8, 32:
		return etMPLS, at
	case 6, 7:
		return LinkIPv6, at
	case 200:
		return LinkPPP, at
	case 202, 203:
		return LinkATM, at
	case 204:
		return LinkEthernet, at
	case 207:
		return LinkFrameRelay, at
	case 208:
		return LinkCHDLC, at
	case 0xa248:
		return LinkIPv4, at + 4
	}
	return nowhere, at
}

// juniperPlain is a device that has n bytes before each frame.
func juniperPlain(next LinkType, n int) func(juniperPacket) (LinkType, int) {
	return func(juniperPacket) (LinkType, int) { return next, n }
}

// juniperServices has a cookie, of different length by direction, before IPv4.
func juniperServices(p juniperPacket) (LinkType, int) {
	if p.in {
		return LinkIPv4, 16
	}
	return LinkIPv4, 12
}

// juniperGGSN has the number of a protocol and a VLAN before the packet.
func juniperGGSN(p juniperPacket) (LinkType, int) {
	if len(p.d) < 4 {
		return nowhere, 0
	}
	return juniperProtocol(le16(p.d, 0), 4)
}

// juniperCookie returns the length of the cookie that the first byte tells: that of a link services or of an adaptive services card.
func juniperCookie(d []byte) int {
	switch d[0] {
	case 0x54:
		return 4
	case 0x40, 0x47:
		return 8
	}
	return 0
}

// juniperNetwork reads the network protocol in an adaptive services card's cookie, and whether the packet is one between the routing engine and the line.
func juniperNetwork(d []byte) (next LinkType, local bool) {
	local = d[4]&3 == 3
	switch d[5] >> 4 {
	case 0:
		return LinkIPv4, local
	case 1:
		return LinkIPv6, local
	case 2:
		return etMPLS, local
	}
	return nowhere, local
}

func juniperMLPPP(p juniperPacket) (LinkType, int) {
	d := p.d
	if len(d) < 8 {
		return nowhere, 0
	}
	switch n := juniperCookie(d); {
	case n == 4:
		return LinkPPP, 4
	case n == 8:
		next, local := juniperNetwork(d)
		if next == LinkIPv4 && p.in && !local {
			next = LinkPPP
		}
		return next, 8
	case be16(d, 0) == 0xff03:
		return LinkPPP, 0
	case pppProtocol(be16(d, 2)):
		return LinkPPP, 2
	case pppProtocol(be16(d, 0)):
		return LinkPPP, 0
	}
	return nowhere, 0
}

func juniperMLFR(p juniperPacket) (LinkType, int) {
	d := p.d
	if len(d) < 8 {
		return nowhere, 0
	}
	switch juniperCookie(d) {
	case 4: // a network layer protocol identifier, which a control field may precede
		n := 4
		if be16(d, 4) == 0x03 || be16(d, 4) == 0x300 {
			n = 6
		}
		if n < len(d) && d[n] == 3 {
			n++
		}
		return nlpid(d, n)
	case 8:
		next, local := juniperNetwork(d)
		if next == LinkIPv4 && local {
			return nowhere, 8
		}
		return next, 8
	}
	if be16(d, 2) == 0x03 || be16(d, 2) == 0x300 {
		return nlpid(d, 4)
	}
	if d[2] == 3 && d[3] != 8 {
		return nlpid(d, 3)
	}
	return nowhere, 0
}

// nlpid leads on to what the network layer protocol identifier at d[n:] says (ISO/IEC TR 9577).
func nlpid(d []byte, n int) (LinkType, int) {
	switch {
	case n >= len(d):
	case d[n] == 0xcc:
		return LinkIPv4, n + 1
	case d[n] == 0x8e:
		return LinkIPv6, n + 1
	}
	return nowhere, 0
}

// juniperATM1 has a cookie of four bytes, whose first byte marks cells of operation and maintenance.
func juniperATM1(p juniperPacket) (LinkType, int) {
	if len(p.d) < 8 || p.d[0] == 0x80 {
		return nowhere, 0
	}
	return juniperATM(p.d, 4)
}

// juniperATM2 has one of eight bytes, of which three bits of the last one mark such cells, and six of the fourth one Ethernet that is sent.
func juniperATM2(p juniperPacket) (LinkType, int) {
	d := p.d
	if len(d) < 11 || d[7]&0x70 != 0 {
		return nowhere, 0
	}
	switch {
	case be16(d, 8) == 0xaaaa && d[10] == 3, be16(d, 8) == 0xfefe && d[10] == 3:
	case !p.in && d[3]&0x3f != 0:
		return LinkEthernet, 8
	case pppProtocol(be16(d, 8)):
		return LinkPPP, 8
	}
	return juniperATM(d, 8)
}

// juniperATM guesses what comes after the cookie: LLC, a network layer protocol identifier, or IP at once.
func juniperATM(d []byte, n int) (LinkType, int) {
	if n+3 > len(d) {
		return nowhere, 0
	}
	switch h := d[n:]; {
	case (be16(h, 0) == 0xaaaa || be16(h, 0) == 0xfefe) && h[2] == 3:
		return LinkATM, n
	case h[0] == 3:
		return nlpid(d, n+1)
	}
	return juniperIP(d, n)
}

// juniperIP tells by the first byte whether IP begins at d[n:].
func juniperIP(d []byte, n int) (LinkType, int) {
	switch {
	case n >= len(d):
	case d[n] >= 0x45 && d[n] <= 0x4f:
		return LinkIPv4, n
	case d[n]>>4 == 6:
		return LinkIPv6, n
	}
	return nowhere, 0
}

// pppProtocol reports whether a PPP packet with the protocol is one that Juniper's routers know.
func pppProtocol(n uint16) bool {
	switch n {
	case 0x21, 0x23, 0x3d, 0x57, 0x281, 0x283, 0x8021, 0x8023, 0x8057, 0x8281, 0xc021, 0xc023, 0xc223:
		return true
	}
	return false
}

// juniperST has the headers of the tunnel before the packet that it carries: Ethernet, IPv4, ESP and 16 bytes.
func juniperST(p juniperPacket) (LinkType, int) {
	const esp = 50
	if len(p.d) < 14+20 || be16(p.d, 12) != etIPv4 || p.d[14+9] != esp {
		return nowhere, 0
	}
	return juniperIP(p.d, 14+int(p.d[14]&15)*4+8+16)
}

// juniperVN follows the header of Juniper's virtual networks: fields of type and length, the last of type 255, before Ethernet.
func juniperVN(d []byte) (LinkType, int) {
	for n := 0; n+2 <= len(d); {
		kind := d[n]
		n += 2 + int(d[n+1])
		switch {
		case kind == 255:
			return LinkEthernet, n
		case kind < 1 || kind > 4:
			return nowhere, 0
		}
	}
	return nowhere, 0
}
