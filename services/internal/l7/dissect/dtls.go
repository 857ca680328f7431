package dissect

import "encoding/binary"

// inspectDTLS knows DTLS by its records, and takes the server's name out of a ClientHello that is not fragmented.
func inspectDTLS(v *Payload) Answer {
	a := inspectDTLSRecords(v)
	if a.Outcome != Final || v.Data[0] != tlsHandshake || len(v.Data) < 25+34 || v.Data[13] != 1 {
		return a
	}
	b := v.Data[13:] // type, length, message number, offset and length of the fragment (RFC 6347 section 4.2.2)
	if string(b[1:4]) != string(b[9:12]) || b[6]|b[7]|b[8] != 0 {
		return a
	}
	n := int(b[1])<<16 | int(binary.BigEndian.Uint16(b[2:]))
	h := readHelloWith(b[12:min(len(b), 12+n)], 1, 1, 2, 1) // session id, cookie, cipher suites, compression methods
	return helloAnswer(v, &h)
}

// inspectDTLSRecords knows the records of DTLS 1.0, of 1.2 (RFC 6347 section 4.1) and of the draft that Cisco and OpenSSL 0.9.8 speak: they fill the datagram, and a handshake's are of epoch 0.
func inspectDTLSRecords(v *Payload) Answer {
	b := v.Data
	for n := 0; len(b) > 0; n++ {
		if len(b) < 13 || b[0] < tlsCipherSpec || b[0] > 25 || !dtlsVersion(b[1], b[2]) {
			return yes(n > 0 && v.Cut)
		}
		size := 13 + int(binary.BigEndian.Uint16(b[11:]))
		if size == 13 || size > 13+1<<14+2048 {
			return Answer{}
		}
		if size > len(b) {
			return yes(v.Cut)
		}
		b = b[size:]
	}
	return Answer{Outcome: Final}
}

func dtlsVersion(major, minor byte) bool {
	return major == 0xfe && (minor == 0xff || minor == 0xfd) || major == 1 && minor == 0
}
