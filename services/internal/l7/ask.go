package l7

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/packet"
)

// look shows a packet's payload to the dissectors.
func (e *Engine) look(p *packet.Packet, r *flow.Record, from flow.Endpoint, data []byte) {
	s, v := &r.L7, e.show(p, r, from, data)
	if v.TCP {
		e.rejoin(v)
	}
	if len(v.Data) == 0 {
		return
	}
	if v.Carrier != 0 {
		if sl := e.slotOf(v); sl == nil || sl.Dir == v.Dir {
			v.Row = s[1] - 1
			e.conclude(v, dissect.Dissectors()[v.Row].Inspect(v))
		}
	} else {
		e.ask(v)
	}
	if s[0]&watched != 0 {
		v.App = appOf(s)
		dissect.WatcherOf(protoOf(s))(v)
	}
}

// ask shows a payload of a flow without a name to the dissectors: the stream from where it was kept on, and then this packet alone, because what was kept may have been
// something before it. Failing that it is what another flow announced.
func (e *Engine) ask(v *dissect.Payload) {
	decided, keep := e.askAll(v)
	if decided {
		return
	}
	if v.Joined {
		before := len(v.Data) - len(v.Packet)
		whole := v.Data
		v.Data, v.Wire, v.Joined = v.Packet, v.Wire-max(before, 0), false
		decided, again := e.askAll(v)
		if decided {
			return
		}
		if again && !keep {
			e.keep(v)
			keep = true
		}
		v.Data, v.Wire, v.Joined = whole, v.Wire+max(before, 0), true
	}
	if x := v.Expected(); x != nil && x.Kind == expect.Flow {
		e.name(v.Flow, x.Proto, x.App)
		e.settle(v.Flow, Final)
	} else if keep {
		e.keep(v)
	} else if v.Joined {
		e.releaseSlot(&v.Flow.L7, v.Flow.ID)
	}
}

// askAll shows a payload to all the dissectors that its first byte admits, until one knows it. keep says that one wants to see it with what follows.
func (e *Engine) askAll(v *dissect.Payload) (decided, keep bool) {
	s := &v.Flow.L7
	for _, v.Row = range e.rows.Candidates(v) {
		a := dissect.Dissectors()[v.Row].Inspect(v)
		switch {
		case (a.Outcome == dissect.Weak || a.Outcome == dissect.Half) && (s[1] == 0 || s[1] == v.Row+1):
			s[1], v.Holder = v.Row+1, v.Row+1
		case a.Outcome == dissect.No && s[1] == v.Row+1:
			s[1], v.Holder, *memory(s) = 0, 0, [4]byte{}
		}
		if e.conclude(v, a) {
			return true, false
		}
		keep = keep || a.Outcome == dissect.More || a.Outcome == dissect.Half
	}
	return false, keep
}
