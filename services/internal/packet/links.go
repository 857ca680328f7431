package packet

import "encoding/binary"

// frameRelay decodes an address of two to four bytes (Q.922) and what follows it: the control field of unnumbered information with a network layer
// protocol identifier (RFC 2427), or Cisco's encapsulation, an EtherType at once.
func (p *Packet) frameRelay(d []byte) {
	at := 1
	for at < 3 && at < len(d) && d[at]&1 == 0 {
		at++
	}
	at++
	if at+2 > len(d) || d[0]&1 != 0 || d[at-1]&1 == 0 {
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

// radiotap skips the header of www.radiotap.org, which has its length in little endian after version and padding.
func (p *Packet) radiotap(d []byte) {
	if len(d) >= 8 && d[0] == 0 {
		if n := int(binary.LittleEndian.Uint16(d[2:])); n >= 8 {
			p.wireless(d, n)
		}
	}
}

// prism skips the header that Prism drivers put before IEEE 802.11, which has always one size, or that of AVS, which has its version and length.
func (p *Packet) prism(d []byte) {
	if len(d) < 8 {
		return
	}
	size := 144
	if be32(d, 0)&0xfffff000 == 0x80211000 {
		size = int(min(be32(d, 4), maxOffset))
	}
	p.wireless(d, size)
}

// perPacket skips a header of Per-Packet Information: version, flags, length and link type in little endian.
func (p *Packet) perPacket(d []byte) {
	if len(d) < 8 || d[0] != 0 || binary.LittleEndian.Uint32(d[4:]) != uint32(LinkWireless) {
		return
	}
	if n := int(binary.LittleEndian.Uint16(d[2:])); n >= 8 {
		p.wireless(d, n)
	}
}

// tokenRing decodes a frame of IEEE 802.5 that carries LLC: access control, frame control, two addresses, and a route where the source's group
// bit is set.
func (p *Packet) tokenRing(d []byte) {
	if len(d) < 14 || d[1]>>6 != 1 {
		return
	}
	at := 14
	if d[8]&0x80 != 0 {
		if len(d) < 16 {
			return
		}
		at += int(d[14] & 0x1f)
	}
	p.llc(d, at)
}

// Bits of the frame control field of IEEE 802.11, section 9.2.4.1, and of the QoS control field, 9.2.4.5.
const (
	wirelessTypes   = 0x0f // version and type, of the first byte
	wirelessData    = 0x08
	wirelessNoData  = 0x40
	wirelessQoS     = 0x80
	wirelessFromDS  = 0x02
	wirelessDS      = 0x03 // to and from the distribution system, of the second byte: both, and there are four addresses
	wirelessHidden  = 0x40 // encrypted
	wirelessOrder   = 0x80 // with QoS: there is an HT control field
	qosAggregate    = 0x80 // several MSDUs
	qosMesh         = 0x01 // of its second byte: mesh control comes before LLC, if the frame comes from a distribution system
	wirelessSeqCtrl = 22   // sequence control, whose lower four bits number fragments
)

// wireless decodes an IEEE 802.11 data frame at d[at:] that begins an MSDU and is not encrypted: LLC follows.
func (p *Packet) wireless(d []byte, at int) {
	if at+24 > len(d) || d[at]&wirelessTypes != wirelessData || d[at]&wirelessNoData != 0 || d[at+1]&wirelessHidden != 0 || d[at+wirelessSeqCtrl]&0x0f != 0 {
		return
	}
	kind, flags := d[at], d[at+1]
	at += 24
	if flags&wirelessDS == wirelessDS {
		at += 6
	}
	if kind&wirelessQoS != 0 {
		if at+2 > len(d) {
			return
		}
		aggregate, mesh := d[at]&qosAggregate != 0, flags&wirelessFromDS != 0 && d[at+1]&qosMesh != 0
		at += 2
		if flags&wirelessOrder != 0 {
			at += 4
		}
		if aggregate { // what counts is the first one; each has addresses and a length before it
			at += 14
		}
		if mesh {
			at += meshControl(d, at)
		}
	}
	p.llc(d, at)
}

// meshControl returns the size of the mesh control field at d[at:] (IEEE 802.11, 9.2.4.7.3): flags, time to live, a sequence number and the
// addresses that the flags tell. Flags that nobody has defined say that there is none.
func meshControl(d []byte, at int) int {
	if at >= len(d) || d[at] > 2 {
		return 0
	}
	return 6 + 6*int(d[at])
}

// nflog decodes what Linux' netfilter logs: four bytes, and fields of length and type in the writer's byte order, one of which is the packet.
func (p *Packet) nflog(d []byte) {
	const payload = 9 // NFULA_PAYLOAD
	for at := 4; at+4 <= len(d); {
		n, kind := int(binary.LittleEndian.Uint16(d[at:])), binary.LittleEndian.Uint16(d[at+2:])
		if kind > 0xff { // none is that large: it is big endian
			n, kind = int(be16(d, at)), be16(d, at+2)
		}
		if n < 4 {
			return
		}
		if kind == payload {
			p.setL2End(d, at+4)
			p.ip(d, at+4)
			return
		}
		at += (n + 3) &^ 3
	}
}
