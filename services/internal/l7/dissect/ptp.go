package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
)

// inspectPTP knows PTP over UDP (IEEE 1588-2008 annex D) at its ports.
func inspectPTP(v *Payload) Answer {
	b := v.Data
	if !v.on(319) && !v.on(320) || len(b) < 34 && !v.Cut || len(b) < 4 {
		return Answer{}
	}
	switch id := header.PTP(b); {
	case (id == protocol.PTPv2 || id == protocol.GPTP) && (int(binary.BigEndian.Uint16(b[2:])) <= len(b) || v.Cut) && ptpMessage(b[0]&15):
		return Answer{Outcome: Final}
	case id == protocol.PTPv1 && len(b) >= 40:
		return Answer{Outcome: Final, Proto: protocol.PTPv1}
	}
	return Answer{}
}

// ptpMessage reports whether a message type is assigned (IEEE 1588-2008 table 19).
func ptpMessage(kind byte) bool { return kind <= 3 || kind >= 8 && kind <= 13 }
