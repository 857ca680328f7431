package ring

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/rule"
	tcpstream "galvo/services/internal/stream"
)

// A taker is a stage that keeps what a filter takes.
type taker struct {
	filter *filter.Filter
	taken  []packet.Frame
}

func (t *taker) StreamReach() int { return t.filter.StreamReach() }

func (t *taker) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		m := &b.Meta[i]
		if t.filter.Match(&b.Packets[i], &m.Ref, m.L7) == filter.Yes {
			f := b.Packets[i].Frame
			f.Data = append([]byte(nil), f.Data...)
			t.taken = append(t.taken, f)
		}
	}
}

// take runs a source through a worker that knows flows and streams, and returns what a filter takes.
func take(t testing.TB, source pipeline.Source, f *filter.Filter) []packet.Frame {
	taker := &taker{filter: f}
	w := &pipeline.Worker{Source: source, Flows: flow.New(flow.Config{Flows: 4096, Sparse: true}), Streams: tcpstream.New(2 << 20), Stages: []pipeline.Stage{taker}}
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return taker.taken
}

// talks returns frames of connections whose words are cut by segments, and other traffic between them: connection c is busy in its own part of the time.
func talks(seed uint64, connections int) (frames []packet.Frame) {
	r := rand.New(rand.NewPCG(seed, 1))
	others := mix(seed, 4000)
	add := func(data []byte) {
		at := epoch
		if n := len(frames); n > 0 {
			at = frames[n-1].Time + 1000
		}
		frames = append(frames, packet.Frame{Data: data, Len: uint32(len(data)), Time: at})
	}
	for c := range connections {
		client := netip.AddrFrom4([4]byte{10, 77, byte(c), 1})
		server := netip.AddrFrom4([4]byte{10, 78, 0, byte(c % 4)})
		var next [2]uint32
		for range 60 {
			side := r.IntN(2)
			text := []byte("needle in a haystack, allegro, needle")
			text = text[r.IntN(8):][:1+r.IntN(24)]
			segment := packettest.TCP(uint16(2000+c), uint16(80+c%3), 16, next[side], text)
			ip := packettest.IP(6, client, server, segment)
			if side == 1 {
				ip = packettest.IP(6, server, client, packettest.TCP(uint16(80+c%3), uint16(2000+c), 16, next[side], text))
			}
			add(packettest.Ethernet(0x0800, ip))
			if next[side] += uint32(len(text)); r.IntN(8) == 0 {
				next[side] -= 3 // sent again
			}
			for range r.IntN(3) {
				add(others[r.IntN(len(others))].Data)
			}
		}
	}
	return frames
}

// streamExpression draws an expression that looks into streams.
func streamExpression(t *rapid.T, depth int) string {
	if depth > 0 && rapid.IntRange(0, 3).Draw(t, "node") > 0 {
		form := rapid.SampledFrom([]string{"(%s) and (%s)", "(%s) and (%s)", "(%s) or (%s)", "!(%s) and (%s)"}).Draw(t, "operator")
		return fmt.Sprintf(form, streamExpression(t, depth-1), streamExpression(t, depth-1))
	}
	c := rapid.IntRange(0, 19).Draw(t, "connection")
	return rapid.SampledFrom([]string{
		`streamRegexp == "needle in"`, `streamRegexp == "a[^,]*allegro"`, `streamRegexp != "ck, a"`, `streamRegexp == "(?i)NEEDLE.{0,30}stack"`,
		fmt.Sprintf("ip == 10.77.%d.1", c), fmt.Sprintf("srcip == 10.77.%d.1", c), fmt.Sprintf("dstip == 10.77.%d.0/24", c), fmt.Sprintf("ip == 10.78.0.%d:%d", c%4, 80+c%3), fmt.Sprintf("srcport == %d", 2000+c),
		fmt.Sprintf("portrange == %d-%d", 2000+c, 2003+c), fmt.Sprintf("dstport < %d", 2000+c), "ip != 10.78.0.1", "len > 60", "l4Protocol == TCP", "interface == 1", fmt.Sprintf("port == %d", 80+c%3),
	}).Draw(t, "operand")
}

// TestPrunedReplayIsFullScan: a replay of the flows that a filter asks for gives what a replay of everything gives, and what the traffic itself did.
func TestPrunedReplayIsFullScan(t *testing.T) {
	frames := talks(5, 20)
	set := newSetting(t, 1, 32<<20)
	set.cfg.QueueBytes = 32 << 20 // for all that is recorded at once
	r := set.create(t).open(t)
	replay(t, r, frames, 250)
	defer r.Close()
	spared, taken := 0, 0
	question := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf(`(%s) and (%s)`, streamExpression(t, 2), rapid.SampledFrom([]string{`streamRegexp == "needle in a hay"`, `streamRegexp == "stack.*needle"`, `streamRegexp != "allegro"`}).Draw(t, "stream"))
	})
	for n := range 40 {
		f, err := filter.Compile(question.Example(n), testEnv(filter.TunnelView(n%3)))
		if err != nil {
			t.Fatal(err)
		}
		want := take(t, &traffic{frames: frames}, f)
		taken += len(want)
		for _, only := range []*filter.Filter{nil, f.Flows()} {
			source, err := r.Source(context.Background(), Query{From: math.MinInt64, To: math.MaxInt64, Filter: only})
			if err != nil {
				t.Fatal(err)
			}
			have := take(t, source, f)
			if scan := source.Scan(); only != nil && scan.Read < scan.Blocks {
				spared++
			}
			source.Close()
			same := len(have) == len(want)
			for i := 0; same && i < len(have); i++ {
				same = string(have[i].Data) == string(want[i].Data) && have[i].Time == want[i].Time
			}
			if !same {
				t.Fatalf("%v, replay of the flows of %v: %d packets, want %d, or others", f, only, len(have), len(want))
			}
		}
	}
	t.Logf("%d replays left blocks out, %d packets were taken", spared, taken)
	if spared < 5 || taken < 100 {
		t.Error("too few to show anything")
	}
}

// TestRulesLookIntoStreams: a rule of a ring, too, knows what came before.
func TestRulesLookIntoStreams(t *testing.T) {
	f := mustFilter(t, `streamRegexp == "needle in"`)
	frames := talks(6, 8)
	want := len(frames) - len(take(t, &traffic{frames: frames}, f))
	set := newSetting(t, 1, 12<<20)
	set.cfg.Rules = []rule.Rule{{Filter: f, Action: rule.Discard}}
	r := set.create(t).open(t)
	defer r.Close()
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	w := &pipeline.Worker{Source: &traffic{frames: frames}, Flows: flow.New(flow.Config{Flows: 4096, Sparse: true}), Streams: tcpstream.New(2 << 20), Stages: []pipeline.Stage{s}}
	if s.StreamReach() == 0 {
		t.Error("the stage does not say that it looks into streams")
	}
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Finish()
	have, _ := collect(t, r, everything)
	if len(have) != want || want == len(frames) {
		t.Errorf("%d of %d packets are kept, want %d", len(have), len(frames), want)
	}
	if s.StreamReach() != 0 {
		t.Error("the stage looks into streams after its end")
	}
}
