package filter

import (
	"bytes"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// callHeaders are the headers that hold an identifier of a call, in lower case.
var callHeaders = [...]string{"call-id", "i", "p-palladion-id", "av-global-session-id"}

// callTest compares the identifiers of the calls that package l7 attached to the packet, and those that stand in it.
func callTest(media bool) func(*set, *Env) test {
	return func(s *set, _ *Env) test {
		ids := make([]uint64, len(s.strings))
		for i, text := range s.strings {
			ids[i] = call.ID([]byte(text))
		}
		sip, _ := protocol.Lookup("SIP")
		return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			var call *flow.Call
			if ref != nil {
				call = ref.Call
			}
			switch {
			case call == nil:
			case call.Media && !media:
				return No
			default:
				for _, id := range ids {
					if call.Has(id) {
						return Yes
					}
				}
			}
			switch {
			case (call == nil || !call.Media) && s.callID(p):
				return Yes
			case call != nil && call.Pending && (v.State == l7.Pending || v.Is(sip)):
				return Unknown
			}
			return No
		}
	}
}

// callID looks through the header lines of a SIP message (RFC 3261, 7.3): a name, blanks, a colon, the value. Names know no case.
func (s *set) callID(p *packet.Packet) bool {
	if p.Layers&(packet.TCP|packet.UDP) == 0 {
		return false
	}
	text := p.L7()
	line, rest, _ := bytes.Cut(text, newline)
	if !bytes.Contains(line, sipVersion) {
		return false
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, newline)
		line = bytes.TrimRight(line, " \t\r")
		if len(line) == 0 {
			return false
		}
		name, value, ok := bytes.Cut(line, colon)
		if !ok || !isCallHeader(bytes.TrimRight(name, " \t")) {
			continue
		}
		value = bytes.TrimSpace(value)
		for _, want := range s.strings {
			if string(value) == want {
				return true
			}
		}
	}
	return false
}

var (
	newline    = []byte("\n")
	colon      = []byte(":")
	sipVersion = []byte("SIP/2.0")
)

func isCallHeader(name []byte) bool {
	for _, h := range callHeaders {
		if len(name) == len(h) && equalFold(name, h) {
			return true
		}
	}
	return false
}

// equalFold compares with a lower-case ASCII text of the same length.
func equalFold(b []byte, lower string) bool {
	for i := range len(lower) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
