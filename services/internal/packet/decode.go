package packet

// maxOffset bounds what is searched for headers, so that offsets fit in 16 bits.
const maxOffset = 65535

// Decode locates the headers of p.Frame, which begins with link. Everything but the Frame is overwritten.
func (p *Packet) Decode(link LinkType) {
	if link == LinkEthernet && p.common() {
		return
	}
	p.Headers = Headers{}
	p.Link, p.End = link, uint32(len(p.Data))
	d := p.Data
	if len(d) > maxOffset {
		d = d[:maxOffset]
	}
	if link != LinkEthernet {
		p.otherLink(d, link)
		return
	}
	p.ethernet(d, 0)
}

// ethernet decodes a frame that begins at d[at:].
func (p *Packet) ethernet(d []byte, at int) {
	if at+14 > len(d) {
		return
	}
	et := be16(d, at+12)
	if et < minEtherType && p.isl(d, at) {
		return
	}
	p.addresses(d, at)
	p.etherType(d, et, at+14)
}

// addresses notes that the frame's addresses, with the type or length field behind them, are at d[at:], if so much is captured.
func (p *Packet) addresses(d []byte, at int) {
	p.Layers &^= Ethernet
	if at+14 <= len(d) {
		p.Layers |= Ethernet
		p.MACAt = uint16(at)
	}
}

// Known reports whether Decode looks into frames of the link type.
func (l LinkType) Known() bool { return l == LinkEthernet || new(Packet).otherLink(nil, l) }

// otherLink goes through the headers that come before a frame, decodes the frame and reports whether it knows the link type.
func (p *Packet) otherLink(d []byte, link LinkType) bool {
	at := 0
	for int(link) < len(leads) && leads[link] != nil { // it ends: a header that leads on to another one has bytes
		next, n := leads[link](d[at:])
		if next == nowhere || at+n > len(d) {
			if n > 0 {
				p.setL2End(d, at+n)
			}
			return true
		}
		link, at = next, at+n
	}
	switch link {
	case LinkEthernet:
		p.ethernet(d, at)
	case LinkRaw, LinkRawBSD, LinkRawOBSD:
		p.rawIP(d, at)
	case LinkIPv4:
		p.ip(d, at)
	case LinkIPv6:
		p.L2End = uint16(at)
		p.ipv6(d, at)
	case LinkPPP, LinkPPPHDLC:
		p.serial(d, at)
	case LinkPPPoE:
		p.pppoe(d, at, etPPPoESession)
	case LinkCHDLC:
		p.chdlc(d, at)
	case LinkATM:
		p.llc(d, at)
	case LinkFrameRelay:
		p.frameRelay(d, at)
	case LinkWireless, linkPadded:
		p.wireless(d, at, link == linkPadded)
	default:
		if link < minEtherType {
			return false
		}
		p.etherType(d, uint16(link), at)
	}
	return true
}

// The EtherTypes that lead on.
const (
	minEtherType   = 0x0600
	maxLength      = 1500 // type fields up to here are lengths, IEEE 802.3
	etIPv4         = 0x0800
	etARP          = 0x0806
	etTEB          = 0x6558 // transparent Ethernet bridging
	etRARP         = 0x8035
	etVLAN         = 0x8100
	etPPP          = 0x880b
	etIPv6         = 0x86dd
	etMPLS         = 0x8847
	etMPLSMulti    = 0x8848
	etPPPoE        = 0x8863
	etPPPoESession = 0x8864
	etERSPAN2      = 0x88be // ERSPAN type I and II
	etERSPAN3      = 0x22eb
	etQinQ         = 0x88a8
	etQinQOld      = 0x9100
	etWCCP         = 0x883e
	etNSH          = 0x894f
)

// etherType goes on at d[at:] with what the type field et announces: tags and shims, then one network protocol.
func (p *Packet) etherType(d []byte, et uint16, at int) {
	for {
		var ok bool
		if et, at, ok = p.tags(d, et, at); !ok {
			return
		}
		p.EtherType = et
		p.L2End = uint16(at)
		if at >= len(d) && (et == etIPv4 || et == etIPv6) {
			p.nothingOf(et)
			return
		}
		switch et {
		case etIPv4:
			p.ip(d, at)
		case etIPv6:
			p.ipv6(d, at)
		case etARP, etRARP:
			p.arp(d, at)
		case etMPLS, etMPLSMulti:
			p.mpls(d, at)
		case etPPPoE, etPPPoESession:
			p.pppoe(d, at, et)
		case etNSH:
			p.nsh(d, at)
		default:
			if et <= maxLength {
				p.length(d, et, at)
				return
			}
			if et, at, ok = p.shim(d, et, at); ok {
				continue
			}
		}
		return
	}
}

