// Package dissect reads the payloads of single protocols: each file has a function that says whether a payload is its protocol's, and what it tells about what is carried
// and whose the server is. dissectors.go is the table of them.
//
// A dissector sees a Payload and answers with an Outcome; it takes any bytes, keeps nothing but four bytes of the flow's memory, and does not allocate, but for the keys of
// QUIC. It does not know what becomes of its answer: flows, verdicts and the order of asking are the engine's.
package dissect

import (
	"sync"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
	"galvo/services/internal/l7/text"
)

// An Outcome is what a dissector makes of a payload.
type Outcome uint8

// The outcomes.
const (
	No      Outcome = iota // not this protocol
	More                   // may be: wants to see the stream with its next segment
	Weak                   // may be: has written its memory, and wants to see further packets
	Half                   // weak and more: wants to see the stream with its next segment too
	Carrier                // it is, and later packets may tell what it carries
	Partial                // it is, and the rest of the stream may tell what it carries, or the server's name
	Final                  // it is
)

// An Answer is an outcome with what goes into the verdict. It has four fields because the compiler keeps no larger struct in registers.
type Answer struct {
	Outcome Outcome
	Proto   protocol.ID // if another one than the dissector's own
	App     protocol.ID // what it carries
	Host    []byte      // name of the server; borrowed
}

// yes is the answer of a dissector that looks at a packet by itself.
func yes(is bool) Answer {
	if is {
		return Answer{Outcome: Final}
	}
	return Answer{}
}

// A Dissector recognises one protocol, or a family. Inspect must not keep v, must bear any bytes, and must not allocate.
type Dissector struct {
	Proto   protocol.ID
	L4      transport
	First   string // bytes with which a payload may begin; empty = any
	Inspect func(v *Payload) Answer
}

// Dissectors returns the table of dissectors. It must not be changed.
func Dissectors() []Dissector { return dissectors }

// A watcher sees every payload of the flows that have a carrier's name, the one that decided included and those after the verdict too, to learn
// what such a flow announces about others (Payload.expect). It changes no verdict, bears any bytes, keeps nothing and does not allocate.
type watcher struct {
	proto protocol.ID
	watch func(v *Payload)
}

// WatcherOf returns the watcher of the flows with a carrier, or nil.
func WatcherOf(proto protocol.ID) func(v *Payload) {
	for i := range watchers {
		if watchers[i].proto == proto {
			return watchers[i].watch
		}
	}
	return nil
}

// A transport is a set of layer-4 protocols.
type transport = signature.Transport

const (
	udp = signature.UDP
	tcp = signature.TCP
)

// A Dispatch holds the rows of dissectors worth asking, by layer 4 and first byte.
type Dispatch [2][256][]uint8

// Candidates returns the rows of dissectors to ask about a payload, in their order.
func (d *Dispatch) Candidates(v *Payload) []uint8 {
	if v.TCP {
		return d[1][v.Data[0]]
	}
	return d[0][v.Data[0]]
}

// All is a dispatch of all dissectors.
func All() *Dispatch { return dispatchTable() }

var dispatchTable = sync.OnceValue(func() *Dispatch {
	var d Dispatch
	for i := range dissectors {
		row := &dissectors[i]
		for l4, is := range []transport{udp, tcp} {
			if row.L4&is == 0 {
				continue
			}
			for b := range 256 {
				if row.First == "" || text.Has(row.First, byte(b)) {
					d[l4][b] = append(d[l4][b], uint8(i))
				}
			}
		}
	}
	return &d
})
