package dissect

// inspectSNMP knows messages of SNMPv1, v2c (RFC 1157, 3416) and v3 (RFC 3412) by the ASN.1 that they begin with.
func inspectSNMP(v *Payload) Answer {
	b := v.Data
	if len(b) < 12 || b[0] != 0x30 {
		return Answer{}
	}
	n, at := berLength(b, 1)
	if at < 0 || n != len(b)-at && !(v.Cut && n > len(b)-at) {
		return Answer{}
	}
	if at+5 > len(b) || b[at] != 2 || b[at+1] != 1 {
		return Answer{}
	}
	version := b[at+2]
	at += 3
	switch version {
	case 0, 1:
		return yes(communityMessage(b, at, v.Cut))
	case 3:
		return yes(b[at] == 0x30 && b[at+1] >= 12 && at+2 < len(b) && b[at+2] == 2)
	}
	return Answer{}
}

// communityMessage reports whether a community and a PDU are at b[at:].
func communityMessage(b []byte, at int, cut bool) bool {
	if b[at] != 4 {
		return false
	}
	n, at := berLength(b, at+1)
	if at < 0 || at+n >= len(b) {
		return cut && at > 0
	}
	at += n
	return b[at] >= 0xa0 && b[at] <= 0xa8
}

// berLength reads a length of the Basic Encoding Rules (X.690 section 8.1.3) of at most 4 bytes, and returns where it ends, -1 if it is none.
func berLength(b []byte, at int) (n, end int) {
	if at >= len(b) {
		return 0, -1
	}
	if b[at] < 0x80 {
		return int(b[at]), at + 1
	}
	width := int(b[at] & 0x7f)
	if width == 0 || width > 4 || at+1+width > len(b) {
		return 0, -1
	}
	for _, c := range b[at+1 : at+1+width] {
		n = n<<8 | int(c)
	}
	if n < 0 || n > 1<<24 {
		return 0, -1
	}
	return n, at + 1 + width
}
