package l7

import (
	"encoding/binary"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
)

// inspectRTP knows RTP (RFC 3550) by three packets of one direction with the same source and payload type whose sequence numbers go on, or by one where
// SDP announced it.
func inspectRTP(v *payload) answer {
	if isRTCP(v.data, v.cut) {
		return answer{outcome: final, proto: protocol.RTCP}
	}
	hint := v.memory()
	switch {
	case hint == nil:
		return answer{}
	case isRTP(v.data):
		if app, ok := v.announcedRTP(); ok {
			return answer{outcome: final, app: app}
		}
		return rtpStream(v, hint)
	case *hint != [4]byte{} && isFeedback(v.data):
		return answer{outcome: weak}
	}
	return answer{}
}

// announcedRTP reports whether SDP announced an endpoint of the payload's flow, to this worker or in a call that another one saw, and whether for SRTP.
func (v *payload) announcedRTP() (app protocol.ID, ok bool) {
	if x := v.expected(); x != nil && x.kind == expectHint && x.proto == protocol.RTP {
		return x.app, true
	}
	calls, r := v.worker.calls.table(), v.flow
	if calls.version() == 0 || v.tcp {
		return 0, false
	}
	server := r.Server()
	for _, side := range [2]flow.Endpoint{server, 1 - server} {
		switch calls.use(&r.Addr[side], r.Port[side], v.now) {
		case mediaSecure:
			return protocol.SRTP, true
		case mediaRTP:
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
func rtpStream(v *payload, hint *[4]byte) answer {
	b := v.data
	id := (binary.BigEndian.Uint32(b[8:]) ^ uint32(b[1]&0x7f)<<24) * 0x9e3779b1 >> 19
	seq := binary.BigEndian.Uint16(b[2:])
	tag, last := binary.BigEndian.Uint16(hint[:]), binary.BigEndian.Uint16(hint[2:])
	n, dir := tag>>14, uint8(tag>>13&1)
	switch {
	case n == 0 || dir == v.dir && (tag&0x1fff != uint16(id) || seq-last > 64):
		n = 1
	case dir != v.dir, seq == last:
		return answer{outcome: weak}
	case n == 2:
		return answer{outcome: final, proto: protocol.RTP}
	default:
		n = 2
	}
	binary.BigEndian.PutUint16(hint[:], n<<14|uint16(v.dir)<<13|uint16(id))
	binary.BigEndian.PutUint16(hint[2:], seq)
	return answer{outcome: weak}
}

// inspectRTPStream knows RTP over TCP, each packet behind its length (RFC 4571), by three packets of one source and payload type whose sequence numbers go on.
func inspectRTPStream(v *payload) answer {
	b := v.data
	var first []byte
	for n := uint16(0); len(b) >= 2+12; n++ {
		size, head := int(binary.BigEndian.Uint16(b)), b[2:]
		whole := len(head) >= size
		if size < 13 || whole && !hasRTPHeader(head[:size]) || head[0]>>6 != 2 {
			return answer{}
		}
		if n == 0 {
			first = head[:12]
		}
		if head[1]&0x7f != first[1]&0x7f || [4]byte(head[8:12]) != [4]byte(first[8:12]) || binary.BigEndian.Uint16(head[2:])-binary.BigEndian.Uint16(first[2:]) != n {
			return answer{}
		}
		if n == 2 {
			return answer{outcome: final, proto: protocol.RTP}
		}
		if !whole {
			break
		}
		b = head[size:]
	}
	if first == nil {
		return answer{}
	}
	return answer{outcome: more}
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
