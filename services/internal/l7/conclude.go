package l7

import (
	"cmp"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// conclude writes an answer to the flow's state, and reports whether the flow has a name now.
func (e *Engine) conclude(v *dissect.Payload, a dissect.Answer) bool {
	s := &v.Flow.L7
	switch a.Outcome {
	case dissect.Carrier, dissect.Partial, dissect.Final:
		e.name(v.Flow, cmp.Or(a.Proto, dissect.Dissectors()[v.Row].Proto), cmp.Or(a.App, e.worker.Owner(a.Host)))
		e.keepHost(s, a.Host)
		if a.Outcome == dissect.Final {
			e.settle(v.Flow, Final)
			return true
		}
		setState(s, Partial)
		s[1] = v.Row + 1
		if a.Outcome == dissect.Carrier {
			e.releaseSlot(s, v.Flow.ID) // what comes is looked at by itself, and may come from the other side
		} else if v.TCP {
			e.keep(v)
		}
		return true
	case dissect.No:
		if stateOf(s) == Partial {
			e.settle(v.Flow, Final)
		}
	}
	return false
}

// name writes carrier and application to the state, and notes which packet it was if they are new.
func (e *Engine) name(r *flow.Record, proto, app protocol.ID) {
	s := &r.L7
	if app == proto {
		app = 0
	}
	if protoOf(s) == proto && (appOf(s) == app || app == 0) {
		return
	}
	setNames(s, proto, app)
	s[9] = s[8]
	if s[0] &^= watched; dissect.WatcherOf(proto) != nil {
		s[0] |= watched
	}
}

func (e *Engine) keepHost(s *state, host []byte) {
	if len(host) == 0 {
		return
	}
	e.store.Drop(hostOf(s))
	setHost(s, e.store.Keep(host))
}

// settle ends the search with a state.
func (e *Engine) settle(r *flow.Record, to State) {
	s := &r.L7
	e.releaseSlot(s, r.ID)
	setState(s, to)
	s[0] |= settled
	setNoMedia(s, 0)
}

// giveUp ends the search without an answer: what has a carrier will get no application, the rest is guessed, if that is wanted, or unknown.
func (e *Engine) giveUp(r *flow.Record) {
	s := &r.L7
	if stateOf(s) == Partial {
		e.settle(r, Final)
		return
	}
	if e.config.Guess {
		if id := cmp.Or(e.byAddress(r), byPort(r)); id != 0 {
			setNames(s, id, 0)
			e.settle(r, Guessed)
			return
		}
	}
	e.settle(r, Unknown)
}

// byAddress returns the application that DNS answers said the server's address belongs to.
func (e *Engine) byAddress(r *flow.Record) protocol.ID {
	if x := e.worker.Expected.Find(&r.Addr[r.Server()], 0, signature.UDP|signature.TCP, r.Last); x != nil && x.Kind == expect.Server {
		return x.App
	}
	return 0
}

// byPort returns the protocol that is usually found at the server's port, or else at the other one. Where the payload was seen from its beginning, and those who know
// that protocol by its payload did not recognise it, the port says nothing.
func byPort(r *flow.Record) protocol.ID {
	server, stream := r.Server(), r.Proto == protoTCP
	id := cmp.Or(protocol.AtPort(r.Port[server], stream), protocol.AtPort(r.Port[1-server], stream))
	s := &r.L7
	if s[6]|s[7] != 0 && (r.Proto != protoTCP || s[0]&sawSYN != 0) && Ways(id)&(BySignature|ByDissector) != 0 {
		return 0
	}
	return id
}
