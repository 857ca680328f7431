#include "textflag.h"

#define ALL(do) \
	do(0); do(1); do(2); do(3); do(4); do(5); do(6); do(7); \
	do(8); do(9); do(10); do(11); do(12); do(13); do(14); do(15)

// The bucket of a hash is the one of its upper half; a bucket has 64 bytes.
#define BUCKET(i) \
	MOVWU (8*i+4)(R2), R3; \
	AND R1, R3, R3; \
	ADD R3<<6, R0, R3; \
	PRFM (R3), PLDL1KEEP

// func prefetchBuckets(index *bucket, mask int, hashes *[AheadMax]uint64)
TEXT ·prefetchBuckets(SB), NOSPLIT, $0-24
	MOVD index+0(FP), R0
	MOVD mask+8(FP), R1
	MOVD hashes+16(FP), R2
	ALL(BUCKET)
	RET

// A record has 128 bytes.
#define RECORD(i) \
	MOVWU (4*i)(R2), R3; \
	ADD R3<<7, R0, R3; \
	PRFM (R3), PLDL1KEEP

// func prefetchRecords(records *Record, half int, guesses *[AheadMax]uint32)
TEXT ·prefetchRecords(SB), NOSPLIT, $0-24
	MOVD records+0(FP), R0
	MOVD half+8(FP), R1
	ADD R1, R0, R0
	SUB $128, R0, R0
	MOVD guesses+16(FP), R2
	ALL(RECORD)
	RET

// func prefetchLine(line *uint64)
TEXT ·prefetchLine(SB), NOSPLIT, $0-8
	MOVD line+0(FP), R1
	PRFM (R1), PLDL1KEEP
	RET

// func prefetchPair(line *uint64)
TEXT ·prefetchPair(SB), NOSPLIT, $0-8
	MOVD line+0(FP), R1
	SUB $64, R1, R2
	PRFM (R2), PLDL1KEEP
	PRFM (R1), PLDL1KEEP
	RET
