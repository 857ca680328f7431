#include "textflag.h"

#define ALL(do) \
	do(0); do(1); do(2); do(3); do(4); do(5); do(6); do(7); \
	do(8); do(9); do(10); do(11); do(12); do(13); do(14); do(15)

// The bucket of a hash is the one of its upper half; a bucket has 64 bytes.
#define BUCKET(i) \
	MOVL (8*i+4)(DX), BX; \
	ANDQ CX, BX; \
	SHLQ $6, BX; \
	PREFETCHT0 (AX)(BX*1)

// func prefetchBuckets(index *bucket, mask int, hashes *[AheadMax]uint64)
TEXT ·prefetchBuckets(SB), NOSPLIT, $0-24
	MOVQ index+0(FP), AX
	MOVQ mask+8(FP), CX
	MOVQ hashes+16(FP), DX
	ALL(BUCKET)
	RET

// A record has 128 bytes.
#define RECORD(i) \
	MOVL (4*i)(DX), BX; \
	SHLQ $7, BX; \
	PREFETCHT0 -128(AX)(BX*1)

// func prefetchRecords(records *Record, half int, guesses *[AheadMax]uint32)
TEXT ·prefetchRecords(SB), NOSPLIT, $0-24
	MOVQ records+0(FP), AX
	ADDQ half+8(FP), AX
	MOVQ guesses+16(FP), DX
	ALL(RECORD)
	RET

// func prefetchLine(line *uint64)
TEXT ·prefetchLine(SB), NOSPLIT, $0-8
	MOVQ line+0(FP), BX
	PREFETCHT0 (BX)
	RET

// func prefetchPair(line *uint64)
TEXT ·prefetchPair(SB), NOSPLIT, $0-8
	MOVQ line+0(FP), BX
	PREFETCHT0 -64(BX)
	PREFETCHT0 (BX)
	RET
