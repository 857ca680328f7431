#include "textflag.h"

// Powers of x modulo the polynomial, reflected and shifted by one: what takes the lower and the upper 8 bytes of 16 further by so many bits (x^(n+32), x^(n-32)).
DATA by2048<>+0(SB)/8, $0x0dcb17aa4
DATA by2048<>+8(SB)/8, $0x0b9e02b86
GLOBL by2048<>(SB), RODATA|NOPTR, $16
DATA by512<>+0(SB)/8, $0x0740eef02
DATA by512<>+8(SB)/8, $0x09e4addf8
GLOBL by512<>(SB), RODATA|NOPTR, $16
DATA by128<>+0(SB)/8, $0x0f20c0dfe
DATA by128<>+8(SB)/8, $0x14cd00bd6
GLOBL by128<>(SB), RODATA|NOPTR, $16

// FURTHER takes z further by the powers in k, and adds what is at m.
#define FURTHER(k, z, t, m) \
	VPCLMULQDQ $0x00, k, z, t; \
	VPCLMULQDQ $0x11, k, z, z; \
	VPTERNLOGQ $0x96, m, t, z

// func fold(sum uint32, p *byte, n int) uint32
TEXT ·fold(SB), NOSPLIT, $0-28
	MOVL sum+0(FP), AX
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), CX
	VMOVD AX, X4
	VPXORQ (SI), Z4, Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	VBROADCASTI32X4 by2048<>(SB), Z8
	JMP next

loop:
	FURTHER(Z8, Z0, Z4, (SI))
	FURTHER(Z8, Z1, Z5, 64(SI))
	FURTHER(Z8, Z2, Z6, 128(SI))
	FURTHER(Z8, Z3, Z7, 192(SI))

next:
	ADDQ $256, SI
	SUBQ $256, CX
	JNZ loop

	VBROADCASTI32X4 by512<>(SB), Z8
	FURTHER(Z8, Z0, Z4, Z1)
	FURTHER(Z8, Z0, Z4, Z2)
	FURTHER(Z8, Z0, Z4, Z3)

	VMOVDQU by128<>(SB), X8
	VEXTRACTI32X4 $1, Z0, X1
	VEXTRACTI32X4 $2, Z0, X2
	VEXTRACTI32X4 $3, Z0, X3
	FURTHER(X8, X0, X4, X1)
	FURTHER(X8, X0, X4, X2)
	FURTHER(X8, X0, X4, X3)

	// The 16 bytes that are left have the same checksum as everything.
	VMOVQ X0, AX
	VPEXTRQ $1, X0, BX
	VZEROUPPER
	XORL DX, DX
	CRC32Q AX, DX
	CRC32Q BX, DX
	MOVL DX, ret+24(FP)
	RET
