package dissect

import "encoding/binary"

// inspectESP knows ESP in UDP (RFC 3948 section 2.1), whose exchange of keys was not seen, at its port: two packets of one association whose numbers go on.
func inspectESP(v *Payload) Answer {
	b := v.Data
	if !v.on(4500) || len(b) < 8+12 {
		return Answer{}
	}
	m := v.memory()
	if m == nil {
		return Answer{}
	}
	association, number := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if association < 256 || number == 0 { // reserved (RFC 4303 section 2.1), never sent (section 2.2)
		return Answer{}
	}
	return goesOn(v, m, association, uint16(number))
}

// inspectWireGuard knows a tunnel of WireGuard whose handshake was not seen (its whitepaper, section 5.4.6) by two packets of data: kind, receiver, a number that goes on in
// one direction, and a length that padding makes a multiple of 16.
func inspectWireGuard(v *Payload) Answer {
	b, m := v.Data, v.memory()
	if m == nil || len(b) < 32 || len(b)%16 != 0 || v.Cut || binary.LittleEndian.Uint32(b) != 4 || binary.LittleEndian.Uint32(b[12:]) != 0 {
		return Answer{}
	}
	if m[1] != 0 && m[1]&1 != v.Dir {
		return Answer{Outcome: Final}
	}
	return goesOn(v, m, binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint16(b[8:]))
}

// goesOn compares a packet of a direction's association with the one that the memory holds: some bits of the association's name with the direction in the lowest, and the
// number.
func goesOn(v *Payload, m *[4]byte, association uint32, number uint16) Answer {
	name := (uint16(association)^uint16(association>>16)|2)&^1 | uint16(v.Dir) // never 0
	known, last := binary.BigEndian.Uint16(m[:]), binary.BigEndian.Uint16(m[2:])
	if known == name && number-last-1 < 64 {
		return Answer{Outcome: Final}
	}
	if known == 0 || known&1 == uint16(v.Dir) {
		binary.BigEndian.PutUint16(m[:], name)
		binary.BigEndian.PutUint16(m[2:], number)
	}
	return Answer{Outcome: Weak}
}
