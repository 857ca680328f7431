package dissect

import "encoding/binary"

// inspectEtherCAT knows EtherCAT in UDP (ETG.1000.4 section 5.1) by its header, whose length is that of the rest, and by datagrams that fill it.
func inspectEtherCAT(v *Payload) Answer {
	const header, datagram, counter = 2, 10, 2
	b := v.Data
	if len(b) < header+datagram+counter {
		return Answer{}
	}
	head := binary.LittleEndian.Uint16(b)
	size := int(head & 0x7ff)
	if head>>12 != 1 || head&0x800 != 0 || header+size > len(b) || header+size != len(b) && size != 44 { // short frames are padded
		return Answer{}
	}
	for at := header; ; {
		if at+datagram+counter > header+size || b[at] > 14 {
			return Answer{}
		}
		length := binary.LittleEndian.Uint16(b[at+6:])
		if length&0x3800 != 0 {
			return Answer{}
		}
		at += datagram + int(length&0x7ff) + counter
		if length&0x8000 == 0 {
			return yes(at == header+size || at < header+size && v.on(0x88a4))
		}
	}
}
