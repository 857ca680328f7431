package dissect

// inspectDNP3 knows DNP3 by the header of its data link layer (IEEE 1815-2012 clause 9): start bytes, length, and the checksum of all.
func inspectDNP3(v *Payload) Answer {
	b := v.Data
	if v.TCP && len(b) < 10 && (len(b) < 2 || b[1] == 0x64) {
		return Answer{Outcome: More}
	}
	if len(b) < 10 || b[1] != 0x64 || b[2] < 5 {
		return Answer{}
	}
	return yes(dnp3Checksum(b[:8]) == uint16(b[8])|uint16(b[9])<<8)
}

// dnp3Checksum is the CRC of 16 bits with the polynomial 0x3d65, reflected and inverted.
func dnp3Checksum(b []byte) uint16 {
	crc := uint16(0)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			low := crc & 1
			if crc >>= 1; low != 0 {
				crc ^= 0xa6bc
			}
		}
	}
	return ^crc
}
