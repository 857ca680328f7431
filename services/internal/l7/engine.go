package l7

import (
	"cmp"
	"encoding/binary"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
	"galvo/services/internal/l7/store"
	"galvo/services/internal/packet"
)

// A Config says how long the engine tries and how much memory it may use. What is zero takes its default.
type Config struct {
	Bytes          int             // memory of the side buffers and host names; default 32 MB, fixed at New
	PayloadPackets int             // gives up after so many packets with payload in one direction; default 12
	Packets        int             // or after so many packets of the flow at all; default 32
	PayloadBytes   int             // or after so many bytes of payload; default 8192
	Window         time.Duration   // or so long after the first packet with payload, by the packets' time; default 5 s
	Guess          bool            // name what was given up by its port or address, as Guessed; default no
	Hosts          *protocol.Hosts // which application a server's name belongs to; default BuiltinHosts
	Calls          *call.Table     // what the workers of a source share about calls; default a table of its own, out of Bytes
}

func (c Config) withDefaults() Config {
	c.Bytes = cmp.Or(c.Bytes, 32_000_000)
	c.PayloadPackets = min(cmp.Or(c.PayloadPackets, 12), 255)
	c.Packets = min(cmp.Or(c.Packets, 32), 255)
	c.PayloadBytes = min(cmp.Or(c.PayloadBytes, 8192), 65535)
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Hosts = cmp.Or(c.Hosts, protocol.BuiltinHosts())
	return c
}

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

// hasPayload reports whether data, what is behind the headers of p, is payload of TCP or UDP from its beginning.
func hasPayload(p *packet.Packet, data []byte) bool {
	return p.Layers&(packet.TCP|packet.UDP) != 0 && len(data) > 0 && p.Layers&packet.LaterFragment == 0
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

// inTime notes the first packet with payload, and reports whether now is within the window after it.
func (e *Engine) inTime(r *flow.Record, now int64) bool {
	s := &r.L7
	since := min(max(now-r.First, 0)/tick, 65535)
	if s[6]|s[7] == 0 {
		put16(s, 14, uint16(since))
		return true
	}
	return (since-int64(get16(s, 14)))*tick <= int64(e.config.Window)
}

// exhausted reports whether the flow has had its chance.
func (e *Engine) exhausted(s *state) bool {
	most := e.config.PayloadPackets
	return int(s[6]) >= most || int(s[7]) >= most || int(s[8]) >= e.config.Packets || int(get16(s, 10)) >= e.config.PayloadBytes
}

// show makes a view of a packet's payload. It is valid until the next packet. The fields are written in place: a payload that is made apart is copied.
func (e *Engine) show(p *packet.Packet, r *flow.Record, from flow.Endpoint, data []byte) *dissect.Payload {
	v, s := &e.view, &r.L7
	v.Data, v.Packet, v.Flow, v.Now = data, data, r, p.Time
	v.Wire = wirePayload(p)
	v.Cut = p.Layers&packet.Fragment != 0 || v.Wire > len(data)
	v.TCP, v.Begun, v.Joined, v.Hidden = p.Layers&packet.TCP != 0, s[0]&sawSYN != 0, false, false
	v.Dir, v.Nth = uint8(from), s[6+from]
	v.Src, v.Dst, v.Seq, v.Base = p.SrcPort, p.DstPort, 0, 0
	v.Carrier, v.App, v.Notes, v.Holder = 0, 0, memory(s), s[1]
	if s[0]&hasName != 0 {
		v.Holder = 255
	}
	if stateOf(s) == Partial {
		v.Carrier = protoOf(s)
	}
	if v.TCP && int(p.L4)+8 <= len(p.Data) {
		v.Seq = binary.BigEndian.Uint32(p.Data[p.L4+4:])
		if p.TCPBits&2 != 0 {
			v.Seq++ // data in a SYN (RFC 7413)
		}
	}
	return v
}

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

// conclude writes an answer to the flow's state, and reports whether the flow has a name now.
func (e *Engine) conclude(v *dissect.Payload, a dissect.Answer) bool {
	s := &v.Flow.L7
	switch a.Outcome {
	case dissect.Carrier, dissect.Partial, dissect.Final:
		e.name(v.Flow, cmp.Or(a.Proto, dissect.Dissectors()[v.Row].Proto), cmp.Or(a.App, e.worker.Owner(a.Host)))
		e.keepHost(s, a.Host)
		if v.Hidden {
			s[0] |= encryptedHello
		}
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

// rejoin puts a segment behind the bytes that were kept of its stream, so that v.Data begins where the stream does.
func (e *Engine) rejoin(v *dissect.Payload) {
	sl := e.slotOf(v)
	if sl == nil || sl.Dir != v.Dir {
		return
	}
	sl.Put(int(int32(v.Seq-sl.Base)), v.Data)
	v.Data, v.Base, v.Joined = sl.Head(), sl.Base, true
	v.Wire += max(len(v.Data)-len(v.Packet), 0)
}

// keep stores the stream from this segment on, unless it is kept already.
func (e *Engine) keep(v *dissect.Payload) {
	if v.Joined || v.Cut {
		return
	}
	sl := e.slotOf(v)
	if sl == nil {
		if sl = e.takeSlot(v); sl == nil {
			return
		}
	}
	sl.Reset(v.Seq, v.Dir)
	sl.Put(0, v.Packet)
}

func (e *Engine) slotOf(v *dissect.Payload) *store.Slot {
	i := get16(&v.Flow.L7, 12)
	if i == 0 {
		return nil
	}
	return e.store.At(i-1, v.Flow.ID)
}

func (e *Engine) takeSlot(v *dissect.Payload) *store.Slot {
	i, ok := e.store.Take(v.Flow.ID)
	if !ok {
		return nil
	}
	put16(&v.Flow.L7, 12, i+1)
	return e.store.At(i, v.Flow.ID)
}

func (e *Engine) releaseSlot(s *state, id uint64) {
	if i := get16(s, 12); i != 0 {
		e.store.Release(i-1, id)
		put16(s, 12, 0)
	}
}

// slots is the engine as dissectors see it: what it keeps of the flow at hand (dissect.Keeper).
type slots Engine

func (e *slots) Kept(v *dissect.Payload) *store.Slot { return (*Engine)(e).slotOf(v) }
func (e *slots) Keep(v *dissect.Payload) *store.Slot { return (*Engine)(e).takeSlot(v) }
func (e *slots) HostName(r *flow.Record) []byte      { return (*Engine)(e).HostName(r) }

// wirePayload returns the length of the payload on the wire; 0 if the headers do not say.
func wirePayload(p *packet.Packet) int {
	at, n := int(p.L3), 0
	switch {
	case p.Layers&packet.IPv4 != 0:
		n = at + int(binary.BigEndian.Uint16(p.Data[at+2:])) - int(p.Payload)
	case p.Layers&packet.IPv6 != 0:
		n = at + 40 + int(binary.BigEndian.Uint16(p.Data[at+4:])) - int(p.Payload)
	}
	if p.Layers&packet.UDP != 0 && int(p.L4)+6 <= len(p.Data) {
		if u := int(binary.BigEndian.Uint16(p.Data[p.L4+4:])) - 8; u > 0 {
			n = min(n, u)
		}
	}
	return n
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
