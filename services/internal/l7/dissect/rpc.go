package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// inspectRPC knows calls of ONC RPC (RFC 5531): over UDP the message, over TCP behind a record mark. The program says what it is.
func inspectRPC(v *Payload) Answer {
	b := v.Data
	if v.TCP {
		if b[0]&0x80 == 0 {
			return Answer{}
		}
		if len(b) < 44 {
			if v.Begun && !v.Cut && b[0] == 0x80 && (len(b) < 16 || binary.BigEndian.Uint32(b[8:]) == 0 && binary.BigEndian.Uint32(b[12:]) == 2) {
				return Answer{Outcome: More}
			}
			return Answer{}
		}
		n := int(binary.BigEndian.Uint32(b)&0x7fffffff) + 4
		if n < 44 || n < len(b) && b[n]&0x80 == 0 || n > 1<<21 {
			return Answer{}
		}
		b = b[4:]
	}
	if len(b) < 40 || binary.BigEndian.Uint32(b[4:]) != 0 || binary.BigEndian.Uint32(b[8:]) != 2 {
		return Answer{}
	}
	program, version, procedure := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	kind, size := binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	if program < portMapper || program >= 1<<30 || version > 1024 || procedure > 1024 || size > 400 || size%4 != 0 || kind > 6 && kind < 300000 {
		return Answer{}
	}
	if at := 32 + int(size); at+8 > len(b) && !v.Cut || at+8 <= len(b) && (binary.BigEndian.Uint32(b[at:]) > 6 || binary.BigEndian.Uint32(b[at+4:]) > 400) {
		return Answer{} // a verifier follows the credentials
	}
	id := rpcProgram(program)
	if program == portMapper && procedure == 3 { // asks for the port of a program, which it names behind credentials and verifier
		at := 40 + int(size)
		if at+4 > len(b) {
			return Answer{}
		}
		if rpcProgram(binary.BigEndian.Uint32(b[at:])) == protocol.NFS {
			id = protocol.NFS
		}
	}
	return Answer{Outcome: Final, Proto: id}
}

// portMapper is the program that tells the ports of the others (RFC 1833).
const portMapper = 100000

// rpcProgram names a program by its number in the registry of IANA.
func rpcProgram(n uint32) protocol.ID {
	switch n {
	case 100003, 100005, 100011, 100021, 100024, 100227: // NFS, mount, quota, locks, status, access control lists
		return protocol.NFS
	case 1298437, 14398633, 34123456, 4867634, 1238433, 1238463, 14398634:
		return protocol.GlusterFS
	}
	return protocol.ONCRPC
}
