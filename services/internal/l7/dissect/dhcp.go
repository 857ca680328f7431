package dissect

import "encoding/binary"

// inspectDHCP knows DHCP by its cookie (RFC 2131), and BOOTP without one (RFC 951) by its fixed fields.
func inspectDHCP(v *Payload) Answer {
	b := v.Data
	if len(b) < 28 || b[2] > 16 {
		return Answer{}
	}
	if len(b) >= 240 {
		if binary.BigEndian.Uint32(b[236:]) == 0x63825363 {
			return Answer{Outcome: Final}
		}
	} else if !v.Cut {
		return Answer{}
	}
	if (v.on(67) || v.on(68)) && b[1] == 1 && b[2] == 6 && b[3] <= 16 && b[10]&0x7f == 0 && b[11] == 0 {
		return Answer{Outcome: Final}
	}
	return Answer{}
}
