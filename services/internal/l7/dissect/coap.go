package dissect

// inspectCOAP knows CoAP (RFC 7252 section 3) by a header and options that make sense, at its port; elsewhere by a request that names a resource and the
// acknowledgement of the same message.
func inspectCOAP(v *Payload) Answer {
	b := v.Data
	resource, ok := coapMessage(b)
	if !ok {
		return Answer{}
	}
	if v.on(5683) {
		return Answer{Outcome: Final}
	}
	m := v.memory()
	if m == nil {
		return Answer{}
	}
	const acknowledgement = 2
	switch {
	case resource:
		*m = [4]byte{b[2], b[3], v.Dir + 1}
		return Answer{Outcome: Weak}
	case m[2] != 0 && m[2] != v.Dir+1 && b[2] == m[0] && b[3] == m[1] && b[0]>>4&3 == acknowledgement:
		return Answer{Outcome: Final}
	case m[2] != 0:
		return Answer{Outcome: Weak}
	}
	return Answer{}
}

// coapMessage reports whether b is a message of CoAP, and whether it is a request that names a resource.
func coapMessage(b []byte) (resource, ok bool) {
	const hostOption, pathOption, acknowledgement = 3, 11, 2
	if len(b) < 4 || b[0]>>6 != 1 || b[0]&15 > 8 {
		return false, false
	}
	switch class, detail := b[1]>>5, b[1]&31; {
	case b[1] == 0:
		return false, len(b) == 4 && b[0]&15 == 0
	case class == 0 && (detail > 7 || b[0]>>4&3 >= acknowledgement), class == 1, class == 2 && detail > 5 && detail != 31, class == 3, class == 4 && detail > 22 && detail != 29, class == 5 && detail > 8, class > 5 && class != 7:
		return false, false
	}
	at, option := 4+int(b[0]&15), 0
	for at < len(b) {
		if b[at] == 0xff {
			return resource && b[1] < 32, at+1 < len(b)
		}
		var n [2]int
		head := b[at]
		at++
		for i, nibble := range [2]int{int(head >> 4), int(head & 15)} {
			switch n[i] = nibble; {
			case nibble == 13 && at < len(b):
				n[i] = int(b[at]) + 13
				at++
			case nibble == 14 && at+1 < len(b):
				n[i] = int(b[at])<<8 + int(b[at+1]) + 269
				at += 2
			case nibble >= 13:
				return false, false
			}
		}
		option += n[0]
		if at+n[1] > len(b) || !coapOption(option, b[at:at+n[1]]) {
			return false, false
		}
		at += n[1]
		resource = resource || option == pathOption || option == hostOption
	}
	return resource && b[1] < 32, at == len(b)
}

// coapOptions are the registered options (RFC 7252 section 5.10, 7641, 7959, 7967, 8613, 8768, 9175, 9668) with the most bytes that their values have.
var coapOptions = map[int]struct {
	most int
	text bool
}{
	1: {8, false}, 3: {255, true}, 4: {8, false}, 5: {0, false}, 6: {3, false}, 7: {2, false}, 8: {255, true}, 9: {255, false}, 11: {255, true}, 12: {2, false}, 14: {4, false},
	15: {255, true}, 16: {1, false}, 17: {2, false}, 19: {3, false}, 20: {255, true}, 21: {0, false}, 23: {3, false}, 27: {3, false}, 28: {4, false}, 31: {3, false},
	35: {1034, true}, 39: {255, true}, 60: {4, false}, 252: {40, false}, 258: {1, false}, 292: {8, false},
}

// coapOption reports whether an option is registered and its value may be one. The numbers of early drafts are borne where the value is text.
func coapOption(n int, value []byte) bool {
	o, ok := coapOptions[n]
	if !ok && n < 32 && len(value) >= 3 {
		o.most, o.text = 64, true
	}
	if len(value) > o.most || !ok && !o.text {
		return false
	}
	for _, c := range value {
		if o.text && c < ' ' {
			return false
		}
	}
	return true
}
