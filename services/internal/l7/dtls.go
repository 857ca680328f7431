package l7

import "encoding/binary"

// inspectDTLS knows the records of DTLS 1.0 and 1.2 (RFC 6347 section 4.1): they fill the datagram, and a handshake's are of epoch 0.
func inspectDTLS(v *payload) answer {
	b := v.data
	for n := 0; len(b) > 0; n++ {
		if len(b) < 13 || b[0] < tlsCipherSpec || b[0] > 25 || b[1] != 0xfe || b[2] != 0xff && b[2] != 0xfd {
			return yes(n > 0 && v.cut)
		}
		size := 13 + int(binary.BigEndian.Uint16(b[11:]))
		if size == 13 || size > 13+1<<14+2048 {
			return answer{}
		}
		if size > len(b) {
			return yes(v.cut)
		}
		b = b[size:]
	}
	return answer{outcome: final}
}
