package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
	"galvo/services/internal/l7/text"
)

// The content types of TLS records (RFC 8446 section 5.1).
const (
	tlsCipherSpec  = 20
	tlsAlert       = 21
	tlsHandshake   = 22
	tlsApplication = 23
)

// inspectTLS knows SSL 3.0 and TLS by its records, from the beginning of a connection or in its middle, and the hello of SSL 2.0. It waits for the whole
// ClientHello to learn the server's name and the protocol that the client wants to speak, and without a name for the server's certificate.
func inspectTLS(v *Payload) Answer {
	a := inspectRecords(v)
	if a.Outcome == No || a.Outcome == More {
		return a
	}
	return securedBy(v, a)
}

// inspectRecords is inspectTLS without what the port says.
func inspectRecords(v *Payload) Answer {
	b := v.Data
	if b[0]&0x80 != 0 {
		return inspectSSL2(v)
	}
	if len(b) < 6 {
		if len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 || v.Cut || !v.Begun || v.Nth > 4 {
			return Answer{}
		}
		return Answer{Outcome: More}
	}
	if !tlsRecord(b) {
		return Answer{}
	}
	n := 5 + int(binary.BigEndian.Uint16(b[3:]))
	switch b[0] {
	case tlsHandshake:
		return inspectHandshake(v, b, n)
	case tlsAlert:
		if n == 7 && (len(b) < 7 || b[5] != 1 && b[5] != 2) {
			return Answer{}
		}
	case tlsCipherSpec:
		if n != 6 || b[5] != 1 {
			return Answer{}
		}
	}
	if len(b) > n && !tlsRecord(b[n:]) {
		return Answer{}
	}
	return Answer{Outcome: Final}
}

// tlsRecord reports whether b begins with the header of a record, as much of it as is there.
func tlsRecord(b []byte) bool {
	if b[0] < tlsCipherSpec || b[0] > tlsApplication+1 || len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
		return false
	}
	if len(b) < 5 {
		return true
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	return n > 0 && n <= 1<<14+2048
}

// inspectHandshake judges a record of handshake messages; n is its length with the header.
func inspectHandshake(v *Payload, b []byte, n int) Answer {
	if len(b) < 9 {
		if v.Begun && !v.Cut {
			return Answer{Outcome: More}
		}
		return Answer{}
	}
	if n < 9 && b[5] == 1 {
		return inspectSplitHello(v, b, n)
	}
	body := int(b[6])<<16 | int(binary.BigEndian.Uint16(b[7:]))
	switch b[5] {
	case 1:
		if body < 38 || len(b) >= 11 && (b[9] != 3 || b[10] > 4) {
			return Answer{}
		}
		return inspectClientHello(v, b, n, body)
	case 2:
		if body < 38 || len(b) >= 11 && (b[9] != 3 && b[9] != 0x7f) {
			return Answer{}
		}
		return inspectServerFlight(v, b)
	case 0, 3, 4, 5, 6, 8, 11, 12, 13, 14, 15, 16, 20, 21, 22:
		if n-5 >= body+4 || body > n-9 && body < 1<<17 && b[5] == 11 {
			return Answer{Outcome: Final}
		}
	}
	if len(b) == n || len(b) > n && tlsRecord(b[n:]) {
		return Answer{Outcome: Final} // encrypted
	}
	return Answer{}
}

// inspectSplitHello judges a ClientHello of whose first bytes the first record has fewer than the four that tell its length.
func inspectSplitHello(v *Payload, b []byte, n int) Answer {
	h := joinRecords(b, v.Worker.hello[:0])
	if len(h) < 6 {
		if v.Begun && !v.Cut && len(b) < 64 {
			return Answer{Outcome: More}
		}
		return Answer{}
	}
	body := int(h[1])<<16 | int(binary.BigEndian.Uint16(h[2:]))
	if body < 38 || h[4] != 3 || h[5] > 4 {
		return Answer{}
	}
	return inspectClientHello(v, b, n, body)
}

// inspectClientHello takes the name out of a ClientHello, which may be spread over several records; b begins with the first one's header.
func inspectClientHello(v *Payload, b []byte, n, body int) Answer {
	if n >= 9+body {
		b = b[9:min(len(b), 9+body)]
	} else {
		b = joinRecords(b, v.Worker.hello[:0])
		if len(b) < 4 {
			return Answer{Outcome: Partial}
		}
		b = b[4:min(len(b), 4+body)]
	}
	h := readHello(b)
	whole := len(b) == body
	if h.name == nil && !whole && h.ok && !v.Cut && len(v.Data) < store.SlotBytes {
		return Answer{Outcome: Partial}
	}
	return helloAnswer(v, &h)
}

