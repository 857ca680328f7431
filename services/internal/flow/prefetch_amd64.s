#include "textflag.h"

#define LINE(at) \
	MOVQ at(AX), BX; \
	PREFETCHT0 (BX)

#define BEFORE(at) \
	MOVQ at(AX), BX; \
	PREFETCHT0 -64(BX)

#define ALL(do) \
	do(0); do(8); do(16); do(24); do(32); do(40); do(48); do(56); \
	do(64); do(72); do(80); do(88); do(96); do(104); do(112); do(120)

// func prefetch(lines *[AheadMax]*uint64)
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVQ lines+0(FP), AX
	ALL(LINE)
	RET

// func prefetchBefore(lines *[AheadMax]*uint64)
TEXT ·prefetchBefore(SB), NOSPLIT, $0-8
	MOVQ lines+0(FP), AX
	ALL(BEFORE)
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
