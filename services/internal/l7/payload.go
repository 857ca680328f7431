package l7

import (
	"encoding/binary"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/packet"
)

// show makes a view of a packet's payload. It is valid until the next packet. The fields are written in place: a payload that is made apart is copied.
func (e *Engine) show(p *packet.Packet, r *flow.Record, from flow.Endpoint, data []byte) *dissect.Payload {
	v, s := &e.view, &r.L7
	v.Data, v.Packet, v.Flow, v.Now = data, data, r, p.Time
	v.Wire = wirePayload(p)
	v.Cut = p.Layers&packet.Fragment != 0 || v.Wire > len(data)
	v.TCP, v.Begun, v.Joined = p.Layers&packet.TCP != 0, s[0]&sawSYN != 0, false
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

// hasPayload reports whether data, what is behind the headers of p, is payload of TCP or UDP from its beginning.
func hasPayload(p *packet.Packet, data []byte) bool {
	return p.Layers&(packet.TCP|packet.UDP) != 0 && len(data) > 0 && p.Layers&packet.LaterFragment == 0
}

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
