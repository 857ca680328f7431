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
