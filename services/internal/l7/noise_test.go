package l7

import (
	"math/rand/v2"
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// noises are payloads that are nothing: how each byte is made, and how many conversations in 10,000 may have a name all the same. Zeros and small numbers are what headers of
// anything consist of, so that a signature which counts on them alone shows up here.
var noises = []struct {
	what string
	most int
	byte func(r *rand.Rand, at int) byte
}{
	{"random bytes", 1, func(r *rand.Rand, _ int) byte { return byte(r.Uint32()) }},
	{"text", 1, func(r *rand.Rand, _ int) byte { return ' ' + byte(r.IntN(95)) }},
	{"few bits", 20, func(r *rand.Rand, _ int) byte { return byte(r.Uint32() & r.Uint32() & r.Uint32()) }},
	{"small numbers before random bytes", 20, func(r *rand.Rand, at int) byte {
		if at < 12 {
			return byte(r.IntN(4))
		}
		return byte(r.Uint32())
	}},
}

// TestNoise plays conversations of noise between ports that nobody uses.
func TestNoise(t *testing.T) {
	const conversations = 10_000
	r := rand.New(rand.NewPCG(9, 10))
	for _, noise := range noises {
		named := make(map[string]int)
		n := 0
		var l *lab
		for i := range conversations {
			if i%500 == 0 {
				l = newLab(Config{Bytes: 1 << 18})
			}
			proto := [2]byte{6, 17}[i%2]
			if proto == 6 {
				l.send(proto, 41000+uint16(i%500), 40001, l7test.SYN)
			}
			for k := range 4 {
				b := make([]byte, 1+r.IntN([]int{8, 40, 200, 1400}[r.IntN(4)]))
				for at := range b {
					b[at] = noise.byte(r, at)
				}
				if v := l.send(proto, 41000+uint16(i%500), 40001, l7test.Packet{Payload: string(b), Back: k%2 == 1}); v.Proto != 0 {
					named[protocol.Name(v.Proto)]++
					n++
					break
				}
			}
		}
		t.Logf("%s: %d of %d conversations have a name: %v", noise.what, n, conversations, named)
		if n > noise.most*conversations/10_000 {
			t.Errorf("%s: %d conversations are %v; want at most %d", noise.what, n, named, noise.most)
		}
	}
}
