package l7

import (
	"sync"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// A payload is what a dissector sees: the datagram, or the stream from the first byte that was kept on, and what is known around it.
type payload struct {
	data     []byte // never empty. Of a stream it begins with the first kept segment
	packet   []byte // the payload of this packet alone
	cut      bool   // the wire had more of this packet than was captured
	wire     int    // length that data had on the wire; of a fragment its own
	tcp      bool
	begun    bool   // TCP: the handshake was seen, so that nth counts from the beginning of the stream
	joined   bool   // TCP: data is more than this packet
	dir      uint8  // endpoint that sent it
	nth      uint8  // this is its nth packet with payload, from 1
	src, dst uint16 // ports
	seq      uint32 // TCP: of packet[0]
	base     uint32 // TCP: of data[0], where data is joined
	now      int64  // ns since the epoch, of this packet
	row      uint8  // of the dissector that is being asked
	hidden   bool   // a dissector found that the client has hidden the server's name (Encrypted Client Hello), or pretends to
	holder   uint8  // row + 1 of the dissector whose memory that is; 0 = nobody's, 255 = it is in use otherwise
	notes    *[4]byte
	carrier  protocol.ID // of a flow that is Partial; 0 while nothing is known
	app      protocol.ID // what the flow carries, for watchers
	flow     *flow.Record
	worker   *worker
}

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

// on reports whether either port is n. It may only make a strong pattern stronger; it decides nothing.
func (v *payload) on(n uint16) bool { return v.src == n || v.dst == n }

// fills reports whether n is the length of the payload: a message that says so of itself ends where the payload does.
func (v *payload) fills(n int) bool {
	return n == len(v.data) || v.cut && n > len(v.data) && (v.wire <= len(v.data) || n == v.wire)
}

// memory returns four bytes that a dissector which answers weak finds again at the flow's next packet, zero at first. It returns nil while another
// dissector holds them. A dissector gives them up when it answers no.
func (v *payload) memory() *[4]byte {
	if v.holder != 0 && v.holder != v.row+1 {
		return nil
	}
	return v.notes
}

// scratch returns room for a host name, valid until the next packet.
func (v *payload) scratch() []byte { return v.worker.host[:0] }

// expect announces that a flow to or from an endpoint of UDP will carry proto, from now on for so long, or is of app.
func (v *payload) expect(kind expectKind, addr []byte, port uint16, proto, app protocol.ID, life time.Duration) {
	v.worker.expected.announce(addr, expectation{port: port, l4: udp, kind: kind, proto: proto, app: app, until: v.now + int64(life)})
}

// expected returns what was announced about either endpoint of the payload's flow, with its port; nil if nothing was.
func (v *payload) expected() *expectation {
	t, r := &v.worker.expected, v.flow
	if t.empty() {
		return nil
	}
	l4 := udp
	if v.tcp {
		l4 = tcp
	}
	server := r.Server()
	for _, side := range [2]flow.Endpoint{server, 1 - server} {
		if x := t.find(&r.Addr[side], r.Port[side], l4, v.now); x != nil {
			return x
		}
	}
	return nil
}

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
