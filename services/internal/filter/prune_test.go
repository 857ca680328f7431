package filter

import (
	"testing"

	"pgregory.net/rapid"

	"galvo/services/internal/packet"
)

// keysOf returns the keys that an index remembers of a scene.
func keysOf(s *scene) []Key {
	keys := AppendKeys(nil, s.p, s.v)
	if s.ref.Flow != nil {
		keys = AppendFlowKeys(keys, s.ref.Flow)
	}
	return keys
}

func hasKey(keys []Key) func(KeyRange) bool {
	return func(r KeyRange) bool {
		for _, k := range keys {
			if k >= r.Lo && k <= r.Hi {
				return true
			}
		}
		return false
	}
}

// prunable checks that a packet that matters to a filter is not left out, and returns how many packets were.
func prunable(t rapid.TB, f *Filter, all []scene, keys [][]Key) (leftOut int) {
	p := f.Prune()
	for i := range all {
		s := &all[i]
		maybe := p.Maybe(hasKey(keys[i]))
		if !maybe {
			leftOut++
		}
		if r := f.Match(s.p, &s.ref, s.v); r != No && !maybe {
			t.Fatalf("%s: the result for a packet with the keys %x is %d, and the index says that no packet matters", f, keys[i], r)
		}
	}
	return leftOut
}

func allKeys(all []scene) (keys [][]Key) {
	for i := range all {
		keys = append(keys, keysOf(&all[i]))
	}
	return keys
}

// TestPruneLosesNothing asks about every frame of the zoo, in every state of a verdict: with the expressions of the match table and the examples of all
// operands, in all views of tunnels.
func TestPruneLosesNothing(t *testing.T) {
	all := scenes()
	keys := allKeys(all)
	var texts []string
	for _, row := range rows(t, "testdata/match.tsv", 2) {
		texts = append(texts, row[0])
	}
	for _, o := range table() {
		texts = append(texts, o.example)
	}
	pruned := 0
	for _, text := range texts {
		for _, view := range []TunnelView{OuterHeaders, InnerHeaders, AnyHeaders} {
			for _, guesses := range []bool{false, true} {
				env := testEnv()
				env.Tunnels, env.Guesses, env.SCTP = view, guesses, guesses
				f, err := Compile(text, env)
				if err != nil {
					t.Errorf("%s: %v", text, err)
					continue
				}
				if prunable(t, f, all, keys) > 0 {
					pruned++
				}
			}
		}
	}
	if pruned < len(texts)*2 {
		t.Errorf("only %d of %d questions leave anything out", pruned, len(texts)*6)
	}
}

func TestPruneOfRandomExpressions(t *testing.T) {
	all := scenes()
	keys := allKeys(all)
	rapid.Check(t, func(rt *rapid.T) {
		prunable(rt, compiled(rt, expressions().Draw(rt, "expression")), all, keys)
	})
}

// TestPruneWords checks what is known of some expressions.
func TestPruneWords(t *testing.T) {
	for _, c := range []struct {
		text  string
		prune bool
	}{
		{"ip == 10.0.0.1", true}, {"ip != 10.0.0.1", false}, {"!(ip == 10.0.0.1)", false}, {"ip == 10.0.0.1 or len > 5", false}, {"ip == 10.0.0.1 and len > 5", true},
		{"ip == 10.0.0.1/255.0.0.255", false}, {"vlan == none", false}, {"port < 100", true}, {"l7Protocol == TLS", true}, {`regexp == "a"`, false}, {"", false},
	} {
		f, err := Compile(c.text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Prune() != nil; got != c.prune {
			t.Errorf("%q can be pruned: %v, want %v", c.text, got, c.prune)
		}
	}
}

// TestIPRowsComeFirst holds AppendKeys to what it assumes of the table: packets without tags, labels, LLC and PPPoE meet the first rows only.
func TestIPRowsComeFirst(t *testing.T) {
	for name, frame := range zoo() {
		p := decoded(frame)
		for at := p; at != nil; {
			if at.VLANs == 0 && at.Labels == 0 && at.Layers&(packet.PPPoE|packet.LLC|packet.SNAP) == 0 {
				for _, l := range linkProtocols[ipProtocolRows:] {
					if l.holds != nil && l.holds(at) {
						t.Errorf("%s: %s holds, and AppendKeys does not look at it", name, l.name)
					}
				}
			}
			inner := new(packet.Packet)
			if !at.Inner(inner) {
				break
			}
			at = inner
		}
	}
}

func BenchmarkAppendKeys(b *testing.B) {
	all := scenes()
	keys := make([]Key, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		for i := range all {
			keys = AppendKeys(keys[:0], all[i].p, all[i].v)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/packet")
}
