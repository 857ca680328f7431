package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// inspectDCERPC knows connectionless DCE/RPC (C706 chapter 12), and the PROFINET IO context management in it by its interface.
func inspectDCERPC(v *Payload) Answer {
	b := v.Data
	if len(b) < 80 || b[0] != 4 || b[1] > 10 || b[4] != 0 && b[4] != 0x10 || b[5] > 3 {
		return Answer{}
	}
	little := b[4] == 0x10
	order := binary.ByteOrder(binary.BigEndian)
	if little {
		order = binary.LittleEndian
	}
	if n := int(order.Uint16(b[74:])); n+80 != len(b) && !(v.Cut && n+80 > len(b)) {
		return Answer{}
	}
	if order.Uint32(b[24:])>>4 == 0xdea0000 && order.Uint16(b[28:]) == 0x6c97 && order.Uint16(b[30:]) == 0x11d1 &&
		string(b[32:40]) == "\x82\x71\x00\xa0\x24\x42\xdf\x7d" {
		return Answer{Outcome: Final, App: protocol.PROFINETIO}
	}
	return yes(order.Uint32(b[60:]) <= 16 && b[79] == 0) // interface version and the unused field after the authentication protocol
}

// inspectDCERPCStream knows connection-oriented DCE/RPC (C706 section 12.6): version 5.0 or 5.1, type, data representation, length.
func inspectDCERPCStream(v *Payload) Answer {
	b := v.Data
	var h [16]byte // zeros, which fit, where there is nothing yet
	if copy(h[:], b) == 0 || b[0] != 5 || h[1] > 1 || h[2] > 19 || h[4] != 0 && h[4] != 0x10 || h[5] > 3 || h[6]|h[7] != 0 {
		return Answer{}
	}
	if len(b) < len(h) {
		if v.Cut {
			return Answer{}
		}
		return Answer{Outcome: More}
	}
	order := binary.ByteOrder(binary.BigEndian)
	if b[4] == 0x10 {
		order = binary.LittleEndian
	}
	n := int(order.Uint16(b[8:]))
	return yes(n >= 16 && (n == len(b) || n > len(b) && n <= 5840 || n < len(b) && b[n] == 5))
}
