package filter

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// readHost reads a host name, or *. and the name that it must lie below.
func readHost(c *checker, it item) *Error {
	text := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(it.text), "."))
	name := strings.TrimPrefix(text, "*.")
	switch {
	case name == "":
		return c.wrong(it, "the value is empty", "a host name", "*. and a host name")
	case strings.ContainsAny(name, "* \t/"):
		return c.wrong(it, "only a leading *. stands for other names", "a host name", "*. and a host name")
	case len(name) > protocol.MaxHost:
		return c.wrong(it, "a host name has at most 255 bytes", "a host name")
	}
	c.set.strings = append(c.set.strings, text)
	c.add(quoteIfNeeded(text))
	return nil
}

// host reports whether a name, in any case, is one of the set.
func (s *set) host(name []byte) bool {
	for _, want := range s.strings {
		below := strings.HasPrefix(want, "*.")
		want = strings.TrimPrefix(want, "*")
		switch {
		case below && len(name) > len(want) && equalFold(name[len(name)-len(want):], want):
			return true
		case !below && len(name) == len(want) && equalFold(name, want):
			return true
		}
	}
	return false
}

// hostTest compares the name that the flow's verdict came with, if its protocol is one of the named.
func hostTest(protocols ...string) func(*set, *Env) test {
	ids := sync.OnceValue(func() (ids []protocol.ID) {
		for _, name := range protocols {
			if id, ok := protocol.Lookup(name); ok {
				ids = append(ids, id)
			}
		}
		return ids
	})
	return func(s *set, _ *Env) test {
		ids := ids()
		return func(_ *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			switch {
			case v.State == l7.Pending:
				return Unknown
			case v.State == l7.NoFlow || ref == nil || !carries(v, ids):
				return No
			case len(ref.Host) == 0 && v.State == l7.Partial:
				return Unknown
			case s.host(ref.Host):
				return Yes
			}
			return No
		}
	}
}

func carries(v l7.Verdict, ids []protocol.ID) bool {
	for _, id := range ids {
		if v.Is(id) {
			return true
		}
	}
	return false
}

// dnsNameTest compares the questions of the message in the packet.
func dnsNameTest(s *set, _ *Env) test {
	var ids []protocol.ID
	for _, name := range []string{"DNS", "MDNS", "LLMNR"} {
		if id, ok := protocol.Lookup(name); ok {
			ids = append(ids, id)
		}
	}
	return func(p *packet.Packet, _ *flow.Ref, v l7.Verdict) Result {
		switch {
		case v.State == l7.Pending:
			return Unknown
		case v.State == l7.NoFlow || !carries(v, ids):
			return No
		}
		message := p.L7()
		if p.Layers&packet.TCP != 0 && len(message) > 2 {
			message = message[2:] // RFC 1035, 4.2.2: its length comes first
		}
		if s.question(message) {
			return Yes
		}
		return No
	}
}

// question reports whether a DNS message (RFC 1035, 4.1) asks for a name of the set.
func (s *set) question(message []byte) bool {
	const header, fixed, maxName = 12, 4, 255
	if len(message) < header {
		return false
	}
	var name [maxName]byte
	rest := message[header:]
	for range min(int(binary.BigEndian.Uint16(message[4:])), 64) {
		n, used := dnsName(name[:0], rest)
		if used == 0 {
			return false
		}
		if s.host(name[:n]) {
			return true
		}
		if rest = rest[used:]; len(rest) < fixed {
			return false
		}
		rest = rest[fixed:]
	}
	return false
}

// dnsName writes the name at the start of b with dots to dst, whose capacity is the limit, and returns its length and how much of b it takes; 0 if it is
// no name. Names in questions are not compressed in practice; a pointer ends the search.
func dnsName(dst, b []byte) (n, used int) {
	for used < len(b) {
		length := int(b[used])
		used++
		switch {
		case length == 0:
			return len(bytes.TrimSuffix(dst, dot)), used
		case length > 63 || used+length > len(b) || len(dst)+length+1 > cap(dst):
			return 0, 0
		}
		dst = append(append(dst, b[used:used+length]...), '.')
		used += length
	}
	return 0, 0
}

var dot = []byte(".")
