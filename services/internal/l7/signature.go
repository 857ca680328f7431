package l7

import (
	"bytes"
	"math/bits"
	"slices"
)

// A signature is a compiled row of signatureFiles: it holds if all its parts do.
type signature struct {
	proto    ID
	l4       transport
	ports    []uint16
	min, max int
	match    []pattern
	find     [][]byte // lower case
	fields   []field
	text     bool
	both     bool
	late     bool
	carries  bool
	app      ID
	samples  [2][]byte // what it must know, and what it must not
}

// A pattern is bytes at a fixed place.
type pattern struct {
	at   int  // negative: from the end
	mask byte // of a single byte
	any  [][]byte
}

// A field is a number at a fixed place that must be in a range, equal another one, or be compared with the payload's length less something.
type field struct {
	at, width int
	little    bool
	op        comparison
	times     uint64 // unit of a length, in bytes
	lo, hi    uint64 // range; of a length lo is what is to be subtracted, of another field its place
}

// A comparison is what a field must fulfil.
type comparison uint8

const (
	within   comparison = iota
	isLength            // the length of the payload
	atLeast             // that or more: a message whose rest is still to come
	atMost              // that or less: several messages
	same                // another field
)

// findWithin is how far the find part of a signature looks.
const findWithin = 128

// inspectSignatures asks the rows of the signature table that the first byte admits.
func inspectSignatures(v *payload) answer {
	if stateOf(&v.flow.L7) == Partial {
		return inspectCarried(v)
	}
	t := signatureTable()
	l4 := udp
	if v.tcp {
		l4 = tcp
	}
	half := false
	rows := t.dispatch[l4>>1][v.data[0]]
	for i := range rows {
		if !rows[i].admits(v.data) {
			continue
		}
		s := &t.rows[rows[i].row]
		if v.tcp && v.begun && v.nth > 2 && !s.late && !v.joined || !s.holds(v) {
			continue
		}
		if s.both && !noteHalf(v, s.proto) {
			half = true
			continue
		}
		if s.carries {
			return answer{outcome: carrier, proto: s.proto, app: s.app}
		}
		return answer{outcome: final, proto: s.proto, app: s.app}
	}
	if m := v.memory(); half || m != nil && m[0]|m[1] != 0 {
		return answer{outcome: weak}
	}
	return answer{}
}

// noteHalf remembers that a direction has shown a signature which does not decide alone, and reports whether the other one has shown one of the same
// protocol before. The memory holds the protocol and the direction + 1; where several protocols claim a direction the first one stays.
func noteHalf(v *payload, proto ID) bool {
	m := v.memory()
	if m == nil {
		return false
	}
	switch seen := ID(m[0]) | ID(m[1])<<8; seen {
	case proto:
		return m[2] != v.dir+1
	case 0:
		m[0], m[1], m[2] = byte(proto), byte(proto>>8), v.dir+1
	}
	return false
}

// inspectCarried looks for TLS in a stream that began with something else (STARTTLS and the like, RFC 3207, RFC 2595), and for TLS or HTTP behind a proxy's
// handshake.
func inspectCarried(v *payload) answer {
	inner, app := answer{}, TLS
	switch b := v.data[0]; {
	case b == tlsHandshake:
		inner = inspectTLS(v)
	case protoOf(&v.flow.L7) == socks && b >= 'A' && b <= 'Z':
		inner, app = inspectHTTP(v), HTTP
	}
	if inner.outcome < carrier {
		return answer{outcome: weak}
	}
	proto := protoOf(&v.flow.L7)
	if s := secured(proto); s != 0 && app == TLS {
		return answer{outcome: inner.outcome, proto: s, app: inner.app, host: inner.host}
	}
	return answer{outcome: inner.outcome, proto: proto, app: app, host: inner.host}
}

// socks is the number of SOCKS in signatures/network.toml.
const socks ID = 260

func (s *signature) holds(v *payload) bool {
	b := v.data
	if len(b) < s.min || s.max != 0 && v.atLeast() > s.max {
		return false
	}
	if s.ports != nil && !slices.Contains(s.ports, v.src) && !slices.Contains(s.ports, v.dst) {
		return false
	}
	for i := range s.match {
		if !s.match[i].holds(b, v.cut) {
			return false
		}
	}
	for i := range s.fields {
		if !s.fields[i].holds(v) {
			return false
		}
	}
	if s.text && !printable(b[:min(len(b), findWithin)]) {
		return false
	}
	return s.find == nil || containsAny(v.lowered(), s.find)
}

func (p *pattern) holds(b []byte, cut bool) bool {
	at := p.at
	if at < 0 {
		if at += len(b); at < 0 || cut {
			return false
		}
	}
	for _, w := range p.any {
		if len(b) < at+len(w) {
			continue
		}
		if p.mask != 0 {
			if b[at]&p.mask == w[0] {
				return true
			}
		} else if bytes.Equal(b[at:at+len(w)], w) {
			return true
		}
	}
	return false
}

func (f *field) holds(v *payload) bool {
	b := v.data
	if len(b) < f.at+f.width {
		return false
	}
	x := f.value(b[f.at:])
	switch f.op {
	case within:
		return x >= f.lo && x <= f.hi
	case same:
		return len(b) >= int(f.lo)+f.width && x == f.value(b[f.lo:])
	}
	n, x := uint64(len(b)), x*f.times+f.lo
	if v.cut {
		if v.wire <= len(b) {
			return x > n // a fragment of a longer datagram
		}
		n = uint64(v.wire)
	}
	return x == n || f.op == atLeast && x > n || f.op == atMost && x < n
}

// value reads the number that b begins with.
func (f *field) value(b []byte) (x uint64) {
	for i := range f.width {
		if f.little {
			x |= uint64(b[i]) << (8 * i)
		} else {
			x = x<<8 | uint64(b[i])
		}
	}
	return x
}

// printable reports whether b is ASCII text: its first byte is printable, the rest may be white space too.
func printable(b []byte) bool {
	for i, c := range b {
		if (c < ' ' || c > '~') && (i == 0 || c != '\r' && c != '\n' && c != '\t') {
			return false
		}
	}
	return true
}

// lowered returns the beginning of the payload in lower case.
func (v *payload) lowered() []byte {
	if v.low == nil {
		v.low = v.engine.low[:0]
		for _, c := range v.data[:min(len(v.data), findWithin)] {
			v.low = append(v.low, lower(c))
		}
	}
	return v.low
}

// containsAny reports whether one of the words is in b.
func containsAny(b []byte, words [][]byte) bool {
	for _, w := range words {
		if bytes.Contains(b, w) {
			return true
		}
	}
	return false
}

// weight counts the bits that a signature fixes: the chance that noise has them is one in 2^weight.
func (s *signature) weight() int {
	n := 0
	for _, p := range s.match {
		one := 8 * len(p.any[0])
		for _, w := range p.any {
			one = min(one, 8*len(w))
		}
		if p.mask != 0 {
			one = bits.OnesCount8(p.mask)
		}
		n += one - bits.Len(uint(len(p.any)-1))
	}
	for _, f := range s.fields {
		switch f.op {
		case isLength:
			n += min(8*f.width, 24)
		case same:
			n += 8 * f.width
		case atMost:
			n += max(8*f.width-11, 0)
		case within:
			n += 8*f.width - bits.Len64(f.hi-f.lo)
		}
	}
	if s.find != nil {
		n += 8*len(s.find[0]) - 7 // in any of 128 places
	}
	if s.max != 0 && s.max == s.min {
		n += 8
	}
	if s.text {
		n += 8
	}
	return n
}
