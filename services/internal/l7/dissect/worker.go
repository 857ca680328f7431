package dissect

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
	"galvo/services/internal/l7/store"
)

// A Worker is what the dissectors of one worker have beside a payload: names of servers, what other flows announced, calls, and room. It must not be copied once it is open.
type Worker struct {
	Expected expect.Table  // what flows announced about others
	Calls    call.Follower // the calls of the worker's flows
	hosts    *protocol.Hosts
	kept     Keeper
	quic     quicKeys // those that were used last
	host     [protocol.MaxHost + 1]byte
	low      [signature.Within]byte
	hello    [store.SlotBytes]byte
	header   [2048]byte
	plain    [2048]byte
}

// Owner returns the application that a server belongs to by its name in lower case, 0 if it is unknown.
func (w *Worker) Owner(name []byte) protocol.ID { return protocol.ID(w.hosts.Find(name)) }

// Open makes a worker: hosts says which application a server belongs to, calls is what the workers of a source share about calls, nil for a table of its own. What
// other flows announced may take so many bytes, and so may calls.
func (w *Worker) Open(hosts *protocol.Hosts, calls *call.Table, kept Keeper, bytes int) {
	w.hosts, w.Expected, w.kept = hosts, expect.NewTable(bytes), kept
	w.Calls = call.NewFollower(calls, &w.Expected, bytes)
}

// Forget takes the memory of payloads before from a worker: keys that may be half made, and what was found out about the calls of a packet.
func (w *Worker) Forget() {
	w.quic = quicKeys{}
	w.Calls.Told()
}

// A Keeper is what keeps bytes of the flow whose payload is looked at.
type Keeper interface {
	Kept(v *Payload) *store.Slot    // what is kept of the flow; nil if nothing is
	Keep(v *Payload) *store.Slot    // empty room for it; nil if there is none
	HostName(r *flow.Record) []byte // name of the server that the flow told, empty if it did not
}
