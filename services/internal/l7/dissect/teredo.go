package dissect

import "encoding/binary"

// inspectTeredo knows IPv6 over UDP (RFC 4380 section 5.1.1) behind the optional authentication and origin indication: the IPv6 packet fills the datagram, and
// a port or an address is Teredo's.
func inspectTeredo(v *Payload) Answer {
	b := v.Data
	if len(b) >= 13 && b[0] == 0 && b[1] == 1 {
		n := 13 + int(b[2]) + int(b[3])
		if n > len(b) {
			return Answer{}
		}
		b = b[n:]
	}
	if len(b) >= 8 && b[0] == 0 && b[1] == 0 {
		b = b[8:]
	}
	if len(b) < 40 || b[0]>>4 != 6 {
		return Answer{}
	}
	if n := int(binary.BigEndian.Uint16(b[4:])) + 40; n != len(b) && !(v.Cut && n > len(b)) {
		return Answer{}
	}
	return yes(v.on(3544) || binary.BigEndian.Uint32(b[8:]) == 0x20010000 || binary.BigEndian.Uint32(b[24:]) == 0x20010000)
}
