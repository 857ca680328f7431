package dissect

import (
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// inspectSignatures asks the rows of the signature table that the first byte admits.
func inspectSignatures(v *Payload) Answer {
	if v.Carrier != 0 {
		return inspectCarried(v)
	}
	t := protocol.Signatures()
	seen := signature.View{Data: v.Data, Wire: v.Wire, Cut: v.Cut, Src: v.Src, Dst: v.Dst, Room: &v.Worker.low}
	one := false // direction has what the other one must have too
	guards := t.Asked(v.TCP, v.Data[0])
	for i := range guards {
		if !guards[i].Admits(v.Data) {
			continue
		}
		s := &t.Rows[guards[i].Row]
		if v.TCP && v.Begun && v.Nth > 2 && !s.Late && !v.Joined || !s.Holds(&seen) {
			continue
		}
		proto := protocol.ID(s.Proto)
		if s.Both && !noteHalf(v, proto) {
			one = true
			continue
		}
		if s.Carries {
			return Answer{Outcome: Carrier, Proto: proto, App: protocol.ID(s.App)}
		}
		return Answer{Outcome: Final, Proto: proto, App: protocol.ID(s.App)}
	}
	short := v.TCP && v.Begun && !v.Cut && len(v.Data) < firstBytes && (v.Joined || v.Nth == 1)
	switch m := v.memory(); {
	case one || m != nil && m[0]|m[1] != 0:
		if short {
			return Answer{Outcome: Half}
		}
		return Answer{Outcome: Weak}
	case short:
		return Answer{Outcome: More}
	}
	return Answer{}
}

// firstBytes are how many bytes of a stream the rows want to see before they give up: few programs write less at first, but some write a header and what is behind
// it apart.
const firstBytes = 24

// noteHalf remembers that a direction has shown a signature which does not decide alone, and reports whether the other one has shown one of the same
// protocol before. The memory holds the protocol and the direction + 1; where several protocols claim a direction the first one stays.
func noteHalf(v *Payload, proto protocol.ID) bool {
	m := v.memory()
	if m == nil {
		return false
	}
	switch seen := protocol.ID(m[0]) | protocol.ID(m[1])<<8; seen {
	case proto:
		return m[2] != v.Dir+1
	case 0:
		m[0], m[1], m[2] = byte(proto), byte(proto>>8), v.Dir+1
	}
	return false
}

// inspectCarried looks for TLS in a stream that began with something else (STARTTLS and the like, RFC 3207, RFC 2595), and for TLS or HTTP behind a proxy's
// handshake.
func inspectCarried(v *Payload) Answer {
	inner, app := Answer{}, protocol.TLS
	switch b := v.Data[0]; {
	case b == tlsHandshake:
		inner = inspectTLS(v)
	case v.Carrier == protocol.SOCKS && b >= 'A' && b <= 'Z':
		inner, app = inspectHTTP(v), protocol.HTTP
	}
	if inner.Outcome < Carrier {
		return Answer{Outcome: Weak}
	}
	proto := v.Carrier
	if s := secured(proto); s != 0 && app == protocol.TLS {
		return Answer{Outcome: inner.Outcome, Proto: s, App: inner.App, Host: inner.Host}
	}
	return Answer{Outcome: inner.Outcome, Proto: proto, App: app, Host: inner.Host}
}
