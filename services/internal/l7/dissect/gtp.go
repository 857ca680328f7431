package dissect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
)

// inspectGTP knows GTP: the control plane of versions 1 (3GPP TS 29.060) and 2 (TS 29.274), what is no tunnelled packet in the user plane (TS 29.281),
// and GTP' of charging (TS 32.295). Version 2 is told by its elements, the others are looked for at their ports.
func inspectGTP(v *Payload) Answer {
	b := v.Data
	if len(b) < 8 {
		return Answer{}
	}
	size, version, isGTP := int(binary.BigEndian.Uint16(b[2:])), b[0]>>5, b[0]&0x10 != 0
	fits := func(header int) bool { return v.fills(header + size) }
	app := protocol.ID(0)
	switch {
	case v.on(3386) && !isGTP && version <= 2 && (fits(6) || fits(20)) && gtpPrimeMessage(b[1]):
		app = protocol.GTPPrime
	case version == 1 && isGTP && b[0]&8 == 0 && fits(8) && (b[0]&7 == 0 || size >= 4):
		switch {
		case v.on(2152) && gtpUserMessage(b[1]):
			app = protocol.GTPU
		case v.on(2123) && gtpControlMessage(b[1]):
			app = protocol.GTPC
		}
	case version == 2 && b[0]&3 == 0 && (fits(4) || isGTP && size+4 < len(b)): // the bit tells that a second message follows
		if gtpElements(b[:min(size+4, len(b))], v.Cut, v.on(2123)) {
			app = protocol.GTPC
		}
	}
	if app == 0 {
		return Answer{}
	}
	return Answer{Outcome: Final, App: app}
}

func gtpPrimeMessage(kind byte) bool { return kind >= 1 && kind <= 7 || kind == 240 || kind == 241 }

func gtpUserMessage(kind byte) bool {
	return kind == 1 || kind == 2 || kind == 26 || kind == 31 || kind >= 253
}

func gtpControlMessage(kind byte) bool {
	return kind >= 1 && kind <= 3 || kind >= 16 && kind <= 37 || kind >= 48 && kind <= 70 || kind >= 96 && kind <= 121 || kind >= 128 && kind <= 137
}

// gtpElements reports whether a message of version 2 is filled by its elements: type, length, spare bits and instance. At the protocol's port the spare
// bits may be anything, elsewhere messages that keep a path alive are too short to be told.
func gtpElements(b []byte, cut, atPort bool) bool {
	if b[1] < 25 && !atPort {
		return false
	}
	at := 8
	if b[0]&8 != 0 { // with a tunnel's identifier
		at = 12
	}
	n := 0
	for ; at+4 <= len(b); n++ {
		if b[at] == 0 || b[at+3]&0xf0 != 0 && !atPort {
			return false
		}
		at += 4 + int(binary.BigEndian.Uint16(b[at+1:]))
	}
	return n > 0 && (at == len(b) || cut)
}

// inspectPFCP knows PFCP (3GPP TS 29.244 section 7.2) by a message that its elements fill.
func inspectPFCP(v *Payload) Answer {
	b := v.Data
	if len(b) < 8 || b[0]>>5 != 1 || b[0]&0x18 != 0 {
		return Answer{}
	}
	size, kind := int(binary.BigEndian.Uint16(b[2:])), b[1]
	if !v.fills(4+size) || kind == 0 || kind > 16 && kind < 50 || kind > 57 {
		return Answer{}
	}
	at := 8
	if b[0]&1 != 0 { // of a session
		at = 16
	}
	n := 0
	for ; at+4 <= len(b); n++ {
		if kind := binary.BigEndian.Uint16(b[at:]); kind == 0 || kind > 1000 && kind < 32768 {
			return Answer{}
		}
		at += 4 + int(binary.BigEndian.Uint16(b[at+2:]))
	}
	return yes((n > 0 || v.on(8805)) && (at == len(b) || v.Cut && at > len(b)))
}
