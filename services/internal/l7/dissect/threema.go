package dissect

import "galvo/services/internal/l7/signature"

// inspectThreema knows the handshake of Threema's chat protocol (Cryptography Whitepaper, "Client-Server Protocol"), which has no byte that is not random: the client sends a
// key and a cookie, 48 bytes, and the server answers with a cookie and a box, 80 bytes, at one of its ports.
func inspectThreema(v *Payload) Answer {
	if v.Nth != 1 || v.Cut || !v.Begun || !v.on(5222) && !v.on(443) && !v.on(5223) || signature.Printable(v.Packet[:min(len(v.Packet), 8)]) {
		return Answer{}
	}
	m := v.memory()
	switch {
	case m == nil:
	case len(v.Packet) == 48 && m[0] == 0:
		m[0] = v.Dir + 1
		return Answer{Outcome: Weak}
	case len(v.Packet) == 80 && m[0] == 2-v.Dir:
		return Answer{Outcome: Final}
	}
	return Answer{}
}
