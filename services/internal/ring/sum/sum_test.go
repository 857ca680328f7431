package sum

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestOn compares with the standard library at all lengths and places, and with what came before.
func TestOn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	check := func(from, to int) {
		t.Helper()
		before := crc32.Update(0, castagnoli, b[:from])
		if got, want := On(before, b[from:to]), crc32.Update(before, castagnoli, b[from:to]); got != want {
			t.Fatalf("the checksum of the bytes %d to %d is %08x, and should be %08x", from, to, got, want)
		}
	}
	for n := range 2100 {
		check(n%67, n%67+n)
	}
	for range 2000 {
		to := rnd.IntN(len(b) + 1)
		check(rnd.IntN(to+1), to)
	}
	if got := Of([]byte("123456789")); got != 0xe3069283 { // the check value of CRC-32C
		t.Fatalf("the checksum of 123456789 is %08x", got)
	}
}

func FuzzOn(f *testing.F) {
	f.Add(uint32(0), []byte("123456789"))
	f.Add(uint32(1), make([]byte, 3*stride+5))
	f.Fuzz(func(t *testing.T, sum uint32, b []byte) {
		if got, want := On(sum, b), crc32.Update(sum, castagnoli, b); got != want {
			t.Fatalf("%08x and not %08x", got, want)
		}
	})
}

// BenchmarkOn sums chunks of a ring's block, which are in the processor's nearest cache or the next one.
func BenchmarkOn(b *testing.B) {
	chunk := make([]byte, 16<<10)
	for name, sum := range map[string]func([]byte) uint32{
		"own":     Of,
		"library": func(b []byte) uint32 { return crc32.Checksum(b, castagnoli) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			for range b.N {
				sum(chunk)
			}
		})
	}
}
