package l7

import "encoding/binary"

// ptpVersion names a message of PTP by its header: version 2 (IEEE 1588-2008 and -2019) or 1 (IEEE 1588-2002). Without a known version it is
// just PTP.
func ptpVersion(b []byte) ID {
	if len(b) < 4 {
		return PTP
	}
	switch {
	case b[1]&15 == 2 && binary.BigEndian.Uint16(b[2:]) >= 34:
		return PTPv2
	case binary.BigEndian.Uint16(b) == 1:
		return PTPv1
	}
	return PTP
}
