// Package l7 recognises the application protocol of a flow from its payload, and of a frame without IP from the frame.
//
// An Engine belongs to one worker and sees the worker's packets in order. What it knows of a flow lies in the flow's record; the beginnings of streams
// and the names of servers lie in a store of fixed size, and are given back at the verdict and when the flow ends. After the verdict a packet costs a look
// at the record, unless the protocol has a watcher (see dissect): then its payloads are looked at for what they announce about other flows.
//
// A verdict follows from the packets of its flow up to now and their times, and from what other flows of the same worker announced before: SDP and FTP the
// address of what they set up, a call's server its peers, DNS whose an address is. Announcements live in a table of fixed size (expect); what DNS told is good for
// a guess only. A flow whose announcement was seen by another worker is judged by its own packets alone, but for the RTP of calls, which workers tell each other
// (call.Table).
// Without room in the store carriers are recognised all the same, and names of servers that are spread over several segments are not.
//
// A protocol is known by a row of signature/table/*.toml or by a dissector, a function with a row in dissect/dissectors.go; an application by the names of its servers in
// hostname/hosts.txt too. What there is to know is the table of package protocol, whose IDs a Verdict has. Whatever a row or a function claims must follow from the payload: a port may support a pattern that is too short to decide, or say whose a stream
// of TLS is, and a port alone never decides. Guesses, by port or address, have a state of their own.
//
// Beside the verdict a packet learns which calls it belongs to (flow.Ref.Call): SIP is followed message by message, through segments and fragments, and
// what SDP says about media lies in a table that the workers of a source share (call.Table), because a call and its media often go between different addresses.
// On a savefile, with one worker, that follows from the packets; live with several workers media may come a moment before its call is known.
//
// The package does not decrypt, but for the first packets of QUIC whose keys anybody can compute; it does not reassemble IP fragments, and it does not look
// into tunnels: its caller hands it the innermost headers. Opening a QUIC Initial packet allocates the ciphers of the standard library; nothing else
// allocates.
package l7

import (
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/protocol"
)

// A State says how much is known about a flow's protocol.
type State uint8

// The states. Only Pending may still become any other; Partial may become Final, and its carrier one that belongs to it: SMTP becomes SMTPS.
const (
	NoFlow  State = iota // the packet has no flow: nothing can ever be said, and no protocol is equal
	Pending              // not yet recognised
	Partial              // carrier known, application may follow
	Final                // recognised
	Guessed              // gave up, fallback by port or cache
	Unknown              // gave up; will not change
)

// A Verdict is what is known about the flow of a packet at the moment the packet was seen, the packet itself included.
type Verdict struct {
	Proto protocol.ID // carrier or master: TLS, HTTP, DNS, ...
	App   protocol.ID // what it carries, if known
	State State       //
}

// Last is what is known about a flow with a verdict if nothing more will be known.
func (v Verdict) Last() Verdict {
	switch v.State {
	case Partial:
		v.State = Final
	case NoFlow, Pending:
		v.State = Unknown
	}
	return v
}

// String returns the state's name as exports spell it; "" for NoFlow.
func (s State) String() string {
	return [...]string{"", "pending", "partial", "final", "guessed", "unknown"}[min(s, Unknown)]
}

// Is reports whether the verdict names id: as carrier, as what is carried, or as the family of either. It is false while nothing is known.
func (v Verdict) Is(id protocol.ID) bool {
	return id != 0 && (protocol.Belongs(v.Proto, id) || protocol.Belongs(v.App, id) || protocol.Carrier(v.Proto) == id)
}

// MayBecome reports whether a verdict that is Partial, and does not name id, may still come to name it. A filter must not decide about id until then.
func (v Verdict) MayBecome(id protocol.ID) bool {
	return v.State == Partial && v.App == 0 && id != 0 && dissect.MayFollow(v.Proto, id)
}

// Listed returns the carrier and the application under which a list of flows has the verdict: where STUN found the way for DTLS, DTLS is what carries from then
// on; and DNS that asks for DNSCrypt's certificates is the beginning of DNSCrypt.
func (v Verdict) Listed() (carrier, app protocol.ID) {
	switch {
	case v.Proto == protocol.STUN && v.App == protocol.DTLS:
		return protocol.DTLS, 0
	case v.Proto == protocol.DNS && v.App == protocol.DNSCrypt:
		return protocol.DNSCrypt, 0
	}
	return v.Proto, v.App
}
