package dissect

import "encoding/binary"

// inspectOpenVPN knows how an OpenVPN session begins (doc/doxygen/doc_protocol_overview.h of its source): the client's reset with nothing behind it, alone where
// its form is complete, and else the server's reset, which names the client's session or, where that is encrypted, has the same time.
func inspectOpenVPN(v *Payload) Answer {
	b := v.Data
	if v.TCP { // each packet behind its length
		n := 14
		if len(b) > 1 {
			n = int(binary.BigEndian.Uint16(b))
		}
		if reset := len(b) < 3 || b[2] == openVPNClient2<<3 || b[2] == openVPNClient3<<3; n < 14 || n != len(b)-2 {
			if reset && n >= 14 && n > len(b)-2 && n < 1500 && v.Begun && !v.Cut && v.Nth <= 2 {
				return Answer{Outcome: More}
			}
			return Answer{}
		}
		b = b[2:]
	}
	if len(b) < 14 {
		return Answer{}
	}
	switch b[0] {
	case openVPNClient2 << 3, openVPNClient3 << 3:
		return openVPNClient(v, b)
	case openVPNServer2 << 3:
		return openVPNServer(v, b)
	}
	return Answer{}
}

// The kinds of packet: the resets that begin a session.
const (
	openVPNClient2 = 7
	openVPNServer2 = 8
	openVPNClient3 = 10
)

// openVPNDigests are the lengths that the authentication of a packet can have, with the packet's number and time behind it; 0 is without.
var openVPNDigests = [...]int{0, 16 + 8, 20 + 8, 28 + 8, 32 + 8, 48 + 8, 64 + 8}

func openVPNClient(v *Payload, b []byte) Answer {
	for _, n := range openVPNDigests {
		if len(b) == 14+n && binary.BigEndian.Uint32(b[len(b)-4:]) == 0 && b[len(b)-5] == 0 && (n == 0 || binary.BigEndian.Uint32(b[1+n:]) == 1) {
			return Answer{Outcome: Final}
		}
	}
	if len(b) < 17 || !plausibleTime(b[13:]) {
		return Answer{}
	}
	if len(b) == 54 && binary.BigEndian.Uint32(b[9:]) == 1 { // all behind number and time is encrypted
		return Answer{Outcome: Final}
	}
	m := v.memory()
	if m == nil || len(b) < 54 {
		return Answer{}
	}
	copy(m[:2], b[1:])
	copy(m[2:], b[13:])
	return Answer{Outcome: Weak}
}

func openVPNServer(v *Payload, b []byte) Answer {
	m := v.memory()
	if m == nil || *m == [4]byte{} {
		return openVPNReset(b)
	}
	if len(b) >= 17 && string(b[13:15]) == string(m[2:]) && plausibleTime(b[13:]) {
		return Answer{Outcome: Final}
	}
	return openVPNReset(b)
}

// openVPNReset judges the server's reset by itself: it acknowledges packet 0, and is number 0.
func openVPNReset(b []byte) Answer {
	for _, n := range openVPNDigests {
		if len(b) == 26+n && b[9+n] == 1 && binary.BigEndian.Uint32(b[10+n:]) == 0 && binary.BigEndian.Uint32(b[22+n:]) == 0 &&
			(n == 0 || binary.BigEndian.Uint32(b[1+n:]) == 1) {
			return Answer{Outcome: Final}
		}
	}
	return Answer{}
}

// plausibleTime reports whether b begins with a time, in seconds since 1970, between 2005 and 2055.
func plausibleTime(b []byte) bool { return b[0] >= 0x42 && b[0] <= 0xa0 }
