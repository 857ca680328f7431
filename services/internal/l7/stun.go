package l7

import "encoding/binary"

// inspectSTUN knows STUN by its magic cookie (RFC 8489 section 5), or in its first form (RFC 3489) by attributes that fill the message. What comes on the
// same flow may be RTP or DTLS: then the flow carries that.
func inspectSTUN(v *payload) answer {
	b := v.data
	if stateOf(&v.flow.L7) == Partial {
		return inspectBehindSTUN(v)
	}
	if v.tcp && len(b) >= 22 && int(binary.BigEndian.Uint16(b)) >= 20 && binary.BigEndian.Uint32(b[6:]) == stunCookie {
		b = b[2:] // RFC 4571 framing, as ICE over TCP has it
	}
	if len(b) < 20 || b[0]&0xc0 != 0 {
		return answer{}
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n%4 != 0 || n+20 > len(b) && !v.cut {
		return answer{}
	}
	if binary.BigEndian.Uint32(b[4:]) == stunCookie {
		if v.tcp {
			return answer{outcome: final}
		}
		return answer{outcome: carrier}
	}
	if v.tcp || n+20 != len(b) || n == 0 && !v.on(3478) || !stunMethod(binary.BigEndian.Uint16(b)) || !stunAttributes(b[20:]) {
		return answer{}
	}
	return answer{outcome: carrier}
}

const stunCookie = 0x2112a442

// inspectBehindSTUN looks for what a flow that began with STUN is for.
func inspectBehindSTUN(v *payload) answer {
	hint := v.memory()
	switch {
	case hint == nil, isRTCP(v.data, v.cut):
	case v.data[0] >= tlsCipherSpec && v.data[0] <= 25:
		if inspectDTLS(v).outcome == final {
			return answer{outcome: final, app: DTLS}
		}
	case isRTP(v.data):
		if a := rtpStream(v, hint); a.outcome == final {
			return answer{outcome: final, app: RTP}
		}
	}
	return answer{outcome: weak}
}

// stunMethod reports whether a message type is one of RFC 3489: binding and shared secret.
func stunMethod(t uint16) bool { return t&^0x0110 == 1 || t&^0x0110 == 2 }

// stunAttributes reports whether b is a list of attributes of RFC 3489 to its end.
func stunAttributes(b []byte) bool {
	for len(b) >= 4 {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		n = (n + 3) &^ 3
		if kind == 0 || kind > 0x30 && kind < 0x8000 || 4+n > len(b) {
			return false
		}
		b = b[4+n:]
	}
	return len(b) == 0
}
