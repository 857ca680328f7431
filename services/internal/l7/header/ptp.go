package header

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// PTP names a message of PTP by its header: version 2 (IEEE 1588-2008 and -2019), of the profile of IEEE 802.1AS if its major SDO id is 1, or
// version 1 (IEEE 1588-2002). Without a known version it is just PTP.
func PTP(b []byte) protocol.ID {
	if len(b) < 4 {
		return protocol.PTP
	}
	switch {
	case b[1]&15 == 2 && binary.BigEndian.Uint16(b[2:]) >= 34:
		if b[0]>>4 == 1 {
			return protocol.GPTP
		}
		return protocol.PTPv2
	case binary.BigEndian.Uint16(b) == 1:
		return protocol.PTPv1
	}
	return protocol.PTP
}