// helloAnswer says what a ClientHello tells. Without a name the server's certificate may tell more.
func helloAnswer(v *Payload, h *hello) Answer {
	a := Answer{Outcome: Final, App: alpnApp(h.alpn), Host: lowerName(v.scratch(), h.name)}
	if a.App == 0 && len(a.Host) > 0 {
		a.App = v.Worker.Owner(a.Host)
	}
	if (h.name == nil || isAddress(h.name) || torName(h.name, ".com")) && a.App == 0 && h.ok && v.TCP {
		a.Outcome = Carrier
	}
	return a
}

// joinRecords copies the bodies of the handshake records at the beginning of b.
func joinRecords(b, room []byte) []byte {
	for len(b) >= 5 && b[0] == tlsHandshake && tlsRecord(b) {
		n := int(binary.BigEndian.Uint16(b[3:]))
		part := b[5:min(len(b), 5+n)]
		room = append(room, part[:min(len(part), cap(room)-len(room))]...)
		b = b[5+len(part):]
	}
	return room
}

// isAddress reports whether a server's name is an IPv4 address, which does not name anybody.
func isAddress(name []byte) bool {
	for _, c := range name {
		if c != '.' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// A hello is what a ClientHello tells.
type hello struct {
	name []byte // server_name (RFC 6066 section 3)
	alpn []byte // the list of application_layer_protocol_negotiation (RFC 7301), each name behind its length
	ok   bool   // false: it cannot be one
}

// The extensions of a ClientHello that are looked at.
const (
	extServerName = 0
	extALPN       = 16
	extVersions   = 43
)

// readHello reads the body of a ClientHello, as much of it as has come.
func readHello(b []byte) hello { return readHelloWith(b, 1, 2, 1) } // session id, cipher suites, compression methods

// readHelloWith is readHello with the widths of the lengths of the vectors before the extensions.
func readHelloWith(b []byte, widths ...int) (h hello) {
	h.ok = true
	at := 2 + 32
	for _, width := range widths {
		n, next := vector(b, at, width)
		if next < 0 {
			return h
		}
		if width == 2 && (n == 0 || n%2 != 0) {
			h.ok = false
			return h
		}
		at = next
	}
	_, end := vector(b, at, 2)
	if end < 0 {
		end = len(b)
	}
	for at += 2; at+4 <= end; {
		kind := binary.BigEndian.Uint16(b[at:])
		n := int(binary.BigEndian.Uint16(b[at+2:]))
		at += 4
		if at+n > end {
			return h
		}
		body := b[at : at+n]
		switch kind {
		case extServerName:
			if n >= 5 && body[2] == 0 {
				if l := int(binary.BigEndian.Uint16(body[3:])); l <= n-5 {
					h.name = body[5 : 5+l]
				}
			}
		case extALPN:
			if n > 2 {
				h.alpn = body[2:]
			}
		}
		at += n
	}
	return h
}

// vector returns the length of the vector at b[at:], whose length has width bytes, and where it ends; that is -1 if it is not all there.
func vector(b []byte, at, width int) (n, end int) {
	if at+width > len(b) {
		return 0, -1
	}
	for _, c := range b[at : at+width] {
		n = n<<8 | int(c)
	}
	if end = at + width + n; end > len(b) {
		return n, -1
	}
	return n, end
}

func lowerName(room, name []byte) []byte {
	for _, c := range name[:min(len(name), protocol.MaxHost)] {
		room = append(room, text.Lower(c))
	}
	return room
}

// inspectSSL2 knows the CLIENT-HELLO of SSL 2.0, which later versions sent to old servers (RFC 5246 appendix E.2).
func inspectSSL2(v *Payload) Answer {
	b := v.Data
	if len(b) < 11 || b[2] != 1 || b[3] > 3 || b[3] == 3 && b[4] > 4 || b[3] != 3 && (b[3] != 0 || b[4] != 2) {
		return Answer{}
	}
	n := int(binary.BigEndian.Uint16(b)) & 0x7fff
	ciphers, session, challenge := int(binary.BigEndian.Uint16(b[5:])), int(binary.BigEndian.Uint16(b[7:])), int(binary.BigEndian.Uint16(b[9:]))
	if ciphers == 0 || ciphers%3 != 0 || challenge < 16 || challenge > 32 || n != 9+ciphers+session+challenge {
		return Answer{}
	}
	return Answer{Outcome: Final}
}
