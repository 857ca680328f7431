package filter

import (
	"fmt"
	"testing"

	"galvo/services/internal/l7"
)

// captures are n filters as captures have them: mostly one host each, ports, a few compound ones.
func captures(t testing.TB, n int) (filters []*Filter) {
	for i := range n {
		text := fmt.Sprintf("ip == 10.0.%d.%d", i%4, i)
		switch i % 10 {
		case 3:
			text = fmt.Sprintf("ip == 10.0.1.%d and l4Protocol == TCP and (port == 80 or port == 443) and len > 200", i)
		case 5:
			text = fmt.Sprintf("port == %d", 80+i)
		case 7:
			text = fmt.Sprintf("ip == 10.1.0.%d:%d or ip == 10.0/30", i, i)
		case 9:
			text = fmt.Sprintf("vlan == %d and l7Protocol == HTTP", i)
		}
		f, err := Compile(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		filters = append(filters, f)
	}
	return filters
}

// busy are n filters of which most take most packets.
func busy(t testing.TB, n int) (filters []*Filter) {
	for i := range n {
		text := []string{"l4Protocol == TCP", "ip == 10.0/15", "len > 40", "tcpFlags == ack", "port < 1024", "mac == 00:1b:1b/24", "macProtocol == IPv4", "vlan == none and ttl > 1", "l4Protocol == TCP or port == 53", "ip == 10.0/15 and l4Protocol == TCP"}[i%10]
		f, err := Compile(fmt.Sprintf("%s or port == %d", text, 50000+i), nil)
		if err != nil {
			t.Fatal(err)
		}
		filters = append(filters, f)
	}
	return filters
}

func TestMatchAllocatesNothing(t *testing.T) {
	all := scenes()
	for _, env := range []*Env{{}, {Tunnels: InnerHeaders}, {Tunnels: AnyHeaders}} {
		var filters []*Filter
		for _, text := range comparisons {
			f, err := Compile(text, env)
			if err != nil {
				t.Fatal(err)
			}
			filters = append(filters, f)
		}
		set := NewSet(filters)
		run := func() {
			for i := range all {
				s := &all[i]
				set.Match(s.p, &s.ref, s.v)
				for _, f := range filters {
					f.Match(s.p, &s.ref, s.v)
				}
			}
		}
		run() // patterns make their states on demand
		if n := testing.AllocsPerRun(20, run); n >= 1 {
			t.Errorf("tunnel view %d: %v allocations for %d packets, want 0", env.Tunnels, n, len(all))
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	packets := crowd(256) // a batch
	for _, text := range []string{"ip == 10.0.0.1", "ip == 10.0.0.1 or (l4Protocol == TCP and (port == 80 or port == 443) and ip == 10/8 and len > 200)", "portrange == 80,443,1000-2000,3000-", "tcpFlags == syn", `regexp == "allegro"`} {
		f, err := Compile(text, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				f.Match(packets[i%len(packets)], nil, l7.Verdict{})
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	packets := crowd(256) // a batch
	for _, c := range []struct {
		name    string
		filters []*Filter
	}{
		{"0", nil}, {"1 idle", captures(b, 1)}, {"10", captures(b, 10)}, {"50", captures(b, 50)}, {"64", captures(b, 64)}, {"busy 50", busy(b, 50)},
	} {
		set := NewSet(c.filters)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				set.Match(packets[i%len(packets)], nil, l7.Verdict{})
			}
		})
		b.Run(c.name+" one by one", func(b *testing.B) {
			for i := range b.N {
				for _, f := range c.filters {
					f.Match(packets[i%len(packets)], nil, l7.Verdict{})
				}
			}
		})
	}
}
