package l7

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// A worker is what the dissectors of one worker have beside a payload: what they know of names of servers and of what other flows announced, and room.
type worker struct {
	hosts    *protocol.Hosts
	expected expectTable
	calls    caller
	kept     keeper
	quic     quicKeys // those that were used last
	host     [protocol.MaxHost + 1]byte
	low      [signature.Within]byte
	hello    [slotBytes]byte
	header   [2048]byte
	plain    [2048]byte
}

// owner returns the application that a server belongs to by its name in lower case, 0 if it is unknown.
func (w *worker) owner(name []byte) protocol.ID { return protocol.ID(w.hosts.Find(name)) }

// open makes a worker: hosts says which application a server belongs to, calls is what the workers of a source share about calls, nil for a table of its own. What
// other flows announced may take so many bytes, and so may calls.
func (w *worker) open(hosts *protocol.Hosts, calls *Calls, kept keeper, bytes int) {
	w.hosts, w.expected, w.kept = hosts, newExpectTable(bytes), kept
	w.calls = newCaller(calls, &w.expected, bytes)
}

// forget takes the memory of payloads before from a worker: keys that may be half made.
func (w *worker) forget() { w.quic = quicKeys{} }

// A keeper is what keeps bytes of the flow whose payload is looked at.
type keeper interface {
	slotOf(v *payload) *slot        // what is kept of the flow; nil if nothing is
	takeSlot(v *payload) *slot      // empty room for it; nil if there is none
	hostName(r *flow.Record) []byte // name of the server that the flow told, empty if it did not
}
