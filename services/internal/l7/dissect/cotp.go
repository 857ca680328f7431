package dissect

import (
	"bytes"
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// The parts of TPKT (RFC 1006 section 6) and COTP (X.224 section 13).
const (
	tpktHeader  = 4
	cotpData    = 0xf0
	cotpRequest = 0xe0
	cotpConfirm = 0xd0
)

// inspectCOTP knows what goes over ISO transport on TCP by the first data after the connection of the transport: S7comm and S7comm-plus by their first
// byte, MMS (ISO 9506) by the abstract syntax that its presentation layer names or by a PDU of it, RDP by the connect of T.125. Other users of a
// connection that was made in its sight are COTP.
func inspectCOTP(v *Payload) Answer {
	b := v.Data
	if v.Carrier != 0 {
		return behindMMS(v)
	}
	if len(b) < tpktHeader+3 {
		if len(b) < 2 || b[1] == 0 {
			return Answer{Outcome: More} // some send the header apart
		}
		return Answer{}
	}
	size, li := int(binary.BigEndian.Uint16(b[2:])), int(b[4])
	if b[1] != 0 || size < tpktHeader+3 || li < 2 || tpktHeader+1+li > size {
		return Answer{}
	}
	switch b[5] & 0xf0 {
	case cotpRequest, cotpConfirm:
		if li < 6 || len(b) > 7 && b[5]&0xf0 == cotpRequest && b[6]|b[7] != 0 {
			return Answer{}
		}
		if size > len(b) && !v.Cut {
			return Answer{Outcome: More}
		}
		if len(b) < 8 {
			return Answer{}
		}
		if m := v.memory(); m != nil {
			m[0] |= 1 << v.Dir
			return Answer{Outcome: Weak}
		}
	case cotpData & 0xf0:
		if li == 2 && len(b) < tpktHeader+7 && size > len(b) && !v.Cut {
			return Answer{Outcome: More}
		}
		for li == 2 && size < tpktHeader+3+4 { // too short to tell: the next one
			if size+tpktHeader+3 > len(b) {
				return Answer{Outcome: More}
			}
			b = b[size:]
			if size, li = int(binary.BigEndian.Uint16(b[2:])), int(b[4]); b[0] != 3 || b[5] != cotpData || size < tpktHeader+3 {
				return Answer{}
			}
		}
		if li == 2 {
			return cotpUser(v, b[tpktHeader+3:min(max(size, tpktHeader+3), len(b))])
		}
	}
	return Answer{}
}

// cotpUser names what a data unit carries; user is what is captured of it.
func cotpUser(v *Payload, user []byte) Answer {
	met := false
	if m := v.memory(); m != nil {
		met = m[0] != 0
	}
	switch {
	case len(user) < 4:
		return Answer{Outcome: More}
	case user[0] == 0x32 && (user[1] <= 3 || user[1] == 7) && user[1] != 0 && user[2]|user[3] == 0:
		return Answer{Outcome: Final, Proto: protocol.S7Comm}
	case user[0] == 0x72 && (user[1] <= 3 || user[1] == 0xfe) && int(binary.BigEndian.Uint16(user[2:])) <= 8192:
		return Answer{Outcome: Final, Proto: protocol.S7CommPlus}
	case user[0] == 0x7f && (user[1] == 0x65 || user[1] == 0x66):
		return Answer{Outcome: Final, Proto: protocol.RDP}
	case isMMS(user):
		return Answer{Outcome: Carrier, Proto: protocol.MMS, App: iccpName(user)}
	case met && !v.Cut:
		return Answer{Outcome: Final}
	}
	return Answer{}
}

// The abstract syntax of MMS, 1.0.9506.2.1 and 1.0.9506.1.1, as an object identifier (ISO 9506-2).
var mmsSyntax, mmsSyntaxOld = []byte{0x06, 0x05, 0x28, 0xca, 0x22, 0x02, 0x01}, []byte{0x06, 0x05, 0x28, 0xca, 0x22, 0x01, 0x01}

// isMMS reports whether a session protocol data unit (ISO 8327-1) is a connect or accept that names MMS, or data with a PDU of MMS in it.
func isMMS(b []byte) bool {
	if b[0] == 0x0d || b[0] == 0x0e {
		b = b[:min(len(b), 300)]
		return bytes.Contains(b, mmsSyntax) || bytes.Contains(b, mmsSyntaxOld)
	}
	// Give tokens, data transfer; then presentation user data: fully encoded, a list, the context, a single value.
	if len(b) < 8 || b[0] != 1 || b[1] != 0 || b[2] != 1 || b[3] != 0 || b[4] != 0x61 {
		return false
	}
	at := 4
	for _, tag := range [...]byte{0x61, 0x30} {
		if at >= len(b) || b[at] != tag {
			return false
		}
		if _, at = berLength(b, at+1); at < 0 {
			return false
		}
	}
	if at+5 > len(b) || b[at] != 2 || b[at+1] != 1 || b[at+2]&1 == 0 || b[at+3] != 0xa0 {
		return false
	}
	if _, at = berLength(b, at+4); at < 0 || at >= len(b) {
		return false
	}
	return b[at] >= 0xa0 && b[at] <= 0xad || b[at] == 0x8b || b[at] == 0x8c
}

// iccpNames are objects that every implementation of TASE.2 has (IEC 60870-6-503).
var iccpNames = [...][]byte{[]byte("Bilateral_Table_ID"), []byte("TASE2_Version"), []byte("Supported_Features"), []byte("Next_DSTransfer_Set"), []byte("DSTransfer_Set")}

func iccpName(b []byte) protocol.ID {
	for _, name := range iccpNames {
		if bytes.Contains(b, name) {
			return protocol.ICCP
		}
	}
	return 0
}

// behindMMS looks for ICCP in an association of MMS.
func behindMMS(v *Payload) Answer {
	if id := iccpName(v.Packet[:min(len(v.Packet), 1024)]); id != 0 {
		return Answer{Outcome: Final, Proto: protocol.MMS, App: id}
	}
	return Answer{Outcome: Weak}
}
