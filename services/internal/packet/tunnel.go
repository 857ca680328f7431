package packet

// udpTunnels are the tunnels over UDP by port. Ports are only a hint, in either direction: each header is checked as far as its specification allows.
var udpTunnels = [...]struct {
	port   uint16
	decode func(p *Packet, d []byte, at int)
}{
	{1701, (*Packet).l2tp},
	{2152, (*Packet).gtpu},
	{4789, (*Packet).vxlan},
	{4790, (*Packet).vxlanGPE},
	{6081, (*Packet).geneve},
	{8472, (*Packet).vxlan}, // Linux before the port was assigned
}

// tunnelPort holds bits 5 to 10 of the ports above: one look spares most datagrams the search.
var tunnelPort = [64]bool{1701 >> 5 & 63: true, 2152 >> 5 & 63: true, 4789 >> 5 & 63: true, 6081 >> 5 & 63: true, 8472 >> 5 & 63: true}

// udpTunnel looks for a tunnel header at d[at:], where d ends with the datagram.
func (p *Packet) udpTunnel(d []byte, at int) {
	for _, t := range udpTunnels {
		if p.DstPort == t.port || p.SrcPort == t.port {
			t.decode(p, d, at)
			return
		}
	}
}

// vxlan follows RFC 7348: the I flag must be set; the other flags are ignored, as a receiver must.
func (p *Packet) vxlan(d []byte, at int) {
	if at+7 <= len(d) && d[at]&8 != 0 {
		p.tunnel(VXLAN, LinkEthernet, at+8)
	}
}

// vxlanGPE follows draft-ietf-nvo3-vxlan-gpe: a byte names what is carried, with or without the P flag that should say so.
func (p *Packet) vxlanGPE(d []byte, at int) {
	if at+7 > len(d) || d[at]&8 == 0 {
		return
	}
	p.Tunnel = VXLAN
	switch d[at+3] {
	case 0, 3:
		p.tunnel(VXLAN, LinkEthernet, at+8)
	case 1:
		p.tunnel(VXLAN, etIPv4, at+8)
	case 2:
		p.tunnel(VXLAN, LinkIPv6, at+8)
	case 4:
		p.tunnel(VXLAN, etNSH, at+8)
	case 5:
		p.tunnel(VXLAN, etMPLS, at+8)
	}
}

// geneve follows RFC 8926: version 0, options, then what an EtherType says.
func (p *Packet) geneve(d []byte, at int) {
	if at+7 > len(d) || d[at]>>6 != 0 {
		return
	}
	p.etherTunnel(Geneve, be16(d, at+2), at+8+int(d[at]&63)*4)
}

// etherTunnel is a tunnel whose header tells the EtherType of what it carries.
func (p *Packet) etherTunnel(kind TunnelKind, et uint16, at int) {
	p.Tunnel = kind
	switch et {
	case etTEB:
		p.tunnel(kind, LinkEthernet, at)
	case etPPP:
		p.tunnel(kind, LinkPPP, at)
	case etIPv4, etIPv6, etMPLS, etMPLSMulti, etARP, etVLAN, etQinQ, etNSH:
		p.tunnel(kind, LinkType(et), at)
	}
}

// gtpu follows 3GPP TS 29.281: version 1, protocol type GTP; messages of type G-PDU carry IP.
func (p *Packet) gtpu(d []byte, at int) {
	if at+8 > len(d) || d[at]>>4 != 3 {
		return
	}
	flags := d[at]
	switch d[at+1] {
	case 1, 2, 26, 31, 254: // echo, error indication, extension headers notification, end marker
		p.Tunnel = GTPU
		return
	case 255:
		p.Tunnel = GTPU
	default:
		return
	}
	at += 8
	if flags&7 != 0 {
		at += 4
		if at > len(d) {
			return
		}
		for next := d[at-1]; flags&4 != 0 && next != 0; {
			if at >= len(d) || d[at] == 0 || at+int(d[at])*4 > len(d) {
				return
			}
			at += int(d[at]) * 4
			next = d[at-1]
		}
	}
	if at < len(d) && (d[at]>>4 == 4 || d[at]>>4 == 6) {
		p.tunnel(GTPU, LinkRaw, at)
	}
}

// l2tp follows RFC 2661, 3.1: version 2 data messages carry PPP.
func (p *Packet) l2tp(d []byte, at int) {
	if at+2 > len(d) || d[at+1]&15 != 2 || d[at]&0x80 != 0 {
		return
	}
	flags := d[at]
	at += 6
	if flags&0x40 != 0 {
		at += 2
	}
	if flags&0x08 != 0 {
		at += 4
	}
	if flags&0x02 != 0 {
		if at+2 > len(d) {
			return
		}
		at += 2 + int(be16(d, at))
	}
	if at+2 <= len(d) {
		p.tunnel(L2TP, LinkPPP, at)
	}
}

// gre follows RFC 1701, 2784, 2890 and for version 1 RFC 2637.
func (p *Packet) gre(d []byte, at int) {
	if at+4 > len(d) {
		return
	}
	p.Layers |= GRE
	flags, et := be16(d, at), be16(d, at+2)
	body := greEnd(d, at, flags)
	if body < 0 {
		return
	}
	switch et {
	case etERSPAN2:
		if flags&0x1000 == 0 {
			p.tunnel(ERSPAN1, LinkEthernet, body)
		} else if body+4 <= len(d) && d[body]>>4 == 1 {
			p.tunnel(ERSPAN2, LinkEthernet, body+8)
		}
	case etERSPAN3:
		p.erspan3(d, body)
	case etWCCP: // version 2 puts a redirect header of 4 bytes before IPv4
		if body < len(d) && d[body]>>4 != 4 {
			body += 4
		}
		if body <= len(d) {
			p.tunnel(GREPlain, etIPv4, body)
		}
	default:
		p.etherTunnel(GREPlain, et, body)
	}
}

// greEnd returns where the GRE header at d[at:] ends, or -1 if that is not captured.
func greEnd(d []byte, at int, flags uint16) int {
	at += 4
	if flags&0xc000 != 0 { // checksum, routing: both bring both fields
		at += 4
	}
	if flags&0x2000 != 0 { // key
		at += 4
	}
	if flags&0x1000 != 0 { // sequence number
		at += 4
	}
	if flags&7 == 1 && flags&0x80 != 0 { // acknowledgment number of version 1
		at += 4
	}
	for flags&0x4000 != 0 { // source route entries end with one of length 0
		if at+4 > len(d) {
			return -1
		}
		n := int(d[at+3])
		at += 4 + n
		if n == 0 {
			break
		}
	}
	if at > len(d) {
		return -1
	}
	return at
}

// erspan3 follows draft-foschiano-erspan: 12 bytes and 8 more if the O flag is set; frame type 0 is Ethernet, 2 is IP.
func (p *Packet) erspan3(d []byte, at int) {
	if at+4 > len(d) || d[at]>>4 != 2 {
		return
	}
	p.Tunnel = ERSPAN3
	if at+12 > len(d) {
		return
	}
	body := at + 12
	if d[at+11]&1 != 0 {
		body += 8
	}
	switch d[at+10] >> 2 & 31 {
	case 0:
		p.tunnel(ERSPAN3, LinkEthernet, body)
	case 2:
		p.tunnel(ERSPAN3, LinkRaw, body)
	}
}
