package l7

import "galvo/services/internal/l7/signature"

// inspectThreema knows the handshake of Threema's chat protocol (Cryptography Whitepaper, "Client-Server Protocol"), which has no byte that is not random: the client sends a
// key and a cookie, 48 bytes, and the server answers with a cookie and a box, 80 bytes, at one of its ports.
func inspectThreema(v *payload) answer {
	if v.nth != 1 || v.cut || !v.begun || !v.on(5222) && !v.on(443) && !v.on(5223) || signature.Printable(v.packet[:min(len(v.packet), 8)]) {
		return answer{}
	}
	m := v.memory()
	switch {
	case m == nil:
	case len(v.packet) == 48 && m[0] == 0:
		m[0] = v.dir + 1
		return answer{outcome: weak}
	case len(v.packet) == 80 && m[0] == 2-v.dir:
		return answer{outcome: final}
	}
	return answer{}
}
