package l7

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
	"galvo/services/internal/packet"
)

// An Engine recognises the flows of one worker.
type Engine struct {
	config Config
	store  store.Store
	worker dissect.Worker
	calls  *call.Table // what the workers of a source share about calls
	rows   *dissect.Dispatch
	view   dissect.Payload // of the packet that is being looked at
	pieces [64]sipPiece    // first fragments of datagrams, by flow and identification
}

// New returns an engine with the memory that c allows.
func New(c Config) *Engine {
	c = c.withDefaults()
	part := c.Bytes / 16
	e := &Engine{config: c, store: store.New(c.Bytes - 2*part), rows: dissect.All()}
	e.worker.Open(c.Hosts, c.Calls, (*slots)(e), part)
	e.calls = e.worker.Calls.Table()
	e.view.Worker = &e.worker
	return e
}

// Begin starts a batch of at most 256 packets: names that were handed out before it may be used again.
func (e *Engine) Begin() { e.store.Begin() }

// Inspect takes the next packet of the worker and returns what is known about its flow, this packet included. inner is p decoded down to its
// innermost headers, p itself if it is not tunnelled; ref.Flow is the record of inner. What has no IP is named by the frame itself. It sets ref.Call,
// which is valid for call.Room packets, and ref.Host.
func (e *Engine) Inspect(p, inner *packet.Packet, ref *flow.Ref) Verdict {
	ref.Call, ref.Host = nil, nil
	r := ref.Flow
	if r == nil {
		return unfollowed(inner)
	}
	s := &r.L7
	if s[0]&(settled|watched) != settled || r.Proto != protoTCP { // most packets are neither, and what follows would do nothing
		v := e.inspect(inner, r, ref.From&1)
		if e.worker.Calls.Followed() || v.State == Pending || inner.Layers&packet.LaterFragment != 0 || e.calls.Version() != 0 {
			e.attach(inner, ref, v)
		}
	}
	if s[0]&hasName != 0 {
		ref.Host = e.store.Text(hostOf(s))
	}
	return verdict(s)
}

// unfollowed returns the verdict on a packet that has no flow.
func unfollowed(p *packet.Packet) Verdict {
	if p.Layers&packet.IP == 0 {
		if id, app := header.Frame(p); id != 0 {
			return Verdict{Proto: id, App: app, State: Final}
		}
	}
	return Verdict{}
}

func (e *Engine) inspect(p *packet.Packet, r *flow.Record, from flow.Endpoint) Verdict {
	s := &r.L7
	switch s[0] & (settled | watched) {
	case settled:
		return verdict(s)
	case settled | watched:
		e.watch(p, r, from)
		return verdict(s)
	}
	return e.open(p, r, from)
}

// watch shows the payload of a packet that came after the verdict to the protocol's watcher.
func (e *Engine) watch(p *packet.Packet, r *flow.Record, from flow.Endpoint) {
	if data := p.L7(); hasPayload(p, data) {
		v := e.show(p, r, from, data)
		v.App = appOf(&r.L7)
		dissect.WatcherOf(protoOf(&r.L7))(v)
	}
}

// open takes a packet of a flow that is not settled.
func (e *Engine) open(p *packet.Packet, r *flow.Record, from flow.Endpoint) Verdict {
	s := &r.L7
	if stateOf(s) == NoFlow {
		setState(s, Pending)
	}
	count(&s[8])
	switch r.Proto {
	case protoTCP, protoUDP:
	case protoSCTP:
		if e.bySCTP(p, r); s[0]&settled == 0 && e.exhausted(s) {
			e.giveUp(r)
		}
		return verdict(s)
	default:
		if e.byProtocol(p, r); s[0]&settled == 0 && e.exhausted(s) {
			e.giveUp(r)
		}
		return verdict(s)
	}
	if flags, ok := p.TCPFlags(); ok && flags&2 != 0 {
		s[0] |= sawSYN
	}
	data := p.L7()
	if hasPayload(p, data) {
		if !e.inTime(r, p.Time) {
			e.giveUp(r)
			return verdict(s)
		}
		count(&s[6+from])
		e.look(p, r, from, data)
		if s[0]&settled == 0 {
			put16(s, 10, uint16(min(int(get16(s, 10))+len(data), 65535)))
		}
	}
	if s[0]&settled == 0 && (e.exhausted(s) || r.Flags&flow.Finished != 0) {
		e.giveUp(r)
	}
	return verdict(s)
}

// byProtocol names a flow that is neither TCP nor UDP by the packet's IP protocol number and, where there is something to look at, by what follows.
func (e *Engine) byProtocol(p *packet.Packet, r *flow.Record) {
	id := header.IP(r.Proto)
	if id == 0 {
		e.settle(r, Unknown)
		return
	}
	if !header.Holds(p, r.Proto) {
		return
	}
	e.name(r, id, 0)
	e.settle(r, Final)
}

// bySCTP names an association, and what it carries as soon as a packet says so.
func (e *Engine) bySCTP(p *packet.Packet, r *flow.Record) {
	s := &r.L7
	if stateOf(s) == Pending {
		e.name(r, protocol.SCTP, 0)
		setState(s, Partial)
	}
	if id := header.SCTP(p); id != 0 {
		e.name(r, protocol.SCTP, id)
		e.settle(r, Final)
	}
}

// The IP protocols whose payload is looked at.
const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// Finish gives up on a flow that has ended or is about to be reported, and returns its last verdict.
func (e *Engine) Finish(r *flow.Record) Verdict {
	if r.L7[0]&settled == 0 {
		e.giveUp(r)
	}
	return verdict(&r.L7)
}

// Abandon ends the search for a flow whose last packet was too much for a dissector, and forgets what it kept of the flow: that may be half written. The flow is
// Unknown from now on, whatever it was.
func (e *Engine) Abandon(r *flow.Record) Verdict {
	if r == nil {
		return Verdict{}
	}
	s := &r.L7
	e.releaseSlot(s, r.ID)
	e.store.Drop(hostOf(s))
	e.worker.Forget()
	*s = state{}
	setState(s, Unknown)
	s[0] |= settled
	return verdict(s)
}

// End gives up on a flow like Finish, and gives back what the engine keeps for it. The flow table calls it when it is about to recycle the record,
// whose verdict stays readable until then.
func (e *Engine) End(r *flow.Record) {
	e.Finish(r)
	e.store.Drop(hostOf(&r.L7))
	r.L7[0] &^= hasName
}

// HostName returns the name of the server that the flow told: TLS or QUIC server name, HTTP host, the name asked for in DNS; empty if there is none,
// or no room was left to keep it. The bytes are valid until the next Begin.
func (e *Engine) HostName(r *flow.Record) []byte {
	return e.store.Text(hostOf(&r.L7))
}
