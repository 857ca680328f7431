package ring

import (
	"testing"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/rule"
)

// TestRules records with rules: the first one that matches counts, and what none matches is whole.
func TestRules(t *testing.T) {
	must := func(text string) *filter.Filter {
		f, err := filter.Compile(text, testEnv(0))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	rules := []rule.Rule{
		{Filter: must("port == 53"), Action: rule.Keep},
		{Filter: must("l4Protocol == UDP"), Action: rule.Discard},
		{Filter: must("macProtocol == IPv4,IPv6"), Negate: true, Action: rule.SnapLink},
		{Filter: must("port == 443"), Action: rule.SnapHeaders},
		{Filter: must("port == 80"), Action: rule.Snap, Bytes: 60},
		{Filter: must("l4Protocol == ICMP"), Action: rule.SnapNetwork},
	}
	set := newSetting(t, 1, 32<<20)
	set.cfg.Rules = rules
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(11, 20_000)
	w := &witness{}
	both := []pipeline.Stage{s, w}
	worker(t, both, &traffic{frames: frames})
	s.Finish()
	have, _ := collect(t, r, everything)
	k, kinds := 0, make(map[string]int)
	for i := range w.seen {
		p := &w.seen[i].Packet
		udp := p.Layers&packet.HasProto != 0 && p.Proto == 17
		dns := p.Ports() && p.Layers&(packet.TCP|packet.UDP) != 0 && (p.SrcPort == 53 || p.DstPort == 53)
		want, kind := len(p.Data), "whole"
		switch {
		case dns:
		case udp:
			kinds["discarded"]++
			continue
		case p.Layers&(packet.IPv4|packet.IPv6|packet.PartIPv4|packet.PartIPv6) == 0:
			want, kind = int(p.L2End), "link"
		case p.Ports() && (p.SrcPort == 443 || p.DstPort == 443):
			want, kind = int(p.Payload), "headers"
		case p.Ports() && (p.SrcPort == 80 || p.DstPort == 80):
			want, kind = min(60, len(p.Data)), "bytes"
		case p.Layers&packet.HasProto != 0 && p.Proto == 1:
			want, kind = int(p.L4), "network"
		}
		kinds[kind]++
		if k == len(have) || have[k].Time != p.Time || len(have[k].Data) != want || have[k].Len != p.Len || string(have[k].Data) != string(p.Data[:want]) {
			t.Fatalf("packet %d: %d bytes of %d, want %d (%s)", i, len(have[k].Data), have[k].Len, want, kind)
		}
		k++
	}
	t.Log(kinds)
	if k != len(have) || len(kinds) != 6 || r.State().Discarded != uint64(kinds["discarded"]) {
		t.Errorf("%d packets, want %d; %v; state %+v", len(have), k, kinds, r.State())
	}
	closeRing(t, r)
	for _, bad := range [][]rule.Rule{{{}}, {{Filter: must("port == 1"), Action: rule.Snap}}, {{Filter: must("port == 1"), Action: rule.Discard + 1}}, make([]rule.Rule, 65)} {
		set.cfg.Rules = bad
		if _, err := Open(set.cfg); err == nil {
			t.Errorf("rules %v are no error", bad)
		}
	}
}
