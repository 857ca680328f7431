package l7

import "sync"

// MayBecome reports whether a verdict that is Partial, and does not name id, may still come to name it: a stream of TLS may turn out to be an application's, one
// of SMTP may go on as TLS. A filter must not decide about id until then.
func (v Verdict) MayBecome(id ID) bool {
	if v.State != Partial || v.App != 0 || id == 0 {
		return false
	}
	r := refinements()
	named := int(id) < len(r.named) && r.named[id]
	switch v.Proto {
	case TLS, QUIC, HTTP, DTLS:
		return named
	case STUN:
		return named || id == RTP || id == DTLS
	}
	if !r.carries[v.Proto] {
		return false
	}
	return named || id == TLS || id == HTTP && v.Proto == SOCKS || id == secured(v.Proto)
}

// refinement is what verdicts may turn into.
type refinement struct {
	named   []bool      // by ID: a name of a server, a certificate or an offer may tell it, or a member of its family
	carries map[ID]bool // TLS may follow in the same stream
}

var refinements = sync.OnceValue(func() *refinement {
	r := &refinement{named: make([]bool, len(byID())), carries: map[ID]bool{}}
	add := func(id ID) {
		for ; id != 0; id = rowOf(id).Master {
			r.named[id] = true
		}
	}
	for _, p := range hostProtocols() {
		add(p.ID)
	}
	for _, p := range Protocols() {
		if Ways(p.ID)&ByHost != 0 {
			add(p.ID)
		}
	}
	for _, m := range []map[string]ID{alpnIDs(), organisations(), agentApps(), callApps()} {
		for _, id := range m {
			add(id)
		}
	}
	for _, s := range signatureTable().Rows {
		if s.Carries {
			r.carries[ID(s.Proto)] = true
		}
	}
	for _, n := range secureNames {
		r.carries[n.secure] = true
	}
	for _, id := range []ID{TLS, HTTP} { // families of what has a name: whoever asks for them has them already
		r.named[id] = false
	}
	return r
})