// tags steps over VLAN tags, and returns what they lead to; ok is false if that is not captured. The tags that count are those that follow each other.
func (p *Packet) tags(d []byte, et uint16, at int) (next uint16, to int, ok bool) {
	for et == etVLAN || et == etQinQ || et == etQinQOld {
		if at+2 > len(d) || p.VLANs == 255 {
			p.setL2End(d, at)
			return 0, 0, false
		}
		if p.VLANs == 0 {
			p.VLANAt = uint16(at)
		}
		if at == int(p.VLANAt)+4*int(p.VLANs) {
			p.VLANs++
		}
		p.Layers |= VLAN
		if at+4 > len(d) {
			p.setL2End(d, at+4)
			return 0, 0, false
		}
		et = be16(d, at+2)
		at += 4
	}
	return et, at, true
}

// nothingOf notes a network layer that is announced and not captured.
func (p *Packet) nothingOf(et uint16) {
	p.L3 = p.L2End
	part := PartIPv4
	if et == etIPv6 {
		part = PartIPv6
	}
	p.Layers |= part
}

func (p *Packet) setL2End(d []byte, at int) { p.L2End = uint16(min(at, len(d))) }

func (p *Packet) arp(d []byte, at int) {
	if at+8 <= len(d) {
		p.Layers |= ARP
		p.L3 = uint16(at)
	}
}

// length decodes an 802.3 frame: n is the length of what follows the type field, n = 0 stands for an unknown type.
func (p *Packet) length(d []byte, n uint16, at int) {
	if n == 0 && p.VLANs == 0 {
		return
	}
	if end := at + int(n); end < len(d) {
		p.End = uint32(end)
		d = d[:end]
	}
	p.EtherType = 0
	p.llc(d, at)
	if p.Layers&IP == 0 {
		p.End = uint32(len(p.Data))
	}
}

// llc decodes the 802.2 header at d[at:], unless it is Novell raw 802.3 or a tag within SNAP led back here.
func (p *Packet) llc(d []byte, at int) {
	if at+3 > len(d) || be16(d, at) == 0xffff || p.Layers&LLC != 0 {
		return
	}
	p.Layers |= LLC
	p.LLCAt = uint16(at)
	if be16(d, at) == 0xaaaa && d[at+2] == 3 {
		p.snap(d, at+3)
		return
	}
	control := d[at+2]
	at += 3
	if control&3 != 3 { // information and supervisory frames have two bytes of control
		at++
	}
	p.setL2End(d, at)
	carries := control&1 == 0 || control&^0x10 == 3 // information, unnumbered information
	if d[p.LLCAt] == 0x06 && carries {              // the LSAP of IP, RFC 948
		p.ip(d, int(p.L2End))
	}
}

// snap decodes the SNAP header at d[at:]. Two OUIs carry EtherTypes: RFC 1042 and bridging over it (0000f8).
func (p *Packet) snap(d []byte, at int) {
	if at+5 > len(d) {
		return
	}
	p.Layers |= SNAP
	p.L2End = uint16(at + 5)
	switch uint32(be16(d, at))<<8 | uint32(d[at+2]) {
	case 0, 0x0000f8:
		if et := be16(d, at+3); et >= minEtherType {
			p.etherType(d, et, at+5)
		}
	}
}

// pppoe decodes the header of RFC 2516. A session carries PPP.
func (p *Packet) pppoe(d []byte, at int, et uint16) {
	if at+6 > len(d) {
		return
	}
	p.Layers |= PPPoE
	p.PPPoEAt = uint16(at)
	p.L2End = uint16(at + 6)
	if et != etPPPoESession {
		return
	}
	if end := at + 6 + int(be16(d, at+4)); end < int(p.End) {
		p.End = uint32(end)
		d = d[:min(len(d), end)]
	}
	p.ppp(d, at+6)
}

// serial decodes what a synchronous line carries: PPP, whose address and control fields may be left out (RFC 1661, 6.6), or Cisco HDLC, told by
// its first byte.
func (p *Packet) serial(d []byte, at int) {
	if at+2 > len(d) {
		return
	}
	switch {
	case d[at] == 0x0f || d[at] == 0x8f:
		p.chdlc(d, at)
	case d[at] == 0xff:
		p.ppp(d, at+2)
	default:
		p.ppp(d, at)
	}
}

// chdlc decodes Cisco HDLC: address, control, EtherType.
func (p *Packet) chdlc(d []byte, at int) {
	if at+4 <= len(d) {
		p.etherType(d, be16(d, at+2), at+4)
	}
}

