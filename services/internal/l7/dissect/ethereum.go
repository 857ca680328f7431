package dissect

// inspectEthereum knows the discovery of Ethereum nodes (devp2p, discv4): a hash, a signature whose last byte is 0 or 1, a kind, and an RLP list that
// fills the packet. A ping says its version; the other kinds must come in both directions, or be at the usual port.
func inspectEthereum(v *Payload) Answer {
	const head = 32 + 65
	b := v.Data
	if len(b) < head+3 || b[head-1] > 1 || b[head] < 1 || b[head] > 6 {
		return Answer{}
	}
	list := b[head+1:]
	n, at := rlpList(list)
	if at == 0 || at+n != len(list) && !(v.Cut && at+n > len(list)) || n == 0 {
		return Answer{}
	}
	if b[head] == 1 && len(list) > at+1 && list[at] >= 3 && list[at] <= 5 && list[at+1] >= 0xc0 || v.on(30303) {
		return Answer{Outcome: Final}
	}
	m := v.memory()
	if m == nil {
		return Answer{}
	}
	if m[0] != 0 && m[0] != v.Dir+1 {
		return Answer{Outcome: Final}
	}
	m[0] = v.Dir + 1
	return Answer{Outcome: Weak}
}

// rlpList returns the length of the list that b begins with, and where its elements begin; 0 if it is none.
func rlpList(b []byte) (n, at int) {
	switch {
	case b[0] < 0xc0:
		return 0, 0
	case b[0] < 0xf8:
		return int(b[0]) - 0xc0, 1
	case b[0] == 0xf8 && len(b) > 1:
		return int(b[1]), 2
	case b[0] == 0xf9 && len(b) > 2:
		return int(b[1])<<8 | int(b[2]), 3
	}
	return 0, 0
}
