package l7

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// inspectPTP knows PTP over UDP (IEEE 1588-2008 annex D) at its ports.
func inspectPTP(v *payload) answer {
	b := v.data
	if !v.on(319) && !v.on(320) || len(b) < 34 && !v.cut || len(b) < 4 {
		return answer{}
	}
	switch id := ptpVersion(b); {
	case (id == protocol.PTPv2 || id == protocol.GPTP) && (int(binary.BigEndian.Uint16(b[2:])) <= len(b) || v.cut) && ptpMessage(b[0]&15):
		return answer{outcome: final}
	case id == protocol.PTPv1 && len(b) >= 40:
		return answer{outcome: final, proto: protocol.PTPv1}
	}
	return answer{}
}

// ptpMessage reports whether a message type is assigned (IEEE 1588-2008 table 19).
func ptpMessage(kind byte) bool { return kind <= 3 || kind >= 8 && kind <= 13 }
