package filter

import (
	"encoding/binary"

	"galvo/services/internal/packet"
)

// The UDP ports of industrial and timing protocols.
const (
	portPTPEvent   = 319
	portPTPGeneral = 320
	portPROFINET   = 0x8892 // RT over UDP, IEC 61158-6-10
)

var (
	ptpTypes = &numbers{max: 15, what: "a PTP message type", any: true, names: []numberName{
		{0, "Sync", ""}, {1, "Delay_Req", "DelayReq"}, {2, "Pdelay_Req", "PdelayReq"}, {3, "Pdelay_Resp", "PdelayResp"}, {8, "Follow_Up", "FollowUp"},
		{9, "Delay_Resp", "DelayResp"}, {10, "Pdelay_Resp_Follow_Up", "PdelayRespFollowUp"}, {11, "Announce", ""}, {12, "Signaling", ""}, {13, "Management", ""},
	}}
	cmOpnums = &numbers{max: 0xffff, what: "a PROFINET CM operation", any: true, names: []numberName{
		{0, "connect", ""}, {1, "release", ""}, {2, "read", ""}, {3, "write", ""}, {4, "control", ""}, {5, "read implicit", "read-implicit readimplicit"},
	}}
)

var industrialOperands = []operand{
	{
		name: "ptpMsgType", subject: "Time and industry", values: "0 to 15, or names: `Sync` (0), `Delay_Req` (1), `Pdelay_Req` (2), `Pdelay_Resp` (3), `Follow_Up` (8), `Delay_Resp` (9), `Pdelay_Resp_Follow_Up` (10), `Announce` (11), `Signaling` (12), `Management` (13); `any`",
		example: "ptpMsgType == Announce", meaning: "The message type of PTP version 2 over EtherType 0x88f7 or UDP ports 319 and 320. `any` is every PTP message, version 1 too.",
		is: "PTP message type is", oracle: "ptp.v2.messagetype == 11",
		read: ptpTypes.read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			every := s.has(15) && s.has(14) && s.has(7)
			return func(p *packet.Packet) bool {
				kind, v2, ok := ptp(p)
				return ok && (every || v2 && s.has(uint32(kind)))
			}
		},
	},
	{
		name: "profinetFrameId", subject: "Time and industry", values: "0 to 0xffff", ordered: true,
		example: "profinetFrameId == 0x8001", meaning: "The frame id of PROFINET RT: the first two bytes after EtherType 0x8892, or of a UDP datagram to or from port 34962.",
		is: "PROFINET frame id is", oracle: "pn_rt.frame_id == 0x8001",
		read: (&numbers{max: 0xffff, what: "a PROFINET frame id", hex: 4, ranges: true}).read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				b := profinet(p)
				return len(b) >= 2 && s.has(uint32(binary.BigEndian.Uint16(b)))
			}
		},
	},
	{
		name: "profinetCmOpnum", subject: "Time and industry", values: "0 to 65535, or names: `connect` (0), `release` (1), `read` (2), `write` (3), `control` (4), `\"read implicit\"` (5); `any`",
		example: "profinetCmOpnum == connect", meaning: "The operation number of a DCE/RPC packet over UDP with an interface of PROFINET IO (dea00001 to dea00004-6c97-11d1-8271-00a02442df7d), requests and responses. `any` is every operation. Of a datagram in IP fragments it is the first one, which has the header.",
		is: "PROFINET CM operation is", oracle: "pn_io.opnum == 0, where it is missing dcerpc.opnum == 0",
		read: cmOpnums.read,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				opnum, ok := profinetOpnum(p)
				return ok && s.has(uint32(opnum))
			}
		},
	},
}

// ptp finds a PTP message (IEEE 1588): byte 0 is the type and byte 1 the version in their low nibbles; version 1 begins with 0x0001 and comes over UDP only.
func ptp(p *packet.Packet) (kind uint8, v2, ok bool) {
	var b []byte
	switch {
	case p.EtherType == 0x88f7 && p.Layers&anyIP == 0:
		b = p.L2Payload()
		return first(b) & 15, true, len(b) > 0
	case p.Layers&(packet.UDP|packet.LaterFragment) == packet.UDP && (isPTP(p.SrcPort) || isPTP(p.DstPort)):
		b = p.L7()
	}
	if len(b) < 2 {
		return 0, false, false
	}
	switch b[1] & 15 {
	case 1:
		return 0, false, b[0] == 0
	case 2:
		return b[0] & 15, true, true
	}
	return 0, false, false
}

func first(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func isPTP(port uint16) bool { return port == portPTPEvent || port == portPTPGeneral }

// profinet returns a PROFINET RT frame, which begins with its frame id.
func profinet(p *packet.Packet) []byte {
	switch {
	case p.EtherType == 0x8892:
		return p.L2Payload()
	case p.Layers&(packet.UDP|packet.LaterFragment) == packet.UDP && (p.SrcPort == portPROFINET || p.DstPort == portPROFINET):
		return p.L7()
	}
	return nil
}

// The parts of the header of connectionless DCE/RPC (C706, 12.5.3.1).
const (
	rpcDataRepresentation = 4  // high nibble 1: little-endian
	rpcInterface          = 24 // UUID
	rpcOpnum              = 68
	rpcHeader             = 80
)

// pnioInterface is the tail of the interface UUIDs of PROFINET IO.
var pnioInterface = [8]byte{0x82, 0x71, 0x00, 0xa0, 0x24, 0x42, 0xdf, 0x7d}

// profinetOpnum finds the operation number of PROFINET CM.
func profinetOpnum(p *packet.Packet) (opnum uint16, ok bool) {
	if p.Layers&(packet.UDP|packet.LaterFragment) != packet.UDP {
		return 0, false
	}
	b := p.L7()
	if len(b) < rpcHeader || b[0] != 4 || b[1]&0x1f > 10 {
		return 0, false
	}
	uuid := b[rpcInterface : rpcInterface+16]
	var one uint32
	var two, three uint16
	if b[rpcDataRepresentation]>>4 == 1 {
		one, two, three = binary.LittleEndian.Uint32(uuid), binary.LittleEndian.Uint16(uuid[4:]), binary.LittleEndian.Uint16(uuid[6:])
		opnum = binary.LittleEndian.Uint16(b[rpcOpnum:])
	} else {
		one, two, three = binary.BigEndian.Uint32(uuid), binary.BigEndian.Uint16(uuid[4:]), binary.BigEndian.Uint16(uuid[6:])
		opnum = binary.BigEndian.Uint16(b[rpcOpnum:])
	}
	ok = one >= 0xdea00001 && one <= 0xdea00004 && two == 0x6c97 && three == 0x11d1 && [8]byte(uuid[8:]) == pnioInterface
	return opnum, ok
}
