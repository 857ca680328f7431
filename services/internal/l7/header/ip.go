package header

import (
	"encoding/binary"

	"galvo/services/internal/packet"
)

// ipHeads says what a protocol's own header must have, where an IP protocol number is all that names it: a number alone may be damage, and a fragment or a packet that does
// not look like it leaves the flow undecided until one comes that does. What is not in the table is believed by its number: its header has nothing to hold on to, or
// whoever looks at traffic expects the number's name even for a damaged packet (ICMP, OSPF, VRRP and the others that every tool knows).
var ipHeads = map[uint8]func(b []byte) bool{
	9:   func(b []byte) bool { return len(b) >= 12 && b[0]>>4 == 1 && b[0]&15 >= 1 && b[0]&15 <= 2 },             // IGRP: version, update or request
	33:  func(b []byte) bool { return len(b) >= 12 && 4*int(b[4]) >= 12 && b[8]>>1&15 <= 9 },                     // DCCP (RFC 4340): data offset, type
	46:  func(b []byte) bool { return len(b) >= 8 && b[0]>>4 == 1 && b[1] >= 1 && b[1] <= 30 && lengthAt(b, 6) }, // RSVP (RFC 2205): version, type, length
	54:  func(b []byte) bool { return len(b) >= 20 && b[16] <= 1 && b[17] >= 1 && b[17] <= 7 },                   // NHRP (RFC 2332): version, type
	83:  func(b []byte) bool { return len(b) >= 18 && lengthAt(b, 2) },                                           // VINES: checksum, length
	88:  func(b []byte) bool { return len(b) >= 20 && b[0] == 2 && eigrpOpcode(b[1]) },                           // EIGRP (RFC 7868): version, opcode
	97:  func(b []byte) bool { return len(b) >= 16 && b[0] == 0x30 && b[1] == 0 },                                // EtherIP (RFC 3378): version, reserved
	108: func(b []byte) bool { return len(b) >= 5 && b[1] == 0 && (b[2] != 0 || b[3] >= 1) },                     // IPComp (RFC 3173): flags, index
	115: l2tpOverIP,
	124: func(b []byte) bool { return len(b) >= 8 && b[0] == 0x83 && b[2] == 1 },                               // IS-IS: discriminator, version
	135: func(b []byte) bool { return len(b) >= 8 && b[2] <= 21 },                                              // Mobile IPv6 (RFC 6275): type
	136: func(b []byte) bool { return len(b) >= 8 && (b[4]|b[5] == 0 || binary.BigEndian.Uint16(b[4:]) >= 8) }, // UDP-Lite (RFC 3828): coverage
	137: func(b []byte) bool { return len(b) >= 4 && b[3] != 0 },                                               // MPLS: time to live
	139: func(b []byte) bool { return len(b) >= 40 && b[2]&0x80 == 0 && b[3]&1 == 1 },                          // HIP (RFC 7401): fixed bits
	140: func(b []byte) bool { return len(b) >= 8 && (b[2]&0x80 != 0 || b[2] <= 65 && b[3]&1 == 0) },           // SHIM6 (RFC 5533): payload, or type
}

// lengthAt reports whether the 16 bits at b[at:] can be the length of the message that b is, whole or cut off.
func lengthAt(b []byte, at int) bool { return int(binary.BigEndian.Uint16(b[at:])) >= 8 }

func eigrpOpcode(op byte) bool { return op >= 1 && op <= 12 && op != 9 }

// l2tpOverIP knows L2TP version 3 straight over IP (RFC 3931 section 4.1.1): data behind a session's number, or behind a zero a control message with its length.
func l2tpOverIP(b []byte) bool {
	if len(b) < 8 || binary.BigEndian.Uint32(b) != 0 {
		return len(b) >= 8
	}
	return len(b) >= 16 && b[4]&0xc8 == 0xc8 && b[5]&15 == 3 && binary.BigEndian.Uint16(b[6:]) >= 12
}

// Holds reports whether the packet has the header of the IP protocol that its flow is named by.
func Holds(p *packet.Packet, proto uint8) bool {
	holds := ipHeads[proto]
	if holds == nil {
		return true
	}
	from, to := int(p.Payload), min(int(p.End), len(p.Data))
	return p.Layers&packet.LaterFragment == 0 && from <= to && holds(p.Data[from:to])
}
