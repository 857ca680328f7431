package dissect

import (
	"bytes"

	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/text"
)

// inspectSIP knows requests and responses of SIP (RFC 3261 section 7).
func inspectSIP(v *Payload) Answer {
	b := v.Data
	if v.TCP {
		for len(b) > 1 && b[0] == '\r' && b[1] == '\n' { // keep-alives before the message (RFC 5626 section 3.5.1)
			b = b[2:]
		}
	}
	line, _, whole := text.CutLine(b)
	if text.HasPrefix(line, "SIP/2.0") {
		if len(line) >= 11 && line[7] == ' ' && text.Digits(line[8:11]) {
			return Answer{Outcome: Final}
		}
		return sipMore(v, whole)
	}
	if !whole && len(line) < 24 {
		if a := sipMore(v, false); a.Outcome == More {
			return a
		}
	}
	n := token(line)
	if n < 3 || n > 16 || n+5 > len(line) || line[n] != ' ' || !call.IsTarget(line[n+1:]) {
		return Answer{}
	}
	if whole {
		if len(line) > 8 && string(line[len(line)-8:]) == " SIP/2.0" {
			return Answer{Outcome: Final}
		}
		return Answer{}
	}
	if v.Cut && bytes.IndexByte(line[n+1:], ' ') < 0 && len(line) > 32 {
		return Answer{Outcome: Final}
	}
	return sipMore(v, whole)
}

// sipMore waits for the rest of a line that may become the first one of a message.
func sipMore(v *Payload, whole bool) Answer {
	if whole || !v.TCP || !call.MayBegin(v.Data) {
		return Answer{}
	}
	return Answer{Outcome: More}
}

// watchSIP follows the messages of a flow of SIP, and notes which calls a packet belongs to.
func watchSIP(v *Payload) {
	c := &v.Worker.Calls
	switch {
	case !v.TCP:
		c.Datagram(v.Dir, v.Packet, v.Now)
	case v.Joined && c.First(v.Flow.ID, v.Dir, v.Base, v.Data, v.Now): // packets before this one wait for the first message
	default:
		c.Segment(v.Flow.ID, v.Dir, v.Seq, v.Packet, v.Now)
	}
}
