package dissect

import "encoding/binary"

// inspectProfinetUDP knows PROFINET RT over UDP at its port (IEC 61158-6-10, RT_CLASS_UDP) by two cyclic frames: both with a frame id of the class, the
// same one, and at the end a cycle counter that goes on and a status whose reserved bits and transfer status are 0.
func inspectProfinetUDP(v *Payload) Answer {
	b, m := v.Data, v.memory()
	if m == nil || !v.on(0x8892) || len(b) < 2+4 || v.Cut {
		return Answer{}
	}
	id, tail := binary.BigEndian.Uint16(b), b[len(b)-4:]
	if id < 0x8000 || id > 0xfbff || tail[2]&0x48 != 0 || tail[3] != 0 {
		return Answer{}
	}
	counter, last := binary.BigEndian.Uint16(tail), binary.BigEndian.Uint16(m[2:])
	if binary.BigEndian.Uint16(m[:]) == id && counter-last-1 < 4096 {
		return Answer{Outcome: Final}
	}
	binary.BigEndian.PutUint16(m[:], id)
	binary.BigEndian.PutUint16(m[2:], counter)
	return Answer{Outcome: Weak}
}
