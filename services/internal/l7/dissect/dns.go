package dissect

import (
	"encoding/binary"
	"time"

	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/text"
)

// inspectDNS knows messages of the DNS (RFC 1035) and of what shares its format: multicast DNS (RFC 6762), LLMNR (RFC 4795) and the name service
// of NetBIOS (RFC 1002).
func inspectDNS(v *Payload) Answer {
	b := v.Data
	if len(b) < 12 {
		return Answer{}
	}
	m, ok := readDNS(b, v.Cut, v.scratch())
	if m.plain && dnscryptName(m.name) { // what pads the question may be no proper record
		return Answer{Outcome: Final, Proto: protocol.DNS, App: protocol.DNSCrypt, Host: m.name}
	}
	if !ok {
		return Answer{}
	}
	home := v.on(53) || v.on(5353) || v.on(5355) || v.on(137)
	if !home && !(m.plain && m.whole) {
		return Answer{}
	}
	proto := protocol.DNS
	switch {
	case m.netbios && !v.on(53):
		return Answer{Outcome: Final, Proto: protocol.NetBIOS, Host: m.name}
	case v.on(53):
	case v.on(5353):
		proto = protocol.MDNS
	case v.on(5355):
		proto = protocol.LLMNR
	case v.on(137):
		return Answer{}
	}
	return Answer{Outcome: Final, Proto: proto, Host: m.name}
}

// inspectDNSOverTCP knows messages with their length in front (RFC 1035 section 4.2.2).
func inspectDNSOverTCP(v *Payload) Answer {
	b := v.Data
	if len(b) < 14 {
		if v.on(53) && (len(b) < 2 || plausibleLength(b)) {
			return Answer{Outcome: More}
		}
		return Answer{}
	}
	n := int(binary.BigEndian.Uint16(b))
	if n < 12 {
		return Answer{}
	}
	b = b[2:]
	cut := v.Cut || n > len(b)
	m, ok := readDNS(b[:min(n, len(b))], cut, v.scratch())
	if !ok || m.netbios || !v.on(53) && !(m.plain && m.whole) {
		return Answer{}
	}
	if dnscryptName(m.name) {
		return Answer{Outcome: Final, Proto: protocol.DNS, App: protocol.DNSCrypt, Host: m.name}
	}
	return Answer{Outcome: Final, Host: m.name}
}

// dnscryptName reports whether a name is that of a DNSCrypt resolver's certificates, which clients ask for first (DNSCrypt version 2, section 12.1).
func dnscryptName(name []byte) bool {
	return text.HasPrefix(name, "1.dnscrypt-cert.") || text.HasPrefix(name, "2.dnscrypt-cert.")
}

func plausibleLength(b []byte) bool { return binary.BigEndian.Uint16(b) >= 12 }

// A dnsMessage is what readDNS found out.
type dnsMessage struct {
	name    []byte // the first name asked for, or else the first that is answered
	plain   bool   // nothing in it is unusual
	whole   bool   // it ends where the datagram ends
	netbios bool
}

// readDNS reads a message; ok is false if it cannot be one. cut says that it was longer on the wire. The name goes to room.
func readDNS(b []byte, cut bool, room []byte) (m dnsMessage, ok bool) {
	flags := binary.BigEndian.Uint16(b[2:])
	response, opcode, rcode := flags&0x8000 != 0, flags>>11&15, flags&15
	var counts [4]int
	total := 0
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(b[4+2*i:]))
		total += counts[i]
	}
	if total == 0 {
		return m, response && len(b) == 12 && rcode != 0 && rcode <= 5 && opcode == 0 && !cut
	}
	if opcode > 9 || counts[0] > 64 || counts[1] > 512 || counts[2] > 128 || counts[3] > 128 || !response && counts[0] == 0 && counts[1] == 0 {
		return m, false
	}
	m.plain = opcode == 0 && counts[0] == 1 && (response && rcode <= 5 || !response && counts[1] == 0 && rcode == 0 && flags&0x0680 == 0)
	at := 12
	for i := range counts {
		for range counts[i] {
			name, next, st := readName(b, at, room)
			if st == nameCut {
				return m, (cut || i > 0) && (at > 12 || m.name != nil)
			}
			if st == nameBad {
				return m, false
			}
			if m.name == nil {
				m.name, room = name.text, nil
				m.netbios = name.netbios
			}
			m.plain = m.plain && name.plain
			fixed := 4
			if i > 0 {
				fixed = 10
			}
			if next+fixed > len(b) {
				return m, cut
			}
			kind, class := binary.BigEndian.Uint16(b[next:]), binary.BigEndian.Uint16(b[next+2:])&0x7fff
			opt := kind == 41 && i > 0
			if kind == 0 || !opt && class != 1 && class != 3 && class != 4 && class != 254 && class != 255 {
				return m, false
			}
			m.plain = m.plain && (opt || class == 1 && kind <= 260)
			at = next + fixed
			if i > 0 {
				at += int(binary.BigEndian.Uint16(b[next+8:]))
				if at > len(b) {
					return m, cut
				}
			}
		}
	}
	m.whole = at == len(b)
	return m, true
}

