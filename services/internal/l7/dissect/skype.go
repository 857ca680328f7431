package dissect

import (
	"encoding/binary"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
)

// inspectSkype knows the peers of Skype's own network, which it used up to 2014. Behind a number of two bytes the third one says what a message is, all else is encrypted (Bonfiglio
// et al., "Revealing Skype Traffic", SIGCOMM 2007; Biondi and Desclaux, "Silver Needle in the Skype", 2006): a message that the peer cannot decrypt is answered with its number and the
// address that it came from. A client has one port for all its peers: known by one of them, it is known by its next messages to others.
func inspectSkype(v *Payload) Answer {
	b := v.Data
	if len(b) < skypeRefusal || v.Cut {
		return Answer{}
	}
	kind := b[2] & 0x8f
	if kind != 2 && v.Holder == 0 {
		return Answer{} // nobody remembers anything of this flow
	}
	m := v.memory()
	switch {
	case kind == 2 && len(b) > skypeRefusal:
		if x := v.Expected(); x != nil && x.Kind == expect.Hint && x.Proto == protocol.SkypeCall {
			return Answer{Outcome: Final}
		}
		if m == nil {
			return Answer{}
		}
		*m = [4]byte{b[0], b[1], v.Dir + 1}
		return Answer{Outcome: Weak}
	case m == nil || m[2] == 0:
	case kind == 7 && len(b) == skypeRefusal && m[2] == 2-v.Dir && b[0] == m[0] && b[1] == m[1] && publicAddress(b[3:]):
		n, client := 4, 1-v.Dir
		if v.Flow.Flags&flow.V6 != 0 {
			n = 16
		}
		v.expect(expect.Hint, v.Flow.Addr[client][:n], v.Flow.Port[client], protocol.SkypeCall, 0, skypeLife)
		return Answer{Outcome: Final}
	case m[2] == v.Dir+1:
		return Answer{Outcome: Weak}
	}
	return Answer{}
}

// skypeRefusal is the length of the answer to what cannot be decrypted: number, kind, address, a challenge.
const skypeRefusal = 2 + 1 + 4 + 4

// skypeLife is how long a client's port is remembered.
const skypeLife = 10 * time.Minute

// publicAddress reports whether b begins with an IPv4 address of the Internet.
func publicAddress(b []byte) bool {
	switch a := binary.BigEndian.Uint32(b); {
	case a>>24 == 0, a>>24 == 10, a>>24 == 127, a>>24 >= 224, a>>16 == 192<<8|168, a>>20 == 172<<4|1:
		return false
	}
	return true
}
