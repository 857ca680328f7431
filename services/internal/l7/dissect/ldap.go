package dissect

// inspectLDAP knows messages of LDAP (RFC 4511 section 4.1.1), over UDP those of CLDAP, by their BER: a sequence of a number and an operation. TLS may follow
// (section 4.14).
func inspectLDAP(v *Payload) Answer {
	b := v.Data
	if v.Carrier != 0 {
		return inspectCarried(v)
	}
	if b[0] != 0x30 {
		return Answer{}
	}
	n, at := berLength(b, 1)
	if len(b) < 16 && v.Begun && v.Nth <= 2 && !v.Cut && (at < 0 && len(b) < 6 || at >= 0 && at+n > len(b)) {
		return Answer{Outcome: More}
	}
	if at < 0 || n < 5 || at+n < len(b) && b[at+n] != 0x30 || at+n > len(b) && !v.TCP && !v.Cut {
		return Answer{}
	}
	end := at + n
	if at+3 > len(b) || b[at] != 2 || b[at+1] < 1 || b[at+1] > 4 || b[at+2] > 0x7f {
		return Answer{}
	}
	at += 2 + int(b[at+1])
	if at+2 > len(b) || !ldapOperation(b[at]) {
		return Answer{}
	}
	n, next := berLength(b, at+1)
	if next < 0 || next+n > end || next+n < end && b[min(next+n, len(b)-1)] != 0xa0 && next+n < len(b) { // controls may follow
		return Answer{}
	}
	if v.TCP {
		return Answer{Outcome: Carrier}
	}
	return Answer{Outcome: Final}
}

// ldapOperation reports whether a tag is that of an operation: application class, from bind (0) to intermediate response (25).
func ldapOperation(tag byte) bool {
	switch tag {
	case 0x42, 0x4a, 0x50: // unbind, delete, abandon are primitive
		return true
	}
	n := tag & 31
	return tag&0xe0 == 0x60 && n <= 25 && n != 2 && n != 10 && (n < 16 || n == 19 || n > 22)
}
