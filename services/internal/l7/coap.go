package l7

// inspectCoAP knows messages of CoAP (RFC 7252 section 3) by options that fill the message up to its payload. Elsewhere than at its ports both directions
// must have the form, and the request must name a path.
func inspectCoAP(v *payload) answer {
	named, ok := coapMessage(v.data)
	switch {
	case !ok:
		return answer{}
	case v.on(5683) || v.on(5684) && named:
		return answer{outcome: final}
	}
	m := v.memory()
	if m == nil {
		return answer{}
	}
	if m[0] != 0 && m[0] != v.dir+1 && (named || m[1] != 0) && string(m[2:4]) == string(v.data[2:4]) {
		return answer{outcome: final} // an answer with the message's number
	}
	if m[0] == 0 {
		m[0], m[2], m[3] = v.dir+1, v.data[2], v.data[3]
		if named {
			m[1] = 1
		}
	}
	return answer{outcome: weak}
}

// coap is the number of COAP in signatures/network.toml.
const coap ID = 537

// coapMessage reports whether b is a message, and whether it has a path among its options.
func coapMessage(b []byte) (named, ok bool) {
	if len(b) < 4 || b[0]>>6 != 1 || b[0]&15 > 8 {
		return false, false
	}
	class, detail, kind := b[1]>>5, b[1]&31, b[0]>>4&3
	switch {
	case b[1] == 0: // empty: acknowledgement, reset, ping
		return false, len(b) == 4 && b[0]&15 == 0
	case class == 0 && (detail > 7 || kind > 1), class == 1, class == 3, class > 5, class >= 2 && kind == 3:
		return false, false
	}
	at, option := 4+int(b[0]&15), 0
	if at > len(b) {
		return false, false
	}
	for at < len(b) && b[at] != 0xff {
		delta, next := coapNibble(b, at+1, int(b[at]>>4))
		size, end := coapNibble(b, next, int(b[at]&15))
		if next < 0 || end < 0 || end+size > len(b) {
			return false, false
		}
		if option += delta; option > 65535 {
			return false, false
		}
		if option == 11 && size > 0 { // Uri-Path
			named = true
		}
		at = end + size
	}
	return named, at < len(b)-1 || at == len(b)
}

// coapNibble reads an option's delta or length whose first four bits are n, and returns where the next part begins, -1 if it is none.
func coapNibble(b []byte, at, n int) (value, next int) {
	switch {
	case at < 0 || n == 15:
	case n < 13:
		return n, at
	case n == 13 && at < len(b):
		return 13 + int(b[at]), at + 1
	case n == 14 && at+1 < len(b):
		return 269 + int(b[at])<<8 + int(b[at+1]), at + 2
	}
	return 0, -1
}
