package dissect

import "encoding/binary"

// inspectDHCPv6 knows DHCPv6 at its ports (RFC 8415 sections 8 and 9): a message type, and options to the end.
func inspectDHCPv6(v *Payload) Answer {
	b := v.Data
	if !v.on(546) && !v.on(547) || len(b) < 8 || b[0] == 0 || b[0] > 36 {
		return Answer{}
	}
	at := 4
	if b[0] == 12 || b[0] == 13 { // relayed: hop count and two addresses
		at = 34
	}
	for at+4 <= len(b) {
		if kind := binary.BigEndian.Uint16(b[at:]); kind == 0 || kind > 1024 {
			return Answer{}
		}
		at += 4 + int(binary.BigEndian.Uint16(b[at+2:]))
	}
	return yes(at == len(b) || v.Cut && at > len(b))
}
