package pcapng

import (
	"math"
	"math/bits"
)

// A clock turns an interface's timestamps into ns since the epoch: ticks * mul / div >> shift + offset.
type clock struct {
	mul    uint64
	div    uint64
	shift  uint
	offset wide // ns
}

// A wide is a number of 128 bits in two's complement: what an offset may say, and ticks with it, which begin in another century, before the sum is one of this.
type wide struct{ hi, lo uint64 }

// newClock reads the options if_tsresol (a power of ten, or of two if the top bit is set) and if_tsoffset (seconds):
// section 4.2 of the draft.
func newClock(unit byte, offsetSeconds int64) clock {
	c := clock{mul: 1, div: 1}
	c.offset.hi, c.offset.lo = bits.Mul64(uint64(offsetSeconds), 1e9)
	if offsetSeconds < 0 {
		c.offset.hi -= 1e9 // as the upper half of offsetSeconds, -1, times 1e9
	}
	exponent := int(unit & 0x7f)
	switch {
	case unit&0x80 != 0:
		c.mul, c.shift = 1e9, uint(exponent)
	case exponent <= 9:
		c.mul = power10(9 - exponent)
	case exponent <= 9+19:
		c.div = power10(exponent - 9)
	default:
		c.mul = 0 // 2^64 ticks are less than 1 ns
	}
	return c
}

// What a frame's time may be, ns since the epoch: the first moments of 1678 and of 2262. Who adds or subtracts days does not leave an int64.
const (
	earliest = -9_214_560_000 * 1_000_000_000
	latest   = 9_214_646_400 * 1_000_000_000
)

// time returns the nearest time that a frame may have, and whether that can be written, as those from 1970 on, and is the one that ticks say.
func (c *clock) time(ticks uint64) (ns int64, tells bool) {
	hi, lo := bits.Mul64(ticks, c.mul)
	if c.div > 1 {
		lo /= c.div // mul is 1, hi is 0
	}
	if c.shift > 0 {
		hi, lo = shiftRight(hi, lo, c.shift)
	}
	lo, carry := bits.Add64(lo, c.offset.lo, 0)
	hi, _ = bits.Add64(hi, c.offset.hi, carry)
	switch {
	case hi == 0 && lo <= latest:
		return int64(lo), true
	case int64(hi) >= 0:
		return latest, false
	case hi == math.MaxUint64 && int64(lo) < 0:
		return max(int64(lo), earliest), false
	}
	return earliest, false
}

func shiftRight(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return 0, hi >> (n - 64)
	}
	return hi >> n, lo>>n | hi<<(64-n)
}

func power10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}
