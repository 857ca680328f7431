package ring

import (
	"context"
	"math"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// TestPortBecomesAnother: a port id may be another interface after a change of the configuration. Frames come as those of the interface that had received them, with
// its link type; filters and analyses ask for the port id.
func TestPortBecomesAnother(t *testing.T) {
	set := newSetting(t, 1, 32<<20).create(t)
	tables := [][]pipeline.Interface{
		{{Port: 1, Name: "eth1", Link: packet.LinkEthernet, SpeedBits: 1e9}, {Port: 2, Name: "eth2", Link: packet.LinkEthernet}},
		{{Port: 1, Name: "eth1", Link: packet.LinkEthernet, SpeedBits: 1e8}, {Port: 2, Name: "eth2", Link: packet.LinkEthernet}}, // slower, and still itself
		{{Port: 1, Name: "eth2", Link: packet.LinkEthernet}, {Port: 2, Name: "tun0", Link: packet.LinkRaw}},
	}
	const each = 600
	base := mix(75, each)
	var r *Ring
	var all []packet.Frame
	name := func(i int) *pipeline.Interface { return &tables[i/each][i%each&1] }
	for round, table := range tables {
		r = set.open(t)
		s := r.Stage(0, func() []pipeline.Interface { return table })
		frames := stamp(base, round, time.Microsecond)
		for i := range frames {
			if table[i&1].Link == packet.LinkRaw {
				frames[i].Data = frames[i].Data[14:]
				frames[i].Len = uint32(len(frames[i].Data))
			}
		}
		play(t, s, &traffic{frames: frames, table: table})
		s.Finish()
		all = append(all, frames...)
		if round < len(tables)-1 {
			closeRing(t, r)
		}
	}
	for _, expression := range []string{"", "interface == 1", "interface == 2", "l7Protocol != DNS"} {
		for _, live := range []bool{false, true} {
			ctx, cancel := context.WithCancel(context.Background())
			res, err := r.Query(ctx, Query{From: epoch, To: math.MaxInt64, Filter: mustFilter(t, expression), Hold: true, Live: live})
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for b := range batches(ctx, t, res) {
				for i := range b.Packets {
					f := &b.Packets[i].Frame
					n := int((f.Time - epoch) / 1000)
					if got, want := res.Interfaces()[f.Iface], name(n); got.Name != want.Name || got.Link != want.Link || got.Port != want.Port {
						t.Fatalf("%q: frame %d comes as one of %+v, and is one of %+v", expression, n, got, want)
					}
					if string(f.Data) != string(all[n].Data) || expression == "interface == 1" && n&1 != 0 || expression == "interface == 2" && n&1 != 1 {
						t.Fatalf("%q: frame %d", expression, n)
					}
					seen++
				}
				if live && res.Scan().Packets == uint64(len(all)) && len(b.Packets) == 0 {
					break
				}
			}
			if seen == 0 || expression == "" && seen != len(all) || expression != "" && expression[0] == 'i' && seen != len(all)/2 {
				t.Errorf("%q: %d of %d frames", expression, seen, len(all))
			}
			if table := res.Interfaces(); expression == "" && len(table) != 4 {
				t.Errorf("%d interfaces: %+v", len(table), table)
			}
			res.Close()
			cancel()
		}
	}
	source, err := r.Source(context.Background(), Query{From: epoch, To: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	var b pipeline.Batch
	for n := 0; n < len(all); n += len(b.Packets) {
		if err := source.Next(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if int(b.Packets[i].Iface) != (n+i)&1 {
				t.Fatalf("an analysis has frame %d from port %d", n+i, b.Packets[i].Iface+1)
			}
		}
	}
	source.Close()
	closeRing(t, r)
}
