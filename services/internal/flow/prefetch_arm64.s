#include "textflag.h"

#define LINE(at) \
	MOVD at(R0), R1; \
	PRFM (R1), PLDL1KEEP

#define BEFORE(at) \
	MOVD at(R0), R1; \
	SUB $64, R1, R2; \
	PRFM (R2), PLDL1KEEP

#define ALL(do) \
	do(0); do(8); do(16); do(24); do(32); do(40); do(48); do(56); \
	do(64); do(72); do(80); do(88); do(96); do(104); do(112); do(120)

// func prefetch(lines *[AheadMax]*uint64)
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVD lines+0(FP), R0
	ALL(LINE)
	RET

// func prefetchBefore(lines *[AheadMax]*uint64)
TEXT ·prefetchBefore(SB), NOSPLIT, $0-8
	MOVD lines+0(FP), R0
	ALL(BEFORE)
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
