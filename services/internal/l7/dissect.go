package l7

import (
	"sync"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// An outcome is what a dissector makes of a payload.
type outcome uint8

const (
	no      outcome = iota // not this protocol
	more                   // may be: wants to see the stream with its next segment
	weak                   // may be: has written its memory, and wants to see further packets
	half                   // weak and more: wants to see the stream with its next segment too
	carrier                // it is, and later packets may tell what it carries
	partial                // it is, and the rest of the stream may tell what it carries, or the server's name
	final                  // it is
)

// An answer is an outcome with what goes into the verdict. It has four fields because the compiler keeps no larger struct in registers.
type answer struct {
	outcome outcome
	proto   protocol.ID // if another one than the dissector's own
	app     protocol.ID // what it carries
	host    []byte      // name of the server; borrowed
}

// yes is the answer of a dissector that looks at a packet by itself.
func yes(is bool) answer {
	if is {
		return answer{outcome: final}
	}
	return answer{}
}

// A dissector recognises one protocol, or a family. inspect must not keep v, must bear any bytes, and must not allocate.
type dissector struct {
	proto   protocol.ID
	l4      transport
	first   string // bytes with which a payload may begin; empty = any
	inspect func(v *payload) answer
}

// dissectorRows returns the table of dissectors. It must not be changed.
func dissectorRows() []dissector { return dissectors }

// A watcher sees every payload of the flows that have a carrier's name, the one that decided included and those after the verdict too, to learn
// what such a flow announces about others (payload.expect). It changes no verdict, bears any bytes, keeps nothing and does not allocate.
type watcher struct {
	proto protocol.ID
	watch func(v *payload)
}

// watcherOf returns the watcher of the flows with a carrier, or nil.
func watcherOf(proto protocol.ID) func(v *payload) {
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

// A dispatch holds the rows of dissectors worth asking, by layer 4 and first byte.
type dispatch [2][256][]uint8

// candidates returns the rows of dissectors to ask about a payload, in their order.
func (d *dispatch) candidates(v *payload) []uint8 {
	if v.tcp {
		return d[1][v.data[0]]
	}
	return d[0][v.data[0]]
}

// allDissectors is a dispatch of all dissectors.
func allDissectors() *dispatch { return dispatchTable() }

var dispatchTable = sync.OnceValue(func() *dispatch {
	var d dispatch
	for i := range dissectors {
		row := &dissectors[i]
		for l4, is := range []transport{udp, tcp} {
			if row.l4&is == 0 {
				continue
			}
			for b := range 256 {
				if row.first == "" || containsByte(row.first, byte(b)) {
					d[l4][b] = append(d[l4][b], uint8(i))
				}
			}
		}
	}
	return &d
})
