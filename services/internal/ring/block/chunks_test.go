package block

import (
	"math/rand/v2"
	"testing"
)

// joined is rough by definition: one gap is left, the first of the widest ones.
func joined(c Chunks) Chunks {
	if c == 0 || c.Len() > mostNarrow {
		return All
	}
	codes, end, gap := 0, -1, Chunks(0)
	for rest := c; rest != 0; {
		from, to := rest.Run()
		rest &^= Between(from, to)
		codes += min(to-from, 2)
		if end >= 0 && from-end > gap.Len() {
			gap = Between(end, from)
		}
		end = to
	}
	if codes <= mostCodes {
		return c
	}
	if c = Between(c.First(), end) &^ gap; c.Len() > mostNarrow {
		return All
	}
	return c
}

func TestRough(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		c := Chunks(rng.Uint64())
		for range i % 6 {
			c &= Chunks(rng.Uint64())
		}
		if i%3 == 0 { // runs
			c |= c<<1 | c<<2
		}
		if got, want := c.rough(), joined(c); got != want {
			t.Fatalf("%064b: %064b, want %064b", c, got, want)
		}
	}
	for _, c := range []Chunks{0, 1, 1 << 63, All, 1<<63 | 1, Between(0, mostNarrow), Between(3, 4+mostNarrow)} {
		if got, want := c.rough(), joined(c); got != want {
			t.Errorf("%064b: %064b, want %064b", c, got, want)
		}
	}
}

func BenchmarkRough(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var sets [1024]Chunks
	for i := range sets {
		for range 1 + i%24 {
			sets[i] |= 1 << rng.IntN(MaxChunks)
		}
	}
	for _, f := range []struct {
		name string
		do   func(Chunks) Chunks
	}{{"rough", Chunks.rough}, {"joined", joined}} {
		b.Run(f.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				f.do(sets[i%len(sets)])
			}
		})
	}
}
