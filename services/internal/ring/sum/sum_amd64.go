package sum

import "golang.org/x/sys/cpu"

// wide says that the processor multiplies polynomials of 64 bits, eight at once: that is more than twice as fast as its own instruction for this checksum.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasSSE42

// fold is the state of the checksum behind n bytes, a multiple of stride and not 0, begun with the state sum.
//
// It is the method of "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009) for a reflected checksum: 16 bytes are taken further by a
// number of bits with two multiplications by powers of x modulo the polynomial, and added to those that are there.
//
//go:noescape
func fold(sum uint32, p *byte, n int) uint32
