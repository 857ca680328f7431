package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// inspectUTP knows the transport of BitTorrent over UDP (BEP 29) by four packets of one connection: their header has kinds and lengths that fit, and the same
// number of the connection, one more in the other direction.
func inspectUTP(v *Payload) Answer {
	b := v.Data
	if len(b) < 20 || b[0]&15 != 1 || b[0]>>4 > 4 || b[1] > 2 || v.Cut {
		return Answer{}
	}
	id, now, window := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[12:])
	data, ok := utpData(b)
	if !ok || now == 0 || window > 1<<26 || id == 0 {
		return Answer{}
	}
	kind := b[0] >> 4
	if kind == 0 && data == 0 || kind != 0 && data != 0 {
		return Answer{} // only data has data
	}
	syn := kind == 4 && binary.BigEndian.Uint32(b[8:]) == 0 && binary.BigEndian.Uint16(b[18:]) == 0
	if kind == 4 && !syn {
		return Answer{}
	}
	m := v.memory()
	if m == nil {
		return Answer{}
	}
	known := binary.BigEndian.Uint16(m[1:])
	switch d := id - known; {
	case m[0] == 0:
		binary.BigEndian.PutUint16(m[1:], id)
		m[0], m[3] = 1, v.Dir+1
		if syn {
			m[0] = 2
		}
		return Answer{Outcome: Weak}
	case d != 0 && (m[3] == v.Dir+1 && d != 1 || m[3] != v.Dir+1 && d != 1 && d != 0xffff):
		return Answer{}
	}
	if m[0]++; m[0] > 3 || m[0] > 2 && m[3] != v.Dir+1 {
		return Answer{Outcome: Final, Proto: protocol.BitTorrent}
	}
	return Answer{Outcome: Weak}
}

// utpData returns how much follows the header and its extensions.
func utpData(b []byte) (n int, ok bool) {
	next, at := b[1], 20
	for range 4 {
		if next == 0 {
			return len(b) - at, true
		}
		if at+2 > len(b) || next > 2 {
			return 0, false
		}
		next, at = b[at], at+2+int(b[at+1])
		if at > len(b) {
			return 0, false
		}
	}
	return 0, false
}
