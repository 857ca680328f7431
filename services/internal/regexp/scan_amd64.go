package regexp

import "golang.org/x/sys/cpu"

var hasVector = cpu.X86.HasAVX2

// vectorText is the length of text that one round of the vector search reads.
const vectorText = 32 + window - 1

// scanVector looks for places, from a position on, where the conjunction of the tables is not zero. It returns the first block of
// 32 places with any, as bits; without any, the position from which on fewer than three bytes are left. The last block may
// begin before from. A text must have at least vectorText bytes.
//
//go:noescape
func scanVector(text []byte, from int, halves *[window][2][16]uint8) (at int, places uint32)
