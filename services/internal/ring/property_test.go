package ring

import (
	"context"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A witness is a stage that notes of each packet what the pipeline knew, and so can say what a query must find.
type witness struct {
	seen []witnessed
}

type witnessed struct {
	packet.Packet
	flow, outer *flow.Record // copies: what of a flow a filter looks at does not change
	host        []byte
	verdict     l7.Verdict
	id          uint64
	known
}

func (w *witness) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		m := &b.Meta[i]
		one := witnessed{Packet: b.Packets[i], verdict: m.L7, host: append([]byte(nil), m.Host...), known: knownOf(m)}
		if m.Flow != nil {
			f, o := *m.Flow, *m.Outer
			one.flow, one.outer, one.id = &f, &o, f.ID
		}
		w.seen = append(w.seen, one)
	}
}

// want returns the packets that a query must find, and the verdict that it must give with each.
func (w *witness) want(f *filter.Filter, from, to int64, hold bool) (list []witnessed) {
	later := make(map[uint64][]int)
	for i := range w.seen {
		if id := w.seen[i].id; id != 0 {
			later[id] = append(later[id], i)
		}
	}
	for i := range w.seen {
		p := &w.seen[i]
		if p.Time < from || p.Time >= to {
			continue
		}
		ref := flow.Ref{Flow: p.flow, Outer: p.outer, Host: p.host}
		v := p.verdict
		result := f.Match(&p.Packet, &ref, v)
		if result == filter.Unknown && hold {
			for _, k := range later[p.id] {
				if k > i && result == filter.Unknown {
					v, ref.Host = w.seen[k].verdict, w.seen[k].host
					result = f.Match(&p.Packet, &ref, v)
				}
			}
			if result == filter.Unknown {
				result = f.Match(&p.Packet, &ref, v.Last())
			}
		}
		if result == filter.Yes {
			one := *p
			one.verdict = v
			list = append(list, one)
		}
	}
	return list
}

// is reports whether a query gave the packet, and knew of it what was known when it came. Of a flow a ring knows no more than a filter asks for.
func (p *witnessed) is(g *got) bool {
	a, b := &p.known, &g.known
	return p.isFrame(g) && sameFlow(&a.flow, &b.flow) && sameFlow(&a.outer, &b.outer) && a.from == b.from && a.outerFrom == b.outerFrom
}

func (p *witnessed) isFrame(g *got) bool { return string(p.Data) == string(g.Data) && p.Time == g.Time }

func sameFlow(a, b *flow.Record) bool {
	return a.Addr == b.Addr && a.Port == b.Port && a.Proto == b.Proto && a.Server() == b.Server() && a.Flags&flow.V6 == b.Flags&flow.V6 && (a.ID == 0) == (b.ID == 0)
}

// replay records frames in a ring, a witness beside it. A block is ended after each of the given numbers of packets.
func replay(t rapid.TB, r *Ring, frames []packet.Frame, cuts int) *witness {
	w := &witness{}
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	engine := l7.New(l7.Config{})
	flows := flow.New(flow.Config{Sparse: true, OnEnd: engine.End})
	for len(frames) > 0 {
		n := min(cuts, len(frames))
		worker := &pipeline.Worker{Source: (&traffic{frames: frames[:n]}).paceFor([]pipeline.Stage{s}), Flows: flows, L7: engine, Stages: []pipeline.Stage{s, w}}
		if err := worker.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		frames = frames[n:]
		st := s.(*stage)
		st.inside.Lock()
		st.end()
		st.inside.Unlock()
	}
	return w
}

