package protocol

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"galvo/services/internal/l7/signature"
)

func TestSignatures(t *testing.T) {
	table := Signatures()
	for i := range table.Rows {
		s := &table.Rows[i]
		name := Name(ID(s.Proto))
		for n, sample := range s.Samples {
			v := signature.View{Data: sample, Room: new([signature.Within]byte)}
			if s.Ports != nil {
				v.Dst = s.Ports[0]
			}
			if got, want := s.Holds(&v), n == 0; got != want {
				t.Errorf("%s: signature on %q: %v, want %v", name, sample, got, want)
			}
		}
		asked := func(g signature.Guard) bool { return int(g.Row) == i && g.Admits(s.Samples[0]) }
		if !slices.ContainsFunc(table.Asked(s.L4&signature.TCP != 0, s.Samples[0][0]), asked) {
			t.Errorf("%s: not asked about %q", name, s.Samples[0])
		}
	}
}

// shared are samples that belong to two protocols: of the first, which comes first in the table, and of the second too.
var shared = map[[2]string]bool{
	{"Mining", "JSON-RPC"}: true, // Stratum is JSON-RPC
}

// TestEverySignature asks all the rows about each one's sample, whole and cut off: a sample belongs to its own protocol alone, or the table of shared says why not.
func TestEverySignature(t *testing.T) {
	table := Signatures()
	clashes := make(map[string]bool)
	for i := range table.Rows {
		s := &table.Rows[i]
		port := uint16(9)
		if len(s.Ports) > 0 {
			port = s.Ports[0]
		}
		for _, stream := range []bool{false, true} {
			l4 := signature.UDP
			if stream {
				l4 = signature.TCP
			}
			if s.L4&l4 == 0 {
				continue
			}
			for n := 1; n <= len(s.Samples[0]); n++ { // cut off, and at last whole
				b := s.Samples[0][:n]
				v := signature.View{Data: b, Cut: n < len(s.Samples[0]), Wire: len(s.Samples[0]), Dst: port, Room: new([signature.Within]byte)}
				for j := range table.Rows {
					o := &table.Rows[j]
					if o.L4&l4 == 0 || o.Both || s.Both || o.Proto == s.Proto || !o.Holds(&v) || shared[[2]string{Name(ID(s.Proto)), Name(ID(o.Proto))}] {
						continue
					}
					clashes[fmt.Sprintf("%s is also %s, of %d bytes", Name(ID(s.Proto)), Name(ID(o.Proto)), n)] = true
				}
			}
		}
	}
	for _, c := range slices.Sorted(maps.Keys(clashes)) {
		t.Errorf("a sample of %s", c)
	}
}
