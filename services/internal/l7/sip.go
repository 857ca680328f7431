package l7

import "bytes"

// inspectSIP knows requests and responses of SIP (RFC 3261 section 7).
func inspectSIP(v *payload) answer {
	b := v.data
	if v.tcp {
		for len(b) > 1 && b[0] == '\r' && b[1] == '\n' { // keep-alives before the message (RFC 5626 section 3.5.1)
			b = b[2:]
		}
	}
	line, _, whole := cutLine(b)
	if hasPrefix(line, "SIP/2.0") {
		if len(line) >= 11 && line[7] == ' ' && digits(line[8:11]) {
			return answer{outcome: final}
		}
		return sipMore(v, whole)
	}
	if !whole && len(line) < 24 {
		if a := sipMore(v, false); a.outcome == more {
			return a
		}
	}
	n := token(line)
	if n < 3 || n > 16 || n+5 > len(line) || line[n] != ' ' || !sipTarget(line[n+1:]) {
		return answer{}
	}
	if whole {
		if len(line) > 8 && string(line[len(line)-8:]) == " SIP/2.0" {
			return answer{outcome: final}
		}
		return answer{}
	}
	if v.cut && bytes.IndexByte(line[n+1:], ' ') < 0 && len(line) > 32 {
		return answer{outcome: final}
	}
	return sipMore(v, whole)
}

// sipMore waits for the rest of a line that may become the first one of a message.
func sipMore(v *payload, whole bool) answer {
	if whole || !v.tcp || !mayBegin(v.data) {
		return answer{}
	}
	return answer{outcome: more}
}

// watchSIP follows the messages of a flow of SIP, and notes which calls a packet belongs to.
func watchSIP(v *payload) {
	c := &v.worker.calls
	switch {
	case !v.tcp:
		c.datagram(v.dir, v.packet, v.now)
	case v.joined && c.first(v.flow.ID, v.dir, v.base, v.data, v.now): // packets before this one wait for the first message
	default:
		c.segment(v.flow.ID, v.dir, v.seq, v.packet, v.now)
	}
}