// ppp decodes a PPP header from the protocol field on, which may be one byte (RFC 1661, 6.5).
func (p *Packet) ppp(d []byte, at int) {
	if at+2 > len(d) {
		return
	}
	proto := be16(d, at)
	if d[at]&1 != 0 {
		proto = uint16(d[at])
		at--
	}
	at += 2
	p.L2End = uint16(at)
	switch proto {
	case 0x0021:
		p.ip(d, at)
	case 0x0057:
		p.ipv6(d, at)
	case 0x0281, 0x0283:
		p.mpls(d, at)
	}
}

// mpls decodes a label stack (RFC 3032) and guesses what it carries, which nothing in the stack tells: the first nibble says IPv4 or IPv6,
// else it may be an Ethernet pseudo-wire.
func (p *Packet) mpls(d []byte, at int) {
	p.MPLSAt = uint16(at)
	bottom := false
	for !bottom && at+4 <= len(d) && p.Labels < 255 {
		p.Labels++
		bottom = d[at+2]&1 != 0
		at += 4
	}
	if p.Labels == 0 {
		return
	}
	p.Layers |= MPLS
	p.L2End = uint16(at)
	if !bottom || at >= len(d) {
		return
	}
	switch d[at] >> 4 {
	case 4:
		p.ipv4(d, at)
	case 6:
		p.ipv6(d, at)
	case 1:
		p.channel(d, at)
	default:
		p.pseudoWire(d, at)
	}
}

// channel steps over an associated channel header (RFC 5586). Its channel type names IP as PPP does (RFC 4385, 6).
func (p *Packet) channel(d []byte, at int) {
	if at+4 >= len(d) {
		return
	}
	switch be16(d, at+2) {
	case 0x0021:
		p.ipv4(d, at+4)
	case 0x0057:
		p.ipv6(d, at+4)
	}
}

// pseudoWire guesses whether Ethernet follows the label stack, after a control word (RFC 4448, 4.6) or at once. A known type field or a
// length that fits decides. The IP header that Ethernet carries is the outermost one of the frame, as without a pseudo-wire; the addresses and tags
// before it are reached with Inner.
func (p *Packet) pseudoWire(d []byte, at int) {
	switch {
	case d[at]>>4 == 0 && looksLikeEthernet(d, at+4):
		at += 4
	case !looksLikeEthernet(d, at):
		return
	}
	p.tunnel(PseudoWire, LinkEthernet, at)
	et := be16(d, at+12)
	at += 14
	for (et == etVLAN || et == etQinQ || et == etQinQOld) && at+4 <= len(d) {
		et = be16(d, at+2)
		at += 4
	}
	switch et {
	case etIPv4:
		p.ip(d, at)
	case etIPv6:
		p.ipv6(d, at)
	}
}

func looksLikeEthernet(d []byte, at int) bool {
	if at+14 > len(d) {
		return false
	}
	switch et := be16(d, at+12); et {
	case etIPv4, etIPv6, etARP, etVLAN, etQinQ, etQinQOld, etMPLS, etPPPoE, etPPPoESession, 0x88cc, 0x8809, 0x88f7, 0x8892, 0x8902:
		return true
	default:
		return et >= 3 && et <= maxLength && at+14+int(et) <= len(d)
	}
}

// tunnel notes a tunnel whose header is captured, and what it carries if that begins within the captured packet.
func (p *Packet) tunnel(kind TunnelKind, link LinkType, at int) {
	p.Tunnel = kind
	if at >= int(p.End) || at >= maxOffset {
		return
	}
	p.Layers |= Tunnel
	p.InnerLink, p.InnerAt = link, uint16(at)
}

// Inner decodes what the tunnel of p carries into q and reports whether there is a tunnel. q borrows the bytes of p; its Frame
// has the inner captured and wire length and p's time, interface and flags. p and q may be the same. Called on its own result until it
// reports false it ends, because every tunnel has a header.
func (p *Packet) Inner(q *Packet) bool {
	if p.Layers&Tunnel == 0 {
		return false
	}
	at := uint32(p.InnerAt)
	wire := p.wireEnd()
	f := p.Frame
	f.Data = f.Data[at:p.End]
	f.Len = max(wire, p.End) - at
	link := p.InnerLink
	q.Frame = f
	q.Decode(link)
	return true
}

// wireEnd returns where the IP packet ended on the wire, which may lie beyond what was captured.
func (p *Packet) wireEnd() uint32 {
	end := p.Len
	switch {
	case p.Layers&IPv4 != 0:
		if n := uint32(be16(p.Data, int(p.L3)+2)); n != 0 {
			end = min(end, uint32(p.L3)+n)
		}
	case p.Layers&IPv6 != 0:
		if n := uint32(be16(p.Data, int(p.L3)+4)); n != 0 {
			end = min(end, uint32(p.L3)+40+n)
		}
	}
	return end
}