// expression draws an expression about the packets of a witness.
func expression(t *rapid.T, w *witness, depth int) string {
	if depth > 0 && rapid.IntRange(0, 2).Draw(t, "node") > 0 {
		a, b := expression(t, w, depth-1), expression(t, w, depth-1)
		return fmt.Sprintf(rapid.SampledFrom([]string{"(%s) and (%s)", "(%s) or (%s)", "!(%s) and (%s)", "!((%s) or (%s))"}).Draw(t, "operator"), a, b)
	}
	p := &w.seen[rapid.IntRange(0, len(w.seen)-1).Draw(t, "packet")]
	op := rapid.SampledFrom([]string{"==", "==", "==", "!="}).Draw(t, "comparison")
	var choices []string
	add := func(format string, args ...any) { choices = append(choices, fmt.Sprintf(format, args...)) }
	if p.Layers&packet.IPv4 != 0 {
		s, d := p.Src4(), p.Dst4()
		dot := func(a uint32) string { return fmt.Sprintf("%d.%d.%d.%d", a>>24, a>>16&255, a>>8&255, a&255) }
		add("ip %s %s", op, dot(s))
		add("srcip %s %s/%d", op, dot(s), rapid.IntRange(8, 32).Draw(t, "bits"))
		add("dstip %s %s", op, dot(d))
		if p.Ports() {
			add("ip %s %s:%d", op, dot(d), p.DstPort)
		}
	}
	if p.Layers&packet.IPv6 != 0 {
		s := p.Data[p.L3+8 : p.L3+24]
		six := ""
		for i := 0; i < 16; i += 2 {
			six += fmt.Sprintf(":%x", uint16(s[i])<<8|uint16(s[i+1]))
		}
		add("ip %s %s", op, six[1:])
		add("ip %s %s/%d", op, six[1:], rapid.IntRange(16, 128).Draw(t, "bits"))
	}
	if p.Ports() {
		add("port %s %d", op, p.DstPort)
		add("srcport %s %d", op, p.SrcPort)
		add("portrange %s %d-%d", op, p.DstPort, min(65535, int(p.DstPort)+rapid.IntRange(0, 100).Draw(t, "width")))
		add("serverport %s %d", op, p.DstPort)
		add("port < %d", p.DstPort)
	}
	if p.Layers&packet.HasProto != 0 {
		add("l4Protocol %s %d", op, p.Proto)
		add("ttl %s %d", op, p.TTL())
	}
	if p.VLANs > 0 {
		add("vlan %s %d", op, p.TCI(0)&0xfff)
		add("innervlan %s none", op)
	}
	if a, ok := p.ARPSender(); p.Layers&packet.ARP != 0 && ok {
		add("arpip %s %d.%d.%d.%d", op, a>>24, a>>16&255, a>>8&255, a&255)
	}
	if p.verdict.Proto != 0 {
		add("l7Protocol %s %q", op, protocol.Name(p.verdict.Proto))
		add("l7Protocol %s %q,unknown", op, protocol.Name(p.verdict.Proto))
	}
	if len(p.host) > 0 {
		add("sni %s %s", op, p.host)
		add("httpHost %s %s", op, p.host)
		add("dnsName %s %s", op, p.host)
	}
	add("l7Protocol %s unknown", op)
	add("mac %s %02x:%02x:%02x:%02x:%02x:%02x", op, p.Data[6], p.Data[7], p.Data[8], p.Data[9], p.Data[10], p.Data[11])
	add("mac %s %02x:%02x:%02x:00:00:00/%d", op, p.Data[0], p.Data[1], p.Data[2], rapid.IntRange(1, 24).Draw(t, "bits"))
	add("ethertype %s 0x%04x", op, p.EtherType)
	for _, name := range []string{"IPv4", "IPv6", "ARP", `"Non IP"`, "VLAN", "MPLS", "PPPoE", "LLC", "LLDP"} {
		add("macProtocol %s %s", op, name)
	}
	add("interface %s %d", op, p.Iface+1)
	add("link %s %d", op, p.Iface+7)
	add("mpls %s any", op)
	add("len > %d", p.Len)
	add("ipFragment %s 1", op)
	add("multicastGroup %s any", op)
	add("rtpPayloadType %s PCMU", op)
	return rapid.SampledFrom(choices).Draw(t, "operand")
}

// testEnv has links, so that they can be asked for.
func testEnv(view filter.TunnelView) *filter.Env {
	return &filter.Env{Ports: []filter.Port{{ID: 1, Link: 7}, {ID: 2, Link: 8}}, Tunnels: view}
}

// odd returns frames in which nearly everything is a fragment, or is tagged or tunnelled.
func odd(seed uint64, n int) (frames []packet.Frame) {
	var p packet.Packet
	for _, f := range mix(seed, 20*n) {
		p.Frame = f
		p.Decode(packet.LinkEthernet)
		if p.Tunnel != packet.NoTunnel || p.Layers&packet.Fragment != 0 || p.VLANs > 0 || p.Labels > 0 || len(frames)%20 == 0 {
			f.Time = epoch + int64(len(frames))*10_000
			frames = append(frames, f)
		}
	}
	return frames[:min(n, len(frames))]
}