type nameStatus uint8

const (
	nameOK nameStatus = iota
	nameCut
	nameBad
)

type dnsName struct {
	text    []byte // labels with dots between them, lower case
	plain   bool   // of the characters that host names have
	netbios bool
}

// readName reads the name at b[at:], following compression, and returns where the name ends in place. A nil room is for names that are only
// to be skipped: compression is not followed then, so that a message costs no more than its length.
func readName(b []byte, at int, room []byte) (n dnsName, next int, st nameStatus) {
	n.plain, n.text = true, room
	total := 0
	for jumps := 0; ; {
		if at >= len(b) {
			return n, 0, nameCut
		}
		l := int(b[at])
		switch {
		case l == 0:
			if next == 0 {
				next = at + 1
			}
			return n, next, nameOK
		case l >= 0xc0:
			if at+2 > len(b) {
				return n, 0, nameCut
			}
			if next == 0 {
				next = at + 2
			}
			to := int(binary.BigEndian.Uint16(b[at:])) & 0x3fff
			if jumps++; jumps > 8 || to >= at || to < 12 {
				return n, 0, nameBad
			}
			if room == nil {
				return n, next, nameOK
			}
			at = to
			continue
		case l > 63:
			return n, 0, nameBad
		}
		if at+1+l > len(b) {
			return n, 0, nameCut
		}
		label := b[at+1 : at+1+l]
		if total += l + 1; total > 254 {
			return n, 0, nameBad
		}
		if total == l+1 && l == 32 {
			n.netbios = halfASCII(label)
		}
		n.plain = n.plain && hostLabel(label)
		if room != nil {
			n.text = appendLabel(n.text, label)
		}
		at += 1 + l
	}
}

func appendLabel(name, label []byte) []byte {
	if len(name) > 0 {
		name = append(name, '.')
	}
	for _, c := range label {
		name = append(name, text.Lower(c))
	}
	return name
}

func hostLabel(label []byte) bool {
	for _, c := range label {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// halfASCII reports whether a label is a NetBIOS name, each of whose 16 bytes is written as two letters from A to P (RFC 1001 section 14.1).
func halfASCII(label []byte) bool {
	for _, c := range label {
		if c < 'A' || c > 'P' {
			return false
		}
	}
	return true
}

// dnsLife is how long an address is remembered as that of an application: longer than most records live, since clients go on to use what they have.
const dnsLife = 10 * time.Minute

// watchDNS notes the addresses in answers to a question for an application's server: what a flow to them is can be guessed.
func watchDNS(v *Payload) {
	b := v.Packet
	if v.TCP {
		if len(b) < 2 {
			return
		}
		b = b[2:]
	}
	if len(b) < 12 || b[2]&0x80 == 0 || binary.BigEndian.Uint16(b[4:]) != 1 || b[6]|b[7] == 0 {
		return
	}
	question, at, st := readName(b, 12, v.scratch())
	if st != nameOK {
		return
	}
	app := v.Worker.Owner(question.text)
	if app == 0 {
		return
	}
	at += 4
	for range min(binary.BigEndian.Uint16(b[6:]), 32) {
		_, next, st := readName(b, at, nil)
		if st != nameOK || next+10 > len(b) {
			return
		}
		kind, n := binary.BigEndian.Uint16(b[next:]), int(binary.BigEndian.Uint16(b[next+8:]))
		at = next + 10 + n
		if at > len(b) {
			return
		}
		if kind == 1 && n == 4 || kind == 28 && n == 16 {
			v.Worker.Expected.Announce(b[next+10:at], expect.Endpoint{L4: udp | tcp, Kind: expect.Server, App: app, Until: v.Now + int64(dnsLife)})
		}
	}
}
