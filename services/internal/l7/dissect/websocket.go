package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/signature"
)

// inspectWebSocket knows WebSocket whose handshake was not seen, by frames that fill the segments (RFC 6455 section 5.2) and are masked in one direction and plain in the
// other. The memory holds the direction + 1 that had one, and whether it was masked.
func inspectWebSocket(v *Payload) Answer {
	m := v.memory()
	if m == nil || v.Cut || v.Joined {
		return Answer{}
	}
	masked, ok := webSocketFrames(v.Packet)
	switch {
	case !ok:
		return Answer{}
	case m[0] == 0:
		m[0], m[1] = v.Dir+1, masked
	case m[0] != v.Dir+1 && m[1] != masked:
		return Answer{Outcome: Final}
	case m[0] == v.Dir+1 && m[1] != masked:
		return Answer{}
	}
	return Answer{Outcome: Weak}
}

// webSocketFrames reports whether b is frames from its first byte to its last, all masked (2) or none (1). What is sent as text must be text where it can be read.
func webSocketFrames(b []byte) (masked byte, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || b[0]&0x70 != 0 || b[0]&15 > 2 && b[0]&15 < 8 || b[0]&15 > 10 || b[0]&0x88 == 8 {
			return 0, false
		}
		is, size, head := 1+b[1]>>7, int(b[1]&0x7f), 2
		switch {
		case size == 126 && len(b) >= 4:
			if size, head = int(binary.BigEndian.Uint16(b[2:])), 4; size < 126 {
				return 0, false
			}
		case size > 125: // longer than a segment
			return 0, false
		}
		if is == 2 {
			head += 4
		}
		if masked != 0 && is != masked || head+size > len(b) {
			return 0, false
		}
		if b[0]&15 == 1 && is == 1 && !signature.Printable(b[head:min(head+size, head+signature.Within)]) {
			return 0, false
		}
		masked, b = is, b[head+size:]
	}
	return masked, masked != 0
}
