package packet

// Bits of the frame control field of IEEE 802.11, section 9.2.4.1, and of the QoS control field, 9.2.4.5.
const (
	wirelessTypes   = 0x0f // version and type, of the first byte
	wirelessData    = 0x08
	wirelessNoData  = 0x40
	wirelessQoS     = 0x80
	wirelessDS      = 0x03 // to and from the distribution system, of the second byte: both, and there are four addresses
	wirelessFromDS  = 0x02
	wirelessHidden  = 0x40 // encrypted
	wirelessOrder   = 0x80 // with QoS: there is an HT control field
	qosAggregate    = 0x80 // several MSDUs
	qosMesh         = 0x01 // of its second byte: mesh control comes before what is carried
	wirelessSeqCtrl = 22   // sequence control, whose lower four bits number fragments
)

// wireless decodes an IEEE 802.11 data frame at d[at:] that begins an MSDU and is not encrypted: LLC follows. The header may be padded to words.
func (p *Packet) wireless(d []byte, at int, padded bool) {
	if at+24 > len(d) || d[at]&wirelessTypes != wirelessData || d[at]&wirelessNoData != 0 || d[at+1]&wirelessHidden != 0 || d[at+wirelessSeqCtrl]&0x0f != 0 {
		return
	}
	kind, flags := d[at], d[at+1]
	first := at
	at += 24
	if flags&wirelessDS == wirelessDS {
		at += 6
	}
	aggregate, mesh := false, false
	if kind&wirelessQoS != 0 {
		if at+2 > len(d) {
			return
		}
		aggregate, mesh = d[at]&qosAggregate != 0, d[at+1]&qosMesh != 0
		at += 2
		if flags&wirelessOrder != 0 {
			at += 4
		}
	}
	if padded {
		at += -(at - first) & 3
	}
	if flags&wirelessFromDS != 0 {
		at += meshControl(d, at, mesh)
	}
	if aggregate { // what counts is the first one; each has addresses and a length before it
		at += 14
	}
	p.llc(d, at)
}

// meshControl returns the length of the mesh control (IEEE 802.11, 9.2.4.7.3) at d[at:]: flags, time to live, sequence number and up to two addresses. Drivers put the
// QoS field, which tells whether there is one, in later or set it wrong; so, as for Wireshark, LLC behind it tells, and said is asked only where that is not captured.
func meshControl(d []byte, at int, said bool) int {
	const addresses = 3
	if at >= len(d) || d[at] >= addresses {
		return 0
	}
	n := 6 + 6*int(d[at])
	if at+n+2 <= len(d) && be16(d, at+n) != 0xaaaa || at+n+2 > len(d) && !said {
		return 0
	}
	return n
}

// prism follows the header of 144 bytes of a Prism chip's driver, in the byte order of the writer. Others may come in its place, or none.
func prism(d []byte) (LinkType, int) {
	if len(d) < 4 {
		return nowhere, 0
	}
	switch be32(d, 0) {
	case 0x80211001, 0x80211002:
		return avs(d)
	case 0x44, 0x41, 0x44000000, 0x41000000:
		return LinkWireless, 144
	}
	return LinkWireless, 0
}

// avs follows the header of the AVS project's drivers: a magic number and the length.
func avs(d []byte) (LinkType, int) {
	if len(d) < 8 {
		return nowhere, 0
	}
	return sized(LinkWireless, be32(d, 4), 8)
}

// radiotap follows www.radiotap.org: version 0, padding, the length, and words of which each bit stands for a field; the last bit of a word for another word. A flag in the second
// field, which the first one, of eight bytes, may precede, tells that the header of the frame is padded to words.
func radiotap(d []byte) (LinkType, int) {
	const more, clock, flags, padded = 1 << 31, 1, 2, 0x20
	if len(d) < 8 || d[0] != 0 {
		return nowhere, 0
	}
	fields, at := le32(d, 4), 8
	for word := fields; word&more != 0 && at+4 <= len(d); at += 4 {
		word = le32(d, at)
	}
	if fields&clock != 0 {
		at = (at+7)&^7 + 8
	}
	next := LinkWireless
	if fields&flags != 0 && at < len(d) && d[at]&padded != 0 {
		next = linkPadded
	}
	return sized(next, uint32(le16(d, 2)), 8)
}
