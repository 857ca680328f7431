package header

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// The parts of SCTP (RFC 9260).
const (
	sctpHeader    = 12
	sctpData      = 0
	sctpDataHead  = 16
	sctpIData     = 64 // RFC 8260
	sctpIDataHead = 20
)

// SCTP names what a packet of SCTP carries, by the payload protocol identifier of the first chunk of data that has one; a zero says nothing, and the payload is
// looked at. It is 0 if nothing says.
func SCTP(p *packet.Packet) protocol.ID {
	if p.Layers&(packet.SCTP|packet.LaterFragment) != packet.SCTP {
		return 0
	}
	from, to := int(p.L4)+sctpHeader, min(int(p.End), len(p.Data))
	for range 16 {
		if from+4 > to {
			return 0
		}
		chunk := p.Data[from:to]
		size := int(binary.BigEndian.Uint16(chunk[2:]))
		if size < 4 {
			return 0
		}
		if id := sctpUser(chunk[:min(size, len(chunk))], p.SrcPort, p.DstPort); id != 0 {
			return id
		}
		from += (size + 3) &^ 3
	}
	return 0
}

// sctpUser names what a chunk carries, 0 if it has no data or none that is known.
func sctpUser(chunk []byte, src, dst uint16) protocol.ID {
	head := 0
	switch {
	case chunk[0] == sctpData && len(chunk) > sctpDataHead:
		head = sctpDataHead
	case chunk[0] == sctpIData && len(chunk) > sctpIDataHead && chunk[1]&2 != 0:
		head = sctpIDataHead
	default:
		return 0
	}
	ppid, data := binary.BigEndian.Uint32(chunk[head-4:]), chunk[head:]
	if ppid != 0 {
		return named(PPID, uint64(ppid))
	}
	for _, p := range sctpPorts {
		if (src == p.port || dst == p.port) && p.holds(data) {
			return named(PPID, p.ppid)
		}
	}
	return 0
}

// sctpPorts are where protocols are found that are often sent with the identifier 0, and what their first bytes must say.
var sctpPorts = [...]struct {
	port  uint16
	ppid  uint64
	holds func(b []byte) bool
}{
	{2905, 3, isAdaptation}, {2904, 2, isAdaptation}, {9900, 1, isAdaptation}, {14001, 4, isAdaptation}, {3565, 5, isAdaptation}, {3868, 46, isDiameter},
}

// isAdaptation knows the common header of the SIGTRAN user adaptation layers (RFC 4666 section 1.4.7 and others): version 1, a reserved byte, class and
// type, its own length.
func isAdaptation(b []byte) bool {
	return len(b) >= 8 && b[0] == 1 && b[1] == 0 && b[2] <= 11 && int(binary.BigEndian.Uint32(b[4:])) == len(b)
}

// isDiameter knows the header of Diameter (RFC 6733 section 3).
func isDiameter(b []byte) bool {
	return len(b) >= 20 && b[0] == 1 && int(binary.BigEndian.Uint32(b)&0xffffff) == len(b) && b[4]&15 == 0
}
