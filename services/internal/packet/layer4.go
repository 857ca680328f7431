package packet

// layer4 decodes the header at d[at:], where d ends with the IP packet. at is at most len(d).
func (p *Packet) layer4(d []byte, at int, proto uint8) {
	h := d[at:]
	switch proto {
	case protoTCP:
		p.tcp(h, at)
	case protoUDP:
		p.udp(d, at)
	case protoICMP:
		p.mark(ICMP, len(h) >= 2)
	case protoICMPv6:
		p.mark(ICMPv6, len(h) >= 1)
	case protoIGMP:
		p.mark(IGMP, len(h) >= 1)
	case protoSCTP:
		if len(h) >= 12 {
			p.ports(SCTP, h)
		}
	case protoGRE:
		p.gre(d, at)
	case protoIPv4:
		p.tunnel(IPinIP, LinkRaw, at)
	case protoIPv6:
		p.tunnel(IPinIP, LinkIPv6, at)
	case protoEtherIP:
		if len(h) >= 2 && h[0]>>4 == 3 {
			p.tunnel(EtherIP, LinkEthernet, at+2)
		}
	case protoMPLS:
		p.tunnel(IPinIP, etMPLS, at)
	}
}

func (p *Packet) mark(layer Layers, captured bool) {
	if captured {
		p.Layers |= layer
	}
}

func (p *Packet) ports(layer Layers, h []byte) bool {
	if len(h) < 4 {
		return false
	}
	p.Layers |= layer
	p.SrcPort, p.DstPort = be16(h, 0), be16(h, 2)
	return true
}

// tcp decodes RFC 9293. A data offset below 5 leaves the ports, but neither flags nor payload.
func (p *Packet) tcp(h []byte, at int) {
	if !p.ports(TCP, h) {
		return
	}
	p.Payload = uint16(min(p.End, maxOffset))
	if flags, ok := p.TCPFlags(); ok && p.Proto == protoTCP {
		p.TCPBits = flags
	}
	if len(h) < 20 {
		return
	}
	if size := int(h[12]>>4) * 4; size >= 20 && size <= len(h) {
		p.Payload = uint16(at + size)
	}
}

// udp decodes RFC 768. A length of 8 and below leaves the ports, but no payload; over IPv6 0 is that of a jumbogram (RFC 2675).
// A length that ends before the IP packet does is ignored, as Wireshark does.
func (p *Packet) udp(d []byte, at int) {
	h := d[at:]
	if !p.ports(UDP, h) {
		return
	}
	p.Payload = uint16(len(d))
	if len(h) < 8 {
		return
	}
	n := int(be16(h, 4))
	if n <= 8 && (n != 0 || p.Layers&IPv6 == 0) {
		return
	}
	p.Payload = uint16(at + 8)
	if tunnelPort[p.DstPort>>5&63] || tunnelPort[p.SrcPort>>5&63] {
		if n != 0 {
			d = d[:min(len(d), at+n)]
		}
		p.udpTunnel(d, at+8)
	}
}
