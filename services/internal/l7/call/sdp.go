package call

import (
	"bytes"
	"time"

	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
	"galvo/services/internal/l7/text"
)

// An sdpReader reads a session description (RFC 8866) line by line, and announces the endpoints that it names.
type sdpReader struct {
	session [16]byte // where media go if they do not say otherwise
	media   medium   // the one that is being read; its port is 0 if there is none
	count   int      // of ports
	control uint16   // RTCP's port, 0 = the one above
	apart   [16]byte // RTCP's address, zero = the media's
	inMedia bool
	rtp     bool
	secure  bool // encrypted RTP
	shared  bool // RTCP comes to the same port (RFC 5761)
	told    int  // endpoints that were announced
}

// sdpLife is how long a flow may take to appear after it was announced.
const sdpLife = time.Hour

// take reads a line: a letter, an equals sign, the value. m names the call.
func (r *sdpReader) take(line []byte, m *span, to *sink) {
	if len(line) < 3 || line[1] != '=' {
		return
	}
	value := line[2:]
	switch line[0] {
	case 'c':
		if a, ok := sdpAddress(value); ok {
			if r.media.addr = a; !r.inMedia {
				r.session = a
			}
		}
	case 'm':
		r.finish(m, to)
		r.open(value)
	case 'a':
		r.attribute(value, m, to)
	}
}

// open reads a media line: what it is, port, signature.Transport, formats.
func (r *sdpReader) open(value []byte) {
	*r = sdpReader{session: r.session, told: r.told, inMedia: true, count: 1}
	r.media.addr = r.session
	_, value = word(value)
	port, value := word(value)
	proto, _ := word(value)
	number, many, _ := bytes.Cut(port, slash)
	n, ok := digitsOf(number, 65535)
	if !ok || text.HasFold(proto, "tcp") {
		return
	}
	if c, ok := digitsOf(many, 4); ok && c > 0 {
		r.count = c
	}
	r.media.port = uint16(n)
	r.rtp, r.secure = bytes.Contains(proto, rtpProfile), bytes.Contains(proto, secureProfile)
}

var (
	slash      = []byte("/")
	rtpProfile = []byte("RTP/")

	secureProfile = []byte("RTP/SAVP") // RFC 3711, and with feedback RFC 5124
)

// attribute reads an attribute of the media: names of payload types, RTCP's endpoint, and the endpoints that ICE offers (RFC 8839).
func (r *sdpReader) attribute(value []byte, m *span, to *sink) {
	name, rest, _ := bytes.Cut(value, colon)
	switch string(name) {
	case "rtpmap":
		number, rest := word(rest)
		kind, ok := digitsOf(number, 127)
		codec, _, _ := bytes.Cut(rest, slash)
		if ok && kind >= 96 && int(r.media.n) < len(r.media.types) && len(codec) > 0 {
			r.media.types[r.media.n] = uint64(kind)<<32 | uint64(CodecID(codec))
			r.media.n++
		}
	case "rtcp":
		number, rest := word(rest)
		if n, ok := digitsOf(number, 65535); ok {
			r.control = uint16(n)
			if a, ok := sdpAddress(rest); ok {
				r.apart = a
			}
		}
	case "rtcp-mux":
		r.shared = true
	case "candidate":
		r.candidate(rest, m, to)
	}
}

// candidate announces an endpoint that ICE offers: foundation, component, signature.Transport, priority, address, port.
func (r *sdpReader) candidate(b []byte, m *span, to *sink) {
	var field [6][]byte
	for i := range field {
		field[i], b = word(b)
	}
	a, ok := parseAddress(field[4])
	port, good := digitsOf(field[5], 65535)
	if ok && good && r.inMedia && text.HasFold(field[2], "udp") {
		c := r.media
		c.addr, c.port = a, uint16(port)
		r.announce(&c, m, to)
	}
}

// finish announces the endpoints of the media that was being read.
func (r *sdpReader) finish(m *span, to *sink) {
	port, control := r.media.port, r.control
	if port == 0 || r.media.addr == [16]byte{} { // refused, or on hold as RFC 2543 had it
		return
	}
	for i := 0; i < r.count && r.told < maxEndpoints; i++ {
		c := r.media
		c.use = r.use()
		r.announce(&c, m, to)
		if r.rtp {
			app := protocol.ID(0)
			if r.secure {
				app = protocol.SRTP
			}
			to.expected.Announce(addressBytes(&r.media.addr), expect.Endpoint{Port: r.media.port, L4: signature.UDP, Kind: expect.Hint, Proto: protocol.RTP, App: app, Until: to.now + int64(sdpLife)})
			if !r.shared || r.control != 0 {
				c := r.media
				if c.port++; control != 0 {
					c.port, control = control, 0
				}
				if r.apart != [16]byte{} {
					c.addr = r.apart
				}
				r.announce(&c, m, to)
			}
		}
		r.media.port += 2
	}
	r.media.port = 0
}

