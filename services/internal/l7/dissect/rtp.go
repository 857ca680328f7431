package dissect

import (
	"encoding/binary"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
)

// inspectRTP knows RTP (RFC 3550) by three packets of one direction with the same source and payload type whose sequence numbers go on, or by one where
// SDP announced it.
func inspectRTP(v *Payload) Answer {
	if isRTCP(v.Data, v.Cut) {
		return Answer{Outcome: Final, Proto: protocol.RTCP}
	}
	hint := v.memory()
	switch {
	case hint == nil:
		return Answer{}
	case isRTP(v.Data):
		if app, ok := v.announcedRTP(); ok {
			return Answer{Outcome: Final, App: app}
		}
		return rtpStream(v, hint)
	case *hint != [4]byte{} && isFeedback(v.Data):
		return Answer{Outcome: Weak}
	}
	return Answer{}
}

// announcedRTP reports whether SDP announced an endpoint of the payload's flow, to this worker or in a call that another one saw, and whether for SRTP.
func (v *Payload) announcedRTP() (app protocol.ID, ok bool) {
	if x := v.Expected(); x != nil && x.Kind == expect.Hint && x.Proto == protocol.RTP {
		return x.App, true
	}
	calls, r := v.Worker.Calls.Table(), v.Flow
	if calls.Version() == 0 || v.TCP {
		return 0, false
	}
	server := r.Server()
	for _, side := range [2]flow.Endpoint{server, 1 - server} {
		switch calls.Use(&r.Addr[side], r.Port[side], v.Now) {
		case call.SecureRTP:
			return protocol.SRTP, true
		case call.RTP:
			return 0, true
		}
	}
	return 0, false
}

// isRTP reports whether b may be an RTP packet by its header and its source.
func isRTP(b []byte) bool { return hasRTPHeader(b) && binary.BigEndian.Uint32(b[8:]) != 0 }

// hasRTPHeader looks at the version, the payload type, and the room for what the header announces.
func hasRTPHeader(b []byte) bool {
	if len(b) < 13 || b[0]>>6 != 2 {
		return false
	}
	kind := b[1] & 0x7f
	if kind > 63 && kind < 96 { // not assigned, or RTCP's (RFC 5761 section 4)
		return false
	}
	at := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		if at+4 > len(b) {
			return false
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	if at > len(b) {
		return false
	}
	return b[0]&0x20 == 0 || b[len(b)-1] != 0
}

// rtpStream compares a packet with the last one that the hint tells of: 13 bits of source and payload type, direction, number of
// packets so far, and the sequence number.
func rtpStream(v *Payload, hint *[4]byte) Answer {
	b := v.Data
	id := (binary.BigEndian.Uint32(b[8:]) ^ uint32(b[1]&0x7f)<<24) * 0x9e3779b1 >> 19
	seq := binary.BigEndian.Uint16(b[2:])
	tag, last := binary.BigEndian.Uint16(hint[:]), binary.BigEndian.Uint16(hint[2:])
	n, dir := tag>>14, uint8(tag>>13&1)
	switch {
	case n == 0 || dir == v.Dir && (tag&0x1fff != uint16(id) || seq-last > 64):
		n = 1
	case dir != v.Dir, seq == last:
		return Answer{Outcome: Weak}
	case n == 2:
		return Answer{Outcome: Final, Proto: protocol.RTP}
	default:
		n = 2
	}
	binary.BigEndian.PutUint16(hint[:], n<<14|uint16(v.Dir)<<13|uint16(id))
	binary.BigEndian.PutUint16(hint[2:], seq)
	return Answer{Outcome: Weak}
}

// inspectRTPStream knows RTP over TCP, each packet behind its length (RFC 4571), by three packets of one source and payload type whose sequence numbers go on.
func inspectRTPStream(v *Payload) Answer {
	b := v.Data
	var first []byte
	for n := uint16(0); len(b) >= 2+12; n++ {
		size, head := int(binary.BigEndian.Uint16(b)), b[2:]
		whole := len(head) >= size
		if size < 13 || whole && !hasRTPHeader(head[:size]) || head[0]>>6 != 2 {
			return Answer{}
		}
		if n == 0 {
			first = head[:12]
		}
		if head[1]&0x7f != first[1]&0x7f || [4]byte(head[8:12]) != [4]byte(first[8:12]) || binary.BigEndian.Uint16(head[2:])-binary.BigEndian.Uint16(first[2:]) != n {
			return Answer{}
		}
		if n == 2 {
			return Answer{Outcome: Final, Proto: protocol.RTP}
		}
		if !whole {
			break
		}
		b = head[size:]
	}
	if first == nil {
		return Answer{}
	}
	return Answer{Outcome: More}
}

// isFeedback reports whether b may be an RTCP packet of any type among the packets of a stream.
func isFeedback(b []byte) bool { return len(b) >= 8 && b[0]>>6 == 2 && b[1] >= 192 && b[1] <= 223 }

// isRTCP reports whether b is a compound RTCP packet: it begins with a sender or receiver report whose number of blocks fits its length (RFC 3550 section
// 6.4). What follows it may be encrypted (RFC 3711).
func isRTCP(b []byte, cut bool) bool {
	if len(b) < 8 || b[0]>>6 != 2 || b[0]&0x20 != 0 && len(b) < 12 {
		return false
	}
	words, blocks := int(binary.BigEndian.Uint16(b[2:])), int(b[0]&31)
	switch b[1] {
	case 200:
		if words < 6+6*blocks || words > 6+6*blocks+64 {
			return false
		}
	case 201:
		if words < 1+6*blocks || words > 1+6*blocks+64 {
			return false
		}
	default:
		return false
	}
	n := 4 * (words + 1)
	if n > len(b) {
		return cut
	}
	if n+4 <= len(b) && b[n]>>6 == 2 {
		return true
	}
	return n == len(b) || len(b)-n >= 8 && len(b)-n <= 32 || b[1] == 200 && len(b)-n > 0
}
