package memory_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galvo/services/internal/afpacket"
	"galvo/services/internal/flow"
	"galvo/services/internal/memory"
)

// defaults are those of the configuration, for two ports.
func defaults(total uint64) memory.Settings {
	return memory.Settings{
		Total: total, Percent: 50, Ports: 2, Workers: 1,
		Captures: 4, CaptureQueueBytes: 64e6, CaptureHoldBytes: 16e6,
		Rings: 1, RingQueueBytes: 256e6, ReorderBytes: 512e6, Slots: 1, AnalysisPercent: 10, L7: true,
	}
}

const gb = 1_000_000_000

func TestPlan(t *testing.T) {
	cases := []struct {
		name   string
		total  uint64
		change func(*memory.Settings)
		check  func(*memory.Plan) bool
		short  string // names of the parts that get less than they want
	}{
		{"512 MB", 512e6, nil, func(p *memory.Plan) bool {
			return p.Captures == 4 && p.CaptureQueueBytes > 5e6 && p.Blocks >= 12 && p.Flows >= 60_000 && p.ReorderBytes > 15e6
		}, "kernel rings, capture queues, held packets, ring queues, reorder buffer, layer 7, TCP streams, statistics"},
		{"1 GB", gb, nil, func(p *memory.Plan) bool {
			return p.Captures == 4 && p.CaptureQueueBytes > 15e6 && p.Flows == 65536 && p.Share == 500e6
		}, "kernel rings, capture queues, held packets, ring queues, reorder buffer, layer 7, TCP streams, analysis"},
		{"4 GB", 4 * gb, nil, func(p *memory.Plan) bool { return p.Blocks == 128 && p.ReorderBytes == 512e6 && p.Flows == 122_070 }, ""},
		{"24 GB", 24 * gb, nil, func(p *memory.Plan) bool { return p.Flows == 732_421 && p.CaptureQueueBytes == 64e6 }, ""},
		{"256 GB", 256 * gb, nil, func(p *memory.Plan) bool { return p.Flows == 7_812_500 }, ""},
		{"64 captures on 512 MB", 512e6, func(s *memory.Settings) { s.Captures = 64 }, func(p *memory.Plan) bool {
			return p.Captures > 10 && p.Captures <= 64 && p.CaptureQueueBytes >= 1e6
		}, "kernel rings, capture queues, held packets, ring queues, reorder buffer, flow table, layer 7, TCP streams, statistics"},
		{"64 captures on 24 GB", 24 * gb, func(s *memory.Settings) { s.Captures = 64 }, func(p *memory.Plan) bool { return p.Captures == 64 }, ""},
		{"a greedy setting", 4 * gb, func(s *memory.Settings) { s.ReorderBytes = 1e12 }, func(p *memory.Plan) bool {
			return p.CaptureQueueBytes == 64e6 && p.RingQueueBytes == 256e6 && p.ReorderBytes > 500e6 && p.ReorderBytes < 2*gb
		}, "reorder buffer"},
		{"as many flows as set", 24 * gb, func(s *memory.Settings) { s.Flows = 5_000_000 }, func(p *memory.Plan) bool { return p.Flows == 5_000_000 }, ""},
		{"too many flows set", gb, func(s *memory.Settings) { s.Flows = 5_000_000; s.Rings = 0 }, func(p *memory.Plan) bool {
			return p.Flows > 200_000 && p.Flows < 1_000_000 && p.Rings == 0 && p.ReorderBytes == 0
		}, "kernel rings, capture queues, held packets, flow table, layer 7, TCP streams, analysis"},
		{"no ports yet, no layer 7", 4 * gb, func(s *memory.Settings) { s.Ports = 0; s.L7 = false }, func(p *memory.Plan) bool {
			return p.Blocks == 0 && p.L7Bytes == 0
		}, ""},
		{"an appliance", 4 * gb, func(s *memory.Settings) { s.Percent = 90 }, func(p *memory.Plan) bool { return p.Share == 3_600_000_000 }, ""},
		{"the system keeps its least", 512e6, func(s *memory.Settings) { s.Percent = 90 }, func(p *memory.Plan) bool {
			return p.Share == 256_000_000
		}, "kernel rings, capture queues, held packets, ring queues, reorder buffer, layer 7, TCP streams, statistics"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := defaults(c.total)
			if c.change != nil {
				c.change(&s)
			}
			p, err := memory.New(s)
			if err != nil {
				t.Fatal(err)
			}
			var short []string
			for _, part := range p.Parts {
				t.Logf("%-15s %8.1f of %8.1f MB  %s", part.Name, float64(part.Bytes)/1e6, float64(part.WantBytes)/1e6, part.Why)
				if part.Why != "" {
					short = append(short, part.Name)
				}
			}
			if got := strings.Join(short, ", "); got != c.short || !c.check(p) {
				t.Errorf("short of memory are %q, want %q; plan %+v", got, c.short, *p)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	s := defaults(gb)
	s.Captures = 8
	p, err := memory.New(s)
	if err != nil {
		t.Fatal(err)
	}
	want := "8 of 8 captures, 13 MB each instead of 64 MB, because Galvo may use 500 MB of 1.0 GB"
	if got := p.Parts[3].Why; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTooSmall(t *testing.T) {
	cases := []struct {
		total  uint64
		change func(*memory.Settings)
		want   string
	}{
		{128e6, func(*memory.Settings) {}, "share out 128 MB of memory: the system and the program itself need 352 MB"},
		{512e6, func(s *memory.Settings) { s.Ports, s.Workers = 16, 8 },
			"share out 512 MB of memory, of which Galvo may use 256 MB: 668 MB are needed at least, 537 MB of them for the kernel rings: " +
				"lower engine.workers, or raise engine.memoryPercent"},
	}
	for _, c := range cases {
		s := defaults(c.total)
		c.change(&s)
		if _, err := memory.New(s); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// TestLaws holds for any settings that the configuration allows.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := memory.Settings{
			Total:   rapid.Uint64Range(64e6, 1e12).Draw(t, "total"),
			Percent: rapid.IntRange(5, 90).Draw(t, "percent"),
			Ports:   rapid.IntRange(0, 64).Draw(t, "ports"), Workers: rapid.IntRange(1, 64).Draw(t, "workers"),
			Captures: rapid.IntRange(4, 64).Draw(t, "captures"), CaptureQueueBytes: rapid.Uint64Range(1e6, 1e12).Draw(t, "queue"),
			CaptureHoldBytes: rapid.Uint64Range(0, 1e12).Draw(t, "hold"),
			Rings:            rapid.IntRange(0, 16).Draw(t, "rings"), RingQueueBytes: rapid.Uint64Range(1e6, 1e12).Draw(t, "ring queue"),
			ReorderBytes: rapid.Uint64Range(1e6, 1e12).Draw(t, "reorder"),
			Flows:        rapid.IntRange(0, 1e9).Draw(t, "flows"), L7: rapid.Bool().Draw(t, "l7"),
		}
		p, err := memory.New(s)
		if err != nil {
			return
		}
		sum := uint64(0)
		for _, part := range p.Parts {
			sum += part.Bytes
			if part.Bytes > part.WantBytes || (part.Why != "") != (part.Bytes < part.WantBytes) {
				t.Errorf("part %+v", part)
			}
		}
		if sum != s.Total {
			t.Errorf("the parts sum up to %d of %d", sum, s.Total)
		}
		taken := uint64(p.Blocks*s.Ports*s.Workers)*memory.BlockBytes + uint64(p.Captures)*(p.CaptureQueueBytes+p.CaptureHoldBytes) +
			uint64(p.Rings)*p.RingQueueBytes + p.ReorderBytes + uint64(p.Flows)*memory.FlowBytes + p.L7Bytes + p.StreamBytes + uint64(p.Slots)*p.SlotBytes + p.StatisticsBytes
		if taken > p.Share {
			t.Errorf("%d are taken of %d", taken, p.Share)
		}
		if p.Captures < 1 || p.CaptureQueueBytes > s.CaptureQueueBytes || p.CaptureHoldBytes > s.CaptureHoldBytes || p.Rings > s.Rings ||
			p.RingQueueBytes > s.RingQueueBytes || s.Ports > 0 && p.Blocks < 4 || p.Flows < 1024*s.Workers {
			t.Errorf("plan %+v", *p)
		}
	})
}

// TestEveryMachine has a plan from 1 GiB to 1.5 TiB, and more captures leave less to the statistics.
func TestEveryMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := defaults(rapid.Uint64Range(1<<30, 3<<39).Draw(t, "total"))
		s.Percent = rapid.SampledFrom([]int{memory.HostPercent, memory.AppliancePercent}).Draw(t, "percent")
		s.Ports, s.Workers = rapid.IntRange(1, 8).Draw(t, "ports"), rapid.IntRange(1, 4).Draw(t, "workers")
		few, err := memory.New(s)
		if err != nil {
			t.Fatal(err)
		}
		s.Captures = 64
		many, err := memory.New(s)
		if err != nil {
			t.Fatal(err)
		}
		if many.StatisticsBytes > few.StatisticsBytes-min(few.StatisticsBytes/10, 4e9) || many.Captures <= few.Captures || many.Heap() > many.Share {
			t.Errorf("4 captures leave %d to the statistics, %d leave %d", few.StatisticsBytes, many.Captures, many.StatisticsBytes)
		}
	})
}

// TestSizes holds the plan's idea of sizes against their owners'.
func TestSizes(t *testing.T) {
	if memory.BlockBytes != afpacket.BlockSize {
		t.Errorf("a block has %d bytes", afpacket.BlockSize)
	}
	for flows := 65_536; flows < 20_000_000; flows += flows/3 + 1 {
		if n := flow.Size(flows); n > flows*memory.FlowBytes {
			t.Errorf("a table of %d flows takes %d bytes, %d each", flows, n, n/flows)
		}
	}
}