// use says what the endpoint is for that a medium is sent to.
func (r *sdpReader) use() Use {
	switch {
	case !r.rtp:
		return Other
	case r.secure:
		return SecureRTP
	}
	return RTP
}

// announce notes an endpoint of the call.
func (r *sdpReader) announce(c *medium, m *span, to *sink) {
	if c.port == 0 || m.ids[0] == 0 || c.addr == [16]byte{} || r.told == maxEndpoints {
		return
	}
	r.told++
	var ids [8]uint64
	copy(ids[:], m.ids[:])
	to.calls.add(c, &ids, to.now)
}

// addressBytes returns the bytes of an address that is kept in 16.
func addressBytes(a *[16]byte) []byte {
	for _, b := range a[4:] {
		if b != 0 {
			return a[:]
		}
	}
	return a[:4]
}

// sdpAddress reads "IN IP4 10.0.0.1/127".
func sdpAddress(b []byte) (a [16]byte, ok bool) {
	net, b := word(b)
	kind, b := word(b)
	if string(net) != "IN" || !text.HasPrefix(kind, "IP") {
		return a, false
	}
	addr, _ := word(b)
	addr, _, _ = bytes.Cut(addr, slash)
	return parseAddress(addr)
}

// parseAddress reads an IPv4 or IPv6 address into the form of flow records. Names are left to those who can ask for them.
func parseAddress(addr []byte) (a [16]byte, ok bool) {
	if len(addr) == 0 || len(addr) > 45 {
		return a, false
	}
	if bytes.IndexByte(addr, ':') >= 0 {
		return parseV6(addr)
	}
	return parseV4(addr)
}

func parseV4(addr []byte) (a [16]byte, ok bool) {
	for i := range 4 {
		number, rest, more := bytes.Cut(addr, dot)
		n, good := digitsOf(number, 255)
		if !good || more != (i < 3) {
			return [16]byte{}, false
		}
		a[i], addr = byte(n), rest
	}
	return a, true
}

var dot = []byte(".")

// parseV6 reads RFC 4291 section 2.2: groups of hexadecimal digits, of which one run may be left out, and an IPv4 address at the end.
func parseV6(addr []byte) (a [16]byte, ok bool) {
	n, gap := 0, -1
	if text.HasPrefix(addr, "::") {
		gap, addr = 0, addr[2:]
	}
	for len(addr) > 0 {
		if n > 14 {
			return a, false
		}
		group, rest, more := bytes.Cut(addr, colon)
		if !more && bytes.IndexByte(group, '.') >= 0 && n <= 12 {
			v4, good := parseV4(group)
			n += copy(a[n:], v4[:4])
			ok, addr = good, nil
			if !good {
				return a, false
			}
			break
		}
		x, good := hexOf(group)
		if !good || more && len(rest) == 0 {
			return a, false
		}
		a[n], a[n+1], addr = byte(x>>8), byte(x), rest
		if n += 2; more && rest[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap, addr = n, rest[1:]
		}
	}
	switch {
	case gap < 0 && n < 16 || gap >= 0 && n > 14:
		return a, false
	case gap >= 0:
		copy(a[16-(n-gap):], a[gap:n])
		clear(a[gap : 16-(n-gap)])
	}
	return a, true
}

// hexOf reads 1 to 4 hexadecimal digits.
func hexOf(b []byte) (x uint16, ok bool) {
	for _, c := range b {
		switch c = text.Lower(c); {
		case c >= '0' && c <= '9':
			x = x<<4 | uint16(c-'0')
		case c >= 'a' && c <= 'f':
			x = x<<4 | uint16(c-'a'+10)
		default:
			return 0, false
		}
	}
	return x, len(b) >= 1 && len(b) <= 4
}

// word cuts b at its first blank.
func word(b []byte) (first, rest []byte) {
	first, rest, _ = bytes.Cut(b, blank)
	return first, bytes.TrimLeft(rest, " ")
}

var blank = []byte(" ")

// digitsOf reads a decimal number of at most most.
func digitsOf(b []byte, most int) (n int, ok bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= most
}
