package l7_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
)

// A traffic is the frames of a savefile, which a test may spoil.
type traffic []packet.Packet

// frames reads a savefile; damage ends it quietly. Of a long file it reads the beginning.
func frames(tb testing.TB, name string, most int) (out traffic) {
	tb.Helper()
	source, err := savefile.Open([]string{name}, nil)
	if err != nil {
		return nil
	}
	defer source.Close()
	batch := pipeline.Batch{Packets: make([]packet.Packet, 0, pipeline.BatchSize)}
	for source.Next(context.Background(), &batch) == nil && len(out) < most {
		for _, p := range batch.Packets {
			p.Data = append([]byte(nil), p.Data...)
			p.Link = source.Interfaces()[p.Iface].Link
			out = append(out, p)
		}
	}
	return out
}

// play takes frames through a worker and returns the verdicts by key. Of flows with the same key the last one counts. skip says which packets are left out, by the endpoint that sent
// them.
func (f traffic) play(skip func(from flow.Endpoint) bool) map[string]l7.Verdict {
	out := make(map[string]l7.Verdict)
	engine := l7.New(l7.Config{Bytes: 1 << 20})
	end := func(r *flow.Record) {
		w := finish(engine, r, nil)
		if r.Flags&flow.Outside == 0 {
			if w.addr[1].Less(w.addr[0]) || w.addr[0] == w.addr[1] && w.port[1] < w.port[0] {
				w.addr[0], w.addr[1], w.port[0], w.port[1] = w.addr[1], w.addr[0], w.port[1], w.port[0]
			}
			out[keyOf(&w)] = w.verdict
		}
		engine.End(r)
	}
	table := flow.New(flow.Config{Flows: 1 << 14, Sparse: true, OnEnd: end})
	for i := range f {
		p := f[i]
		table.Begin()
		engine.Begin()
		p.Decode(p.Link)
		ref := table.Find(&p)
		if skip == nil || ref.Flow == nil || !skip(ref.From) {
			engine.Inspect(&p, table.Innermost(&p), &ref)
		}
	}
	for r := range table.All() {
		end(r)
	}
	return out
}

// snapped cuts all frames to n bytes.
func (f traffic) snapped(n int) traffic {
	out := make(traffic, len(f))
	for i, p := range f {
		p.Data = p.Data[:min(n, len(p.Data))]
		out[i] = p
	}
	return out
}

// lossy leaves out one frame in n.
func (f traffic) lossy(r *rand.Rand, n int) (out traffic) {
	for _, p := range f {
		if r.IntN(n) != 0 {
			out = append(out, p)
		}
	}
	return out
}

// shuffled lets one frame in n change places with a later one.
func (f traffic) shuffled(r *rand.Rand, n int) traffic {
	out := append(traffic(nil), f...)
	for i := range out {
		if j := i + 1 + r.IntN(3); r.IntN(n) == 0 && j < len(out) {
			out[i], out[j] = out[j], out[i]
			out[i].Time, out[j].Time = out[j].Time, out[i].Time
		}
	}
	return out
}

// mutated changes bytes near the beginning of one payload in two.
func (f traffic) mutated(r *rand.Rand) traffic {
	out := make(traffic, len(f))
	for i, p := range f {
		q := p
		q.Decode(p.Link)
		if n := min(len(q.L7()), 24); n > 0 && r.IntN(2) == 0 {
			p.Data = append([]byte(nil), p.Data...)
			for range 1 + r.IntN(3) {
				p.Data[int(q.Payload)+r.IntN(n)] = byte(r.Uint32())
			}
		}
		out[i] = p
	}
	return out
}

// A damage is what a test does to traffic, and how often a flow may then be called by another name than before.
type damage struct {
	what  string
	most  float64 // percent of the flows that have a name both times
	apply func(f traffic, r *rand.Rand) map[string]l7.Verdict
}

var damages = []damage{
	{"one frame in five lost", 1, func(f traffic, r *rand.Rand) map[string]l7.Verdict { return f.lossy(r, 5).play(nil) }},
	{"one frame in two lost", 1, func(f traffic, r *rand.Rand) map[string]l7.Verdict { return f.lossy(r, 2).play(nil) }},
	{"one frame in three late", 1, func(f traffic, r *rand.Rand) map[string]l7.Verdict { return f.shuffled(r, 3).play(nil) }},
	{"what the first sender sent", 1, func(f traffic, _ *rand.Rand) map[string]l7.Verdict {
		return f.play(func(from flow.Endpoint) bool { return from&1 == 1 })
	}},
	{"what the other one sent", 1, func(f traffic, _ *rand.Rand) map[string]l7.Verdict {
		return f.play(func(from flow.Endpoint) bool { return from&1 == 0 })
	}},
	{"bytes changed", 1, func(f traffic, r *rand.Rand) map[string]l7.Verdict { return f.mutated(r).play(nil) }},
	{"frames cut off anywhere", 1, func(f traffic, r *rand.Rand) map[string]l7.Verdict { return f.snapped(40 + r.IntN(300)).play(nil) }},
}

// TestSpoiled plays real traffic with loss, in the wrong order, one direction alone, damaged and cut off: what is recognised then is nothing or the same.
func TestSpoiled(t *testing.T) {
	type count struct{ same, other, lost int }
	sums := make([]count, len(damages))
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7/pcap/*"))
	r := rand.New(rand.NewPCG(5, 6))
	for i, name := range files {
		f := frames(t, name, 2000)
		if !everyFile && (len(f) > 200 || i%3 != 0) {
			continue
		}
		whole := f.play(nil)
		for i, d := range damages {
			for range rounds {
				for key, v := range d.apply(f, r) {
					switch w := whole[key]; {
					case w.Proto == 0:
					case v.Proto == 0:
						sums[i].lost++
					case v.Is(w.Proto), w.Is(v.Proto):
						sums[i].same++
					default:
						sums[i].other++
						if !everyFile {
							t.Logf("%s, %s: %s is %s/%s, and was %s/%s", filepath.Base(name), d.what, key, protocol.Name(v.Proto), protocol.Name(v.App), protocol.Name(w.Proto), protocol.Name(w.App))
						}
					}
				}
			}
		}
	}
	for i, d := range damages {
		s := sums[i]
		t.Logf("%s: %d flows have the same name, %d none, %d another one", d.what, s.same, s.lost, s.other)
		if s.same == 0 || float64(s.other) > d.most/100*float64(s.same+s.other) {
			t.Errorf("%s: %d of %d flows have another name; want at most %v %%", d.what, s.other, s.same+s.other, d.most)
		}
	}
}

// TestTruncated cuts real traffic at every byte.
func TestTruncated(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7/pcap/*"))
	same, other := 0, 0
	for i, name := range files {
		if i%cutFiles != 0 {
			continue
		}
		f := frames(t, name, 100)
		whole := f.play(nil)
		for n := 34; n < 34+cuts; n++ {
			for key, v := range f.snapped(n).play(nil) {
				if w := whole[key]; v.Proto != 0 && w.Proto != 0 {
					if v.Is(w.Proto) || w.Is(v.Proto) {
						same++
					} else {
						other++
					}
				}
			}
		}
	}
	t.Logf("%d times the same name, %d times another one", same, other)
	if same == 0 || other*100 > same {
		t.Errorf("%d of %d flows that were cut off have another name", other, same+other)
	}
}
