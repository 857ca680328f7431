package l7

import (
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// inspectSignatures asks the rows of the signature table that the first byte admits.
func inspectSignatures(v *payload) answer {
	if v.carrier != 0 {
		return inspectCarried(v)
	}
	t := protocol.Signatures()
	seen := signature.View{Data: v.data, Wire: v.wire, Cut: v.cut, Src: v.src, Dst: v.dst, Room: &v.worker.low}
	one := false // direction has what the other one must have too
	guards := t.Asked(v.tcp, v.data[0])
	for i := range guards {
		if !guards[i].Admits(v.data) {
			continue
		}
		s := &t.Rows[guards[i].Row]
		if v.tcp && v.begun && v.nth > 2 && !s.Late && !v.joined || !s.Holds(&seen) {
			continue
		}
		proto := protocol.ID(s.Proto)
		if s.Both && !noteHalf(v, proto) {
			one = true
			continue
		}
		if s.Carries {
			return answer{outcome: carrier, proto: proto, app: protocol.ID(s.App)}
		}
		return answer{outcome: final, proto: proto, app: protocol.ID(s.App)}
	}
	short := v.tcp && v.begun && !v.cut && len(v.data) < firstBytes && (v.joined || v.nth == 1)
	switch m := v.memory(); {
	case one || m != nil && m[0]|m[1] != 0:
		if short {
			return answer{outcome: half}
		}
		return answer{outcome: weak}
	case short:
		return answer{outcome: more}
	}
	return answer{}
}

// firstBytes are how many bytes of a stream the rows want to see before they give up: few programs write less at first, but some write a header and what is behind
// it apart.
const firstBytes = 24

// noteHalf remembers that a direction has shown a signature which does not decide alone, and reports whether the other one has shown one of the same
// protocol before. The memory holds the protocol and the direction + 1; where several protocols claim a direction the first one stays.
func noteHalf(v *payload, proto protocol.ID) bool {
	m := v.memory()
	if m == nil {
		return false
	}
	switch seen := protocol.ID(m[0]) | protocol.ID(m[1])<<8; seen {
	case proto:
		return m[2] != v.dir+1
	case 0:
		m[0], m[1], m[2] = byte(proto), byte(proto>>8), v.dir+1
	}
	return false
}

// inspectCarried looks for TLS in a stream that began with something else (STARTTLS and the like, RFC 3207, RFC 2595), and for TLS or HTTP behind a proxy's
// handshake.
func inspectCarried(v *payload) answer {
	inner, app := answer{}, protocol.TLS
	switch b := v.data[0]; {
	case b == tlsHandshake:
		inner = inspectTLS(v)
	case v.carrier == protocol.SOCKS && b >= 'A' && b <= 'Z':
		inner, app = inspectHTTP(v), protocol.HTTP
	}
	if inner.outcome < carrier {
		return answer{outcome: weak}
	}
	proto := v.carrier
	if s := secured(proto); s != 0 && app == protocol.TLS {
		return answer{outcome: inner.outcome, proto: s, app: inner.app, host: inner.host}
	}
	return answer{outcome: inner.outcome, proto: proto, app: app, host: inner.host}
}
