package packet

// rawIP decodes IPv4 or IPv6 by the version.
func (p *Packet) rawIP(d []byte, at int) {
	if at < len(d) && (d[at]>>4 == 4 || d[at]>>4 == 6) {
		p.ip(d, at)
	}
}

// ip decodes what a type field calls IPv4. It may be IPv6: Wireshark believes the version more than the type there, though not the other way round.
func (p *Packet) ip(d []byte, at int) {
	p.L2End = uint16(at)
	if at < len(d) && d[at]>>4 == 6 {
		p.ipv6(d, at)
		return
	}
	p.ipv4(d, at)
}

// ipv4 decodes RFC 791. Total length 0 stands for a segment that the NIC was to cut: the packet reaches to the end of the frame. Lengths beyond
// the capture are cut to it.
func (p *Packet) ipv4(d []byte, at int) {
	p.L3 = uint16(at)
	h := d[at:]
	if len(h) < 20 {
		p.partIPv4(h)
		return
	}
	header, total := int(h[0]&15)*4, int(be16(h, 2))
	if h[0]>>4 != 4 || header < 20 || total < header && total != 0 {
		p.partIPv4(h)
		return
	}
	p.Layers |= IPv4 | HasProto
	p.Have = 20
	p.Proto = h[9]
	if total != 0 && at+total < int(p.End) {
		p.End = uint32(at + total)
		d = d[:min(len(d), at+total)]
	}
	at = min(at+header, len(d))
	p.L4, p.Payload = uint16(at), uint16(at)
	if p.fragment4(h) {
		return
	}
	if p.Proto == protoAH {
		p.ah4(d, at)
		return
	}
	p.layer4(d, at, p.Proto)
}

// partIPv4 takes from a header that is cut off or senseless what Wireshark shows of it: a version other than 4 or a header length below 20
// spoils the header, a total length below the header length what follows it.
func (p *Packet) partIPv4(h []byte) {
	if len(h) == 0 {
		return
	}
	p.Layers |= PartIPv4
	have := len(h)
	switch {
	case h[0]>>4 != 4 || h[0]&15 < 5:
		have = 1
	case have >= 4:
		if total := be16(h, 2); total != 0 && int(total) < int(h[0]&15)*4 {
			have = 4
		}
	}
	p.Have = uint8(min(have, 20))
	if have >= 8 {
		p.fragment4(h)
	}
	if have >= 10 {
		p.Proto = h[9]
		p.Layers |= HasProto
	}
}

// fragment4 looks at flags and offset of the header h and reports whether it is that of a later fragment.
func (p *Packet) fragment4(h []byte) bool {
	frag := be16(h, 6) & 0x3fff
	if frag == 0 {
		return false
	}
	p.Layers |= Fragment
	if frag&0x1fff == 0 {
		return false
	}
	p.Layers |= LaterFragment
	return true
}

// ah4 looks behind the authentication header (RFC 4302) of an IPv4 packet for ports; Proto stays what the IP header says.
func (p *Packet) ah4(d []byte, at int) {
	for range maxExtensions {
		if at+2 > len(d) {
			return
		}
		proto := d[at]
		at += (int(d[at+1]) + 2) * 4
		if at > len(d) {
			return
		}
		if proto != protoAH {
			p.L4, p.Payload = uint16(at), uint16(at)
			p.layer4(d, at, proto)
			return
		}
	}
}

// The IP protocols that lead on.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoIPv4     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoGRE      = 47
	protoAH       = 51
	protoICMPv6   = 58
	protoNone     = 59
	protoDestOpts = 60
	protoEtherIP  = 97
	protoSCTP     = 132
	protoMPLS     = 137
	protoShim6    = 140
)

// maxExtensions bounds the walk over extension headers.
const maxExtensions = 32

// payload6 returns the length of what follows the fixed header h; that of a jumbogram is in its first hop-by-hop option (RFC 2675).
func payload6(h []byte) int {
	n := int(be16(h, 4))
	if n == 0 && h[6] == protoHopByHop && len(h) >= 48 && be16(h, 42) == 0xc204 {
		n = int(be32(h, 44))
	}
	return n
}

// ipv6 decodes RFC 8200 with its extension headers.
func (p *Packet) ipv6(d []byte, at int) {
	p.L3 = uint16(at)
	h := d[at:]
	if len(h) < 40 || h[0]>>4 != 6 {
		p.partIPv6(h)
		return
	}
	p.Layers |= IPv6 | HasProto
	p.Have = 40
	if end := at + 40 + payload6(h); end < int(p.End) {
		p.End = uint32(end)
		d = d[:min(len(d), end)]
	}
	p.extensions(d, h[6], at+40)
}

func (p *Packet) partIPv6(h []byte) {
	if len(h) == 0 || h[0]>>4 != 6 {
		return
	}
	p.Layers |= PartIPv6
	p.Have = uint8(min(len(h), 39))
	if len(h) >= 7 {
		p.Proto = h[6]
		p.Layers |= HasProto
	}
}

// extensions walks the extension headers from d[at:] on. A header that is cut off ends the walk, with the number that its first byte tells as Proto; those that
// must be the last ones (mobility, RFC 6275; HIP, RFC 7401; ESP, which hides the next one), and shim6 (RFC 5533) without a next one, end it with their own.
func (p *Packet) extensions(d []byte, proto uint8, at int) {
	p.Proto = proto
	for range maxExtensions {
		size := 0
		switch proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoShim6:
			if at+2 <= len(d) {
				size = (int(d[at+1]) + 1) * 8
			}
		case protoAH:
			if at+2 <= len(d) {
				size = (int(d[at+1]) + 2) * 4
			}
		case protoFragment:
			size = 8
		default:
			p.L4, p.Payload = uint16(at), uint16(at)
			p.layer4(d, at, proto)
			return
		}
		if size == 0 || at+size > len(d) {
			if at < len(d) && proto != protoFragment { // of a fragment header Wireshark takes all or nothing
				p.Proto = d[at]
			}
			break
		}
		next := d[at]
		if next == protoNone && proto == protoShim6 {
			break
		}
		p.Proto = next
		if proto == protoFragment && p.fragment6(d, at) {
			p.L4, p.Payload = uint16(at+size), uint16(at+size)
			return
		}
		proto = next
		at += size
	}
	p.L4, p.Payload = uint16(at), uint16(at)
}

// fragment6 notes the IPv6 fragment header at d[at:] and reports whether it is that of a later fragment.
func (p *Packet) fragment6(d []byte, at int) bool {
	p.FragAt = uint16(at)
	frag := be16(d, at+2)
	if frag&0xfff9 == 0 { // an atomic fragment, RFC 6946
		return false
	}
	p.Layers |= Fragment
	if frag&0xfff8 == 0 {
		return false
	}
	p.Layers |= LaterFragment
	return true
}
