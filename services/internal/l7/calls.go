package l7

import (
	"bytes"
	"encoding/binary"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// A sipPiece says which call the later fragments of a datagram belong to.
type sipPiece struct {
	flow  uint64
	ident uint32
	call  flow.Call
}

// attach notes on a packet which calls it belongs to.
func (e *Engine) attach(p *packet.Packet, ref *flow.Ref, v Verdict) {
	c, r := &e.worker.Calls, ref.Flow
	call := c.Told()
	switch {
	case call != nil:
		if p.Layers&packet.Fragment != 0 {
			*e.piece(p, r) = sipPiece{r.ID, datagram(p), *call}
		}
		if call.IDs[0] != 0 || call.Pending || call.Continues != 0 {
			ref.Call = call
		}
	case v.Proto == protocol.SIP && p.Layers&packet.LaterFragment != 0:
		if piece := e.piece(p, r); piece.flow == r.ID && piece.ident == datagram(p) {
			call = c.Take()
			*call = piece.call
			ref.Call = call
		}
	case r.Proto == protoUDP:
		if changes := e.calls.Version(); changes != 0 {
			ref.Call = e.media(p, r, ref.From&1, changes)
		}
	case v.State == Pending && r.Proto == protoTCP:
		if data := p.L7(); hasPayload(p, data) && e.mayBeSIP(r, ref.From&1, data) {
			call = c.Take()
			call.Pending, call.Message = true, 1<<1|uint32(ref.From&1)
			ref.Call = call
		}
	}
}

// mayBeSIP reports whether a direction that has shown data may have begun a SIP message with it, or with what is kept before it.
func (e *Engine) mayBeSIP(r *flow.Record, from flow.Endpoint, data []byte) bool {
	stream := data
	if i := get16(&r.L7, 12); i != 0 {
		if sl := e.store.At(i-1, r.ID); sl != nil && sl.Dir == uint8(from) {
			stream = sl.Head()
		}
	}
	return call.MayBegin(stream) && len(bytes.TrimLeft(data, "\r\n")) > 0
}

// media returns the calls to whose media a datagram belongs, nil if there are none.
func (e *Engine) media(p *packet.Packet, r *flow.Record, from flow.Endpoint, changes uint32) *flow.Call {
	s := &r.L7
	if s[0]&settled != 0 && noMedia(s) == changes {
		return nil
	}
	if to, by := e.calls.May(&r.Addr[0], r.Port[0]), e.calls.May(&r.Addr[1], r.Port[1]); to || by {
		if call := e.found(p, r, from); call != nil {
			return call
		}
	}
	if s[0]&settled != 0 {
		setNoMedia(s, changes)
	}
	return nil
}

// found is media where one of the endpoints may be of a call.
func (e *Engine) found(p *packet.Packet, r *flow.Record, from flow.Endpoint) *flow.Call {
	kind := uint8(255)
	if b := p.L7(); hasPayload(p, b) && len(b) >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223) {
		kind = b[1] & 0x7f
	}
	call := e.worker.Calls.Take()
	to := e.calls.Find(&r.Addr[1-from], r.Port[1-from], kind, p.Time, call)
	if e.calls.Find(&r.Addr[from], r.Port[from], kind, p.Time, call) || to {
		call.Media = true
		return call
	}
	return nil
}

// datagram returns the identification of a fragment's datagram.
func datagram(p *packet.Packet) uint32 {
	switch {
	case p.Layers&packet.IPv4 != 0:
		return uint32(binary.BigEndian.Uint16(p.Data[p.L3+4:]))
	case p.FragAt != 0 && int(p.FragAt)+8 <= len(p.Data):
		return binary.BigEndian.Uint32(p.Data[p.FragAt+4:])
	}
	return 0
}

func (e *Engine) piece(p *packet.Packet, r *flow.Record) *sipPiece {
	return &e.pieces[(uint32(r.ID)*31+datagram(p))%uint32(len(e.pieces))]
}
