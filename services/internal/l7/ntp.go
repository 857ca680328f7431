package l7

import "encoding/binary"

// inspectNTP knows NTP at its port: the fixed header with sensible fields (RFC 5905 section 7.3), control messages (RFC 9327) and those of mode 7. The format has
// no mark of its own, so elsewhere it is not looked for.
func inspectNTP(v *payload) answer {
	b := v.data
	if !v.on(123) || len(b) < 8 {
		return answer{}
	}
	version, mode := b[0]>>3&7, b[0]&7
	if mode == 7 {
		return yes(b[0]>>3&7 >= 1 && version <= 4 && len(b) >= 8 && (len(b) == 8 || len(b) >= 40 || b[0]&0x80 != 0))
	}
	if version == 0 || version > 4 {
		return answer{}
	}
	if mode == 6 {
		return yes(len(b) >= 12 && version >= 2 && b[1]&31 <= 31 && 12+int(binary.BigEndian.Uint16(b[10:])) <= len(b))
	}
	if len(b) < 48 && !v.cut || mode == 0 && version > 1 || b[1] > 16 || len(b)%4 != 0 && !v.cut {
		return answer{}
	}
	poll, precision := int8(b[2]), int8(b[3])
	return yes(poll >= -8 && poll <= 20 && precision <= 0 || precision <= 20 && b[1] == 0)
}

func yes(is bool) answer {
	if is {
		return answer{outcome: final}
	}
	return answer{}
}
