package protocol

import (
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
