package l7

import (
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
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