// TestPrunedQueryIsFullScan draws rings, cut into blocks anywhere, and expressions: a query finds what a look at every packet finds, with what was known when the
// packet came, and again when everything lies on disk, and then mostly reads a part of each block.
func TestPrunedQueryIsFullScan(t *testing.T) {
	pools := [][]packet.Frame{mix(7, 20_000), odd(8, 6000)}
	parts := 0
	rapid.Check(t, func(rt *rapid.T) {
		pool := pools[rapid.IntRange(0, len(pools)-1).Draw(rt, "traffic")]
		set := newSetting(t, rapid.IntRange(1, 2).Draw(rt, "devices"), 12<<20).create(t)
		set.cfg.QueueBytes = 16 << 20 // for all that is recorded at once
		r := set.open(t)
		n := rapid.IntRange(50, 2500).Draw(rt, "packets")
		at := rapid.IntRange(0, len(pool)-n).Draw(rt, "from")
		frames := pool[at : at+n]
		w := replay(rt, r, frames, rapid.IntRange(n/8+1, n).Draw(rt, "cut"))
		type asked struct {
			text string
			Query
			want []witnessed
		}
		var queries []asked
		for range 4 {
			text := expression(rt, w, rapid.IntRange(0, 2).Draw(rt, "depth"))
			env := testEnv(filter.TunnelView(rapid.IntRange(0, 2).Draw(rt, "view")))
			env.SCTP, env.Fragments = rapid.Bool().Draw(rt, "sctp"), filter.FragmentUse(rapid.IntRange(0, 1).Draw(rt, "fragments"))
			f, err := filter.Compile(text, env)
			if err != nil {
				rt.Fatalf("%s: %v", text, err)
			}
			q := Query{From: math.MinInt64, To: math.MaxInt64, Filter: f, Hold: rapid.Bool().Draw(rt, "hold"), NoMeta: rapid.Bool().Draw(rt, "no meta")}
			if rapid.Bool().Draw(rt, "part") {
				q.From, q.To = frames[n/4].Time, frames[n/2].Time+1
			}
			queries = append(queries, asked{text, q, w.want(f, q.From, q.To, q.Hold)})
		}
		check := func(when string) {
			for _, a := range queries {
				var scans []Scan
				var all [][]got
				for _, a.everything = range []bool{false, true} {
					have, scan := collect(t, r, a.Query)
					same := len(have) == len(a.want)
					for i := 0; same && i < len(have); i++ {
						same = a.want[i].is(&have[i]) || a.NoMeta && a.want[i].isFrame(&have[i])
					}
					if !same {
						rt.Fatalf("%s: %s, hold %v, everything %v: %d packets, want %d, or others; %+v", when, a.text, a.Hold, a.everything, len(have), len(a.want), scan)
					}
					scans, all = append(scans, scan), append(all, have)
				}
				for i := range all[0] {
					if a.NoMeta { // what is known then is up to the query
						break
					}
					if p, f := &all[0][i], &all[1][i]; p.known != f.known || p.verdict != f.verdict || p.Frame.Iface != f.Frame.Iface {
						rt.Fatalf("%s: %s: of packet %d a full scan knows %+v, %v, and the query %+v, %v", when, a.text, i, f.known, f.verdict, p.known, p.verdict)
					}
				}
				if p, f := scans[0], scans[1]; p.Read > 0 && p.Packets*f.Read < f.Packets*p.Read { // of a block less
					parts++
				}
				if p, f := scans[0], scans[1]; p.Blocks != f.Blocks || p.From != f.From || p.To != f.To {
					rt.Fatalf("%s: %s: the interval has %d blocks, %d to %d, and pruned %d, %d to %d", when, a.text, f.Blocks, f.From, f.To, p.Blocks, p.From, p.To)
				}
			}
		}
		check("recorded")
		if err := r.Close(); err != nil {
			rt.Fatal(err)
		}
		r = set.open(t)
		check("opened again")
		if err := r.Close(); err != nil {
			rt.Fatal(err)
		}
	})
	if parts < 20 { // of some 70 on the average, and 50 to 90 nearly always
		t.Errorf("%d queries read a part of what there is: hardly anything was tested", parts)
	}
	t.Logf("%d queries read a part of what there is", parts)
}
