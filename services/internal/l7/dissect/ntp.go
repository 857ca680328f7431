package dissect

import "encoding/binary"

// inspectNTP knows NTP at its port: the fixed header with sensible fields (RFC 5905 section 7.3), control messages (RFC 9327) and those of mode 7. The format has
// no mark of its own, so elsewhere it is not looked for.
func inspectNTP(v *Payload) Answer {
	b := v.Data
	if !v.on(123) || len(b) < 8 {
		return Answer{}
	}
	version := b[0] >> 3 & 7
	switch mode := b[0] & 7; {
	case version == 0 || version > 4:
		return Answer{}
	case mode == 6:
		return yes(ntpControl(b))
	case mode == 7:
		return yes(ntpPrivate(b))
	case mode == 0 && version > 1 || len(b) < 48 && !v.Cut || len(b)%4 != 0 && !v.Cut || len(b) < 12:
		return Answer{}
	}
	poll, precision, delay, dispersion := int8(b[2]), int8(b[3]), b[4], b[8]
	return yes(b[1] <= 16 && poll >= -8 && poll <= 17 && precision <= 0 && precision >= -32 && (delay == 0 || delay == 0xff) && dispersion == 0)
}

// ntpControl judges a control message: an operation, and data of the length that it announces, with or without a key.
func ntpControl(b []byte) bool {
	if len(b) < 12 || b[1]&31 > 12 && b[1]&31 != 31 {
		return false
	}
	rest := len(b) - 12 - (int(binary.BigEndian.Uint16(b[10:]))+3)&^3
	return rest == 0 || rest >= 16 && rest <= 36 && rest%4 == 0
}

// ntpPrivate judges a message of mode 7: an implementation, and items that it has room for.
func ntpPrivate(b []byte) bool {
	items, size := int(binary.BigEndian.Uint16(b[4:]))&0xfff, int(binary.BigEndian.Uint16(b[6:]))
	return b[0]>>3&7 <= 3 && b[2] <= 3 && size < 512 && 8+items*size <= len(b) && len(b)%4 == 0
}
