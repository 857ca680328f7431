// Package signature knows protocols by patterns that payloads have at fixed places. The patterns are rows of table/*.toml, which are compiled once; what a
// row may say is said at files.
//
// It judges one payload at a time and remembers nothing: what follows from a row that holds, and whether the other direction must have one too, is the caller's
// business. Any bytes will do; nothing is allocated per payload.
package signature

import (
	"bytes"
	"math/bits"
	"slices"
)

// A View is what a row looks at.
type View struct {
	Data     []byte        // the payload, or the beginning of a stream; never empty
	Wire     int           // length that Data had on the wire; of a fragment its own
	Cut      bool          // the wire had more than Data
	Src, Dst uint16        // ports
	Room     *[Within]byte // scratch, for as long as the View is used
	low      []byte        // the beginning of Data in lower case, once a row has asked for it
}

// A Row is a compiled signature: it holds if all its parts do.
type Row struct {
	Proto, App uint16 // the protocol, and what it carries; 0 is nothing
	L4         Transport
	Ports      []uint16  // one of the two must be among these; none = any
	Both       bool      // does not decide alone: the other direction must have a row of this protocol too
	Late       bool      // also behind the first two packets with payload of a TCP connection's direction
	Carries    bool      // TLS may follow
	Samples    [2][]byte // what it must know, and what it must not

	min, max int
	match    []pattern
	find     [][]byte // lower case
	fields   []field
	text     bool
}

// A Transport is a set of layer-4 protocols.
type Transport uint8

// The layer-4 protocols that rows are for.
const (
	UDP Transport = 1 << iota
	TCP
)

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

// Within is how far the find part of a row looks.
const Within = 128

// Holds reports whether all parts of the row hold.
func (s *Row) Holds(v *View) bool {
	b := v.Data
	if len(b) < s.min || s.max != 0 && v.atLeast() > s.max {
		return false
	}
	if s.Ports != nil && !slices.Contains(s.Ports, v.Src) && !slices.Contains(s.Ports, v.Dst) {
		return false
	}
	for i := range s.match {
		if !s.match[i].holds(b, v.Cut) {
			return false
		}
	}
	for i := range s.fields {
		if !s.fields[i].holds(v) {
			return false
		}
	}
	if s.text && !Printable(b[:min(len(b), Within)]) {
		return false
	}
	return s.find == nil || containsAny(v.lowered(), s.find)
}

// atLeast returns the length of the payload, of which more was on the wire than was captured if it is cut: of a fragment it is not known how much.
func (v *View) atLeast() int {
	if v.Cut {
		return max(v.Wire, len(v.Data)+1)
	}
	return len(v.Data)
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

func (f *field) holds(v *View) bool {
	b := v.Data
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
	if v.Cut {
		if v.Wire <= len(b) {
			return x > n // a fragment of a longer datagram
		}
		n = uint64(v.Wire)
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

// Printable reports whether b is ASCII text: its first byte is printable, the rest may be white space too.
func Printable(b []byte) bool {
	for i, c := range b {
		if (c < ' ' || c > '~') && (i == 0 || c != '\r' && c != '\n' && c != '\t') {
			return false
		}
	}
	return true
}

// lowered returns the beginning of the payload in lower case.
func (v *View) lowered() []byte {
	if v.low == nil {
		v.low = appendLower(v.Room[:0], v.Data[:min(len(v.Data), Within)])
	}
	return v.low
}

func appendLower(room, text []byte) []byte {
	for _, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		room = append(room, c)
	}
	return room
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

// weight counts the bits that a row fixes: the chance that noise has them is one in 2^weight.
func (s *Row) weight() int {
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
