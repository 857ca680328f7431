package dissect

import (
	"sync"

	"galvo/services/internal/l7/hostname"
	"galvo/services/internal/l7/protocol"
)

// MayFollow reports whether what a carrier's later packets tell may be id: a stream of TLS may turn out to be an application's, one of SMTP may go on as TLS.
func MayFollow(carrier, id protocol.ID) bool {
	r := refinements()
	named := int(id) < len(r.named) && r.named[id]
	switch carrier {
	case protocol.TLS, protocol.QUIC, protocol.HTTP, protocol.DTLS:
		return named
	case protocol.STUN:
		return named || id == protocol.RTP || id == protocol.DTLS
	}
	if !r.carries[carrier] {
		return false
	}
	return named || id == protocol.TLS || id == protocol.HTTP && carrier == protocol.SOCKS || id == secured(carrier)
}

// A refinement is what may follow.
type refinement struct {
	named   []bool               // by ID: a name of a server, a certificate or an offer may tell it, or a member of its family
	carries map[protocol.ID]bool // TLS may follow in the same stream
}

var refinements = sync.OnceValue(func() *refinement {
	all := protocol.Protocols()
	r := &refinement{named: make([]bool, all[len(all)-1].ID+1), carries: map[protocol.ID]bool{}}
	add := func(id protocol.ID) {
		for ; id != 0; id = protocol.Master(id) {
			r.named[id] = true
		}
	}
	for _, a := range hostname.Apps() {
		add(protocol.ID(a.Number))
	}
	for id := range protocol.BuiltinHosts().Applications() {
		add(protocol.ID(id))
	}
	for _, m := range []map[string]protocol.ID{alpnIDs(), organisations(), agentApps(), callApps()} {
		for _, id := range m {
			add(id)
		}
	}
	for _, s := range protocol.Signatures().Rows {
		if s.Carries {
			r.carries[protocol.ID(s.Proto)] = true
		}
	}
	for _, n := range secureNames {
		r.carries[n.secure] = true
	}
	for _, id := range []protocol.ID{protocol.TLS, protocol.HTTP} { // families of what has a name: whoever asks for them has them already
		r.named[id] = false
	}
	return r
})
