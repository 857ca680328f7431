// Package sum has the checksum of a ring: CRC-32C (RFC 3385), of pieces of megabytes.
package sum

import "hash/crc32"

// castagnoli is the polynomial of CRC-32C, which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Of is the checksum of b.
func Of(b []byte) uint32 { return On(0, b) }

// On is the checksum of a piece, begun with that of everything before it.
func On(sum uint32, b []byte) uint32 {
	if n := len(b) &^ (stride - 1); wide && n > 0 {
		sum = ^fold(^sum, &b[0], n)
		b = b[n:]
	}
	return crc32.Update(sum, castagnoli, b)
}

// stride is what fold takes at once.
const stride = 256
