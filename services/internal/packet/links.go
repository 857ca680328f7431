package packet

// frameRelay decodes an address of two to four bytes (Q.922) and what follows it: the control field of unnumbered information with a network layer
// protocol identifier (RFC 2427), or Cisco's encapsulation, an EtherType at once.
func (p *Packet) frameRelay(d []byte, at int) {
	first := at
	for at++; at < first+3 && at < len(d) && d[at]&1 == 0; {
		at++
	}
	at++
	if at+2 > len(d) || d[first]&1 != 0 || d[at-1]&1 == 0 {
		return
	}
	if d[at] != 0x03 {
		if et := be16(d, at); et >= minEtherType {
			p.etherType(d, et, at+2)
		}
		return
	}
	at++
	if d[at] == 0 { // padding, so that what follows SNAP is at an even place
		at++
	}
	if at >= len(d) {
		return
	}
	p.setL2End(d, at+1)
	switch d[at] {
	case 0x80:
		p.snap(d, at+1)
	case 0xcc:
		p.ip(d, at+1)
	case 0x8e:
		p.ipv6(d, at+1)
	}
}

// isl decodes a frame of Cisco's ISL at d[at:], which two addresses mark, and reports whether it is one. What is in it counts: Ethernet, after 26 bytes; there the length
// field counts from byte 14 on.
func (p *Packet) isl(d []byte, at int) bool {
	if to := mac(d[at:]) >> 8; to != 0x01000c0000 && to != 0x0c000c0000 {
		return false
	}
	n := int(be16(d, at+12))
	if end := at + 14 + n; n != 0 && end < len(d) {
		p.End = uint32(end)
		d = d[:end]
	}
	if d[at+5]>>4 == 0 {
		p.ethernet(d, at+26)
	}
	return true
}
