package dissect

import "encoding/binary"

// inspectRakNet knows the datagrams of a RakNet connection that has begun before (its source: ReliabilityLayer.cpp): frames, or ranges of acknowledged numbers, that
// fill them to the last byte. It wants two. How a connection begins is a signature.
func inspectRakNet(v *Payload) Answer {
	b := v.Data
	if v.Cut || len(b) < 7 {
		return Answer{}
	}
	frames := b[0]&0x60 == 0
	if frames && !raknetFrames(b[4:]) || !frames && !raknetRanges(b[1:]) {
		return Answer{}
	}
	m := v.memory()
	switch {
	case m == nil:
		return Answer{}
	case m[0] == 0 && frames:
		m[0] = v.Dir + 1
		copy(m[1:], b[1:4])
		return Answer{Outcome: Weak}
	case m[0] == 0:
		m[0] = 0xff // ranges
		return Answer{Outcome: Weak}
	case frames && m[0] == v.Dir+1 && (raknetNumber(b[1:])-raknetNumber(m[1:]))&0xffffff > 64:
		return Answer{} // the numbers of one side go on
	}
	return Answer{Outcome: Final}
}

func raknetNumber(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// raknetFrames reports whether frames fill b.
func raknetFrames(b []byte) bool {
	for range 32 {
		if len(b) < 4 || b[0]&15 != 0 {
			return false
		}
		kind, at := b[0]>>5, 3
		bits := int(binary.BigEndian.Uint16(b[1:]))
		if kind == 2 || kind == 3 || kind == 4 || kind >= 6 {
			at += 3 // number of the reliable message
		}
		switch kind {
		case 1, 4:
			at += 3 + 3 + 1 // numbers in sequence and order, channel
		case 3, 7:
			at += 3 + 1
		}
		if b[0]&0x10 != 0 {
			at += 4 + 2 + 4 // part of a message: how many, whose, which
		}
		at += bits / 8
		switch {
		case bits == 0 || bits%8 != 0 || at > len(b):
			return false
		case at == len(b):
			return true
		}
		b = b[at:]
	}
	return false
}

// raknetRanges reports whether b is a number of ranges, and they fill it.
func raknetRanges(b []byte) bool {
	n := int(binary.BigEndian.Uint16(b))
	for b = b[2:]; n > 0 && len(b) >= 4; n-- {
		size := 7
		if b[0] == 1 {
			size = 4 // one number only
		}
		if b[0] > 1 || len(b) < size {
			return false
		}
		b = b[size:]
	}
	return n == 0 && len(b) == 0
}
