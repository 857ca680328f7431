package dissect

import (
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
)

// A Payload is what a dissector sees: the datagram, or the stream from the first byte that was kept on, and what is known around it.
type Payload struct {
	Data     []byte // never empty. Of a stream it begins with the first kept segment
	Packet   []byte // the payload of this packet alone
	Cut      bool   // the wire had more of this packet than was captured
	Wire     int    // length that Data had on the wire; of a fragment its own
	TCP      bool
	Begun    bool         // TCP: the handshake was seen, so that Nth counts from the beginning of the stream
	Joined   bool         // TCP: Data is more than this packet
	Dir      uint8        // endpoint that sent it
	Nth      uint8        // this is its nth packet with payload, from 1
	Src, Dst uint16       // ports
	Seq      uint32       // TCP: of Packet[0]
	Base     uint32       // TCP: of Data[0], where that is joined
	Now      int64        // ns since the epoch, of this packet
	Row      uint8        // of the dissector that is being asked
	Holder   uint8        // row + 1 of the dissector that has notes of the flow; 0 = none has, 255 = their place is in use otherwise
	Notes    *[4]byte     // of the flow, from one packet to the next
	Carrier  protocol.ID  // of a flow that is Partial; 0 while nothing is known
	App      protocol.ID  // what the flow carries, for watchers
	Flow     *flow.Record // whose endpoints it has: what the engine keeps there is not for dissectors
	Worker   *Worker
}

// on reports whether either port is n. It may only make a strong pattern stronger; it decides nothing.
func (v *Payload) on(n uint16) bool { return v.Src == n || v.Dst == n }

// fills reports whether n is the length of the payload: a message that says so of itself ends where the payload does.
func (v *Payload) fills(n int) bool {
	return n == len(v.Data) || v.Cut && n > len(v.Data) && (v.Wire <= len(v.Data) || n == v.Wire)
}

// memory returns four bytes that a dissector which answers weak finds again at the flow's next packet, zero at first. It returns nil while another
// dissector holds them. A dissector gives them up when it answers no.
func (v *Payload) memory() *[4]byte {
	if v.Holder != 0 && v.Holder != v.Row+1 {
		return nil
	}
	return v.Notes
}

// scratch returns room for a host name, valid until the next packet.
func (v *Payload) scratch() []byte { return v.Worker.host[:0] }

// expect announces that a flow to or from an endpoint of UDP will carry proto, from now on for so long, or is of app.
func (v *Payload) expect(kind expect.Kind, addr []byte, port uint16, proto, app protocol.ID, life time.Duration) {
	v.Worker.Expected.Announce(addr, expect.Endpoint{Port: port, L4: udp, Kind: kind, Proto: proto, App: app, Until: v.Now + int64(life)})
}

// Expected returns what was announced about either endpoint of the payload's flow, with its port; nil if nothing was.
func (v *Payload) Expected() *expect.Endpoint {
	t, r := &v.Worker.Expected, v.Flow
	if t.Empty() {
		return nil
	}
	l4 := udp
	if v.TCP {
		l4 = tcp
	}
	server := r.Server()
	for _, side := range [2]flow.Endpoint{server, 1 - server} {
		if x := t.Find(&r.Addr[side], r.Port[side], l4, v.Now); x != nil {
			return x
		}
	}
	return nil
}
