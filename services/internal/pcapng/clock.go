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
	offset int64 // ns
}

// newClock reads the options if_tsresol (a power of ten, or of two if the top bit is set) and if_tsoffset (seconds):
// section 4.2 of the draft.
func newClock(unit byte, offsetSeconds int64) clock {
	c := clock{mul: 1, div: 1, offset: scaleSeconds(offsetSeconds)}
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

// time saturates where the result does not fit.
func (c *clock) time(ticks uint64) int64 {
	hi, lo := bits.Mul64(ticks, c.mul)
	if c.div > 1 {
		lo /= c.div // mul is 1, hi is 0
	}
	if c.shift > 0 {
		hi, lo = shiftRight(hi, lo, c.shift)
	}
	if hi != 0 || lo > math.MaxInt64 {
		lo = math.MaxInt64
	}
	return add(int64(lo), c.offset)
}

func shiftRight(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return 0, hi >> (n - 64)
	}
	return hi >> n, lo>>n | hi<<(64-n)
}

func add(a, b int64) int64 {
	sum := a + b
	switch {
	case b > 0 && sum < a:
		return math.MaxInt64
	case b < 0 && sum > a:
		return math.MinInt64
	}
	return sum
}

func scaleSeconds(s int64) int64 {
	const most = math.MaxInt64 / 1_000_000_000
	switch {
	case s > most:
		return math.MaxInt64
	case s < -most:
		return math.MinInt64
	}
	return s * 1_000_000_000
}

func power10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}
