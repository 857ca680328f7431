#include "textflag.h"

// LOOK leaves in data the bits of the buckets that admit each byte of data, by the tables low and high.
#define LOOK(data, spare, low, high) \
	VPSRLW  $4, data, spare     \
	VPAND   Y6, data, data      \
	VPAND   Y6, spare, spare    \
	VPSHUFB data, low, data     \
	VPSHUFB spare, high, spare  \
	VPAND   spare, data, data

// func scanVector(text []byte, from int, halves *[window][2][16]uint8) (at int, places uint32)
TEXT ·scanVector(SB), NOSPLIT, $0-52
	MOVQ text_base+0(FP), SI
	MOVQ text_len+8(FP), CX
	MOVQ from+24(FP), AX
	MOVQ halves+32(FP), DX
	VBROADCASTI128 (DX), Y0
	VBROADCASTI128 16(DX), Y1
	VBROADCASTI128 32(DX), Y2
	VBROADCASTI128 48(DX), Y3
	VBROADCASTI128 64(DX), Y4
	VBROADCASTI128 80(DX), Y5
	MOVL $0x0f0f0f0f, BX
	VMOVD BX, X6
	VPBROADCASTD X6, Y6
	VPXOR Y7, Y7, Y7
	SUBQ $34, CX // the last block
	LEAQ 32(CX), DI

block:
	CMPQ AX, CX
	JGT  last

look:
	VMOVDQU (SI)(AX*1), Y8
	VMOVDQU 1(SI)(AX*1), Y9
	VMOVDQU 2(SI)(AX*1), Y10
	LOOK(Y8, Y11, Y0, Y1)
	LOOK(Y9, Y12, Y2, Y3)
	LOOK(Y10, Y13, Y4, Y5)
	VPAND Y8, Y9, Y9
	VPAND Y9, Y10, Y10
	VPCMPEQB Y7, Y10, Y10
	VPMOVMSKB Y10, BX
	XORL $-1, BX
	JNZ  found
	ADDQ $32, AX
	JMP  block

last:
	CMPQ AX, DI
	JGE  none
	MOVQ CX, AX
	JMP  look

none:
	MOVQ DI, AX
	XORL BX, BX

found:
	VZEROUPPER
	MOVQ AX, at+40(FP)
	MOVL BX, places+48(FP)
	RET
