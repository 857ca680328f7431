// Package memory is the memory plan: it shares out the machine's memory among everything in Galvo that takes much of it.
//
// The plan is a pure function of the machine and the settings, so that the page can show it before a change is saved, and host and
// engine come to the same one. It takes no memory itself: who owns a part takes what Plan grants, at start, and no more.
//
// A part gets what it wants if there is room for all. If not, each gets the same multiple of its weight, but no more than it wants and
// no less than it can work with: so a small wish is granted in full and the large ones give way. What is left over goes to the statistics. The
// parts always sum up to the total.
package memory

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// Settings are the machine and the part of the configuration that the plan depends on.
type Settings struct {
	Total   uint64 // bytes of memory that the machine has, or its control group if that has less
	Percent int    // share of it that Galvo may use; a plain host, whose memory other programs need too, has 50 (see HostPercent)
	Ports   int    // capture ports
	Workers int

	Captures          int    // that may run at once
	CaptureQueueBytes uint64 // of each
	CaptureHoldBytes  uint64 // of each, for packets that wait for a verdict

	Rings          int    // that may record at once
	RingQueueBytes uint64 // of each
	ReorderBytes   uint64 // of all readers of rings

	Slots           int // for analyses of savefiles
	AnalysisPercent int // of Galvo's memory, for all slots

	Flows int // over all workers; 0 = as many as suit the memory
	L7    bool
}

// A Plan says how much of the memory each part may take. Parts is for people, the other fields are for who takes the memory.
type Plan struct {
	Total uint64
	Share uint64 // what Galvo may use: the limit for the processes' heaps and kernel rings together
	Parts []Part // in a fixed order; their Bytes sum up to Total

	Blocks            int    // of BlockBytes, in the kernel ring of each port and worker
	Captures          int    // that may run at once
	CaptureQueueBytes uint64 // of each
	CaptureHoldBytes  uint64 // of each
	Rings             int    // that may record at once
	RingQueueBytes    uint64 // of each
	ReorderBytes      uint64
	Flows             int    // over all workers
	L7Bytes           uint64 // over all workers
	StreamBytes       uint64 // over all workers
	StatisticsBytes   uint64 // over all workers: what is left
	Slots             int    // for analyses of savefiles
	SlotBytes         uint64 // of each
}

// Heap returns the limit for the engine's heap: what Galvo may use without the kernel rings, which are no heap, and without the other processes.
func (p *Plan) Heap() uint64 {
	heap := p.Share - program
	for _, part := range p.Parts {
		if part.Name == KernelRings {
			heap -= part.Bytes
		}
	}
	return heap
}

// The shares of a machine that Galvo may use where no setting says so.
const (
	HostPercent      = 50
	AppliancePercent = 90
)

// Names of parts.
const (
	Kernel        = "kernel and system"
	Program       = "program"
	KernelRings   = "kernel rings"
	CaptureQueues = "capture queues"
	HeldPackets   = "held packets"
	RingQueues    = "ring queues"
	ReorderBuffer = "reorder buffer"
	FlowTable     = "flow table"
	Layer7        = "layer 7"
	Streams       = "TCP streams"
	Analysis      = "analysis"
	Statistics    = "statistics"
)

// A Part is one row of the plan.
type Part struct {
	Name      string
	WantBytes uint64
	Bytes     uint64 // granted
	Why       string // why less was granted than wanted; empty otherwise
}

// What one of a kind takes.
const (
	BlockBytes = 1 << 20 // block of a kernel ring
	FlowBytes  = 168     // flow, with its share of the index
)

// What a part wants where no setting says so, and what it needs at least.
const (
	mb = 1_000_000

	wantBlocks  = 128 // 100 ms of 10 Gbit/s for a ring
	leastBlocks = 4
	leastQueue  = mb
	leastFlows  = 1024 // per worker

	leastSystem = 256 * mb // kernel, with what it keeps free, and the image that runs from memory: together 235 MB with generic-amd64
	program     = 96 * mb  // code, tables, stacks and heaps of the roles

	bytesPerFlow = 16_384 // of the share, for each flow where no setting names a number
	mostFlows    = 16 << 20
	fewFlows     = 64 << 10

	leastSlot = 32 * mb // a table of 64 Ki flows for the analysis and one for a capture from it, and their queues

	l7PerWorker         = 64 * mb
	streamsPerWorker    = 16 * mb // 7000 streams
	statisticsPerWorker = 4 * mb
)

// A claim is what a part wants, the least that it works with, and its weight where there is not enough.
type claim struct {
	name    string
	want    uint64
	least   uint64
	weight  uint64
	each    uint64             // it is granted in multiples of this
	lower   string             // setting to lower if even the least cannot be had
	instead func(*Plan) string // what is granted instead of what
}

// The rows of claims.
const (
	kernelRings = iota
	captureQueues
	heldPackets
	ringQueues
	reorderBuffer
	flowTable
	layer7
	streams
	analysis
	statistics
)

func claims(s *Settings, share uint64) []claim {
	workers, sockets := uint64(s.Workers), uint64(s.Ports*s.Workers)
	captures, rings, slots := uint64(s.Captures), uint64(s.Rings), uint64(s.Slots)
	flows := cmp.Or(uint64(s.Flows), min(max(share/bytesPerFlow, fewFlows), mostFlows))
	l7 := workers * l7PerWorker
	if !s.L7 {
		l7 = 0
	}
	all := []claim{
		kernelRings: {
			KernelRings, sockets * wantBlocks * BlockBytes, sockets * leastBlocks * BlockBytes, 20, sockets * BlockBytes, "engine.workers",
			func(p *Plan) string {
				return fmt.Sprintf("%d blocks for each port and worker instead of %d", p.Blocks, wantBlocks)
			},
		},
		captureQueues: {
			CaptureQueues, captures * s.CaptureQueueBytes, min(captures, 1) * leastQueue, 12 + 2*captures, 1, "captures.max",
			func(p *Plan) string {
				return fmt.Sprintf("%d of %d captures, %s each instead of %s", p.Captures, captures, size(p.CaptureQueueBytes), size(s.CaptureQueueBytes))
			},
		},
		heldPackets: {
			HeldPackets, captures * s.CaptureHoldBytes, 0, 5, 1, "",
			func(p *Plan) string {
				return fmt.Sprintf("%s for each of %d captures instead of %s", size(p.CaptureHoldBytes), p.Captures, size(s.CaptureHoldBytes))
			},
		},
		ringQueues: {
			RingQueues, rings * s.RingQueueBytes, min(rings, 1) * leastQueue, 15, 1, "rings.max",
			func(p *Plan) string {
				return fmt.Sprintf("%d of %d rings, %s each instead of %s", p.Rings, rings, size(p.RingQueueBytes), size(s.RingQueueBytes))
			},
		},
		reorderBuffer: {
			ReorderBuffer, min(rings, 1) * s.ReorderBytes, 0, 15, 1, "",
			func(p *Plan) string {
				return fmt.Sprintf("%s instead of %s", size(p.ReorderBytes), size(s.ReorderBytes))
			},
		},
		flowTable: {
			FlowTable, flows * FlowBytes, workers * leastFlows * FlowBytes, 15, FlowBytes, "engine.workers",
			func(p *Plan) string { return fmt.Sprintf("%d flows instead of %d", p.Flows, flows) },
		},
		layer7: {
			Layer7, l7, 0, 6, 1, "",
			func(p *Plan) string {
				return fmt.Sprintf("%s for streams without a verdict instead of %s", size(p.L7Bytes), size(l7))
			},
		},
		streams: {
			Streams, workers * streamsPerWorker, 0, 1, 1, "",
			func(p *Plan) string {
				return fmt.Sprintf("%s for what came before in TCP streams instead of %s", size(p.StreamBytes), size(workers*streamsPerWorker))
			},
		},
		analysis: {
			Analysis, slots * max(share/100*uint64(s.AnalysisPercent)/max(slots, 1), leastSlot), min(slots, 1) * leastSlot, 10, 1, "analysis.slots",
			func(p *Plan) string {
				return fmt.Sprintf("%d of %d slots, %s each", p.Slots, slots, size(p.SlotBytes))
			},
		},
		statistics: {
			Statistics, max(workers*statisticsPerWorker, share/16), 0, 10, 1, "",
			func(p *Plan) string { return size(p.StatisticsBytes) + " for tables of addresses, flows and time" },
		},
	}
	for i := range all {
		c := &all[i]
		c.want, c.each = max(c.want, c.least), max(c.each, 1)
	}
	return all
}

// New makes the plan. It fails if the machine is too small for the least that the settings need, and says which one to lower.
func New(s Settings) (*Plan, error) {
	system := max(s.Total-s.Total/100*uint64(min(max(s.Percent, 0), 100)), leastSystem)
	if system+program > s.Total {
		return nil, fmt.Errorf("share out %s of memory: the system and the program itself need %s", size(s.Total), size(system+program))
	}
	p := &Plan{Total: s.Total, Share: s.Total - system}
	all := claims(&s, p.Share)
	free := p.Share - program
	granted, err := grant(all, free)
	if err != nil {
		return nil, fmt.Errorf("share out %s of memory, of which Galvo may use %s: %w", size(s.Total), size(p.Share), err)
	}
	p.take(&s, all, granted)
	for _, bytes := range granted {
		free -= bytes
	}
	p.StatisticsBytes += free
	granted[statistics] = p.StatisticsBytes

	p.Parts = append(p.Parts, Part{Name: Kernel, WantBytes: system, Bytes: system}, Part{Name: Program, WantBytes: program, Bytes: program})
	for i, c := range all {
		part := Part{Name: c.name, WantBytes: max(c.want, granted[i]), Bytes: granted[i]}
		if part.Bytes < part.WantBytes {
			part.Why = fmt.Sprintf("%s, because Galvo may use %s of %s", c.instead(p), size(p.Share), size(p.Total))
		}
		p.Parts = append(p.Parts, part)
	}
	return p, nil
}

// take fills in what the parts mean, and lowers granted to what is really taken.
func (p *Plan) take(s *Settings, all []claim, granted []uint64) {
	p.Blocks = int(granted[kernelRings] / all[kernelRings].each)
	p.Captures, p.CaptureQueueBytes = divide(granted[captureQueues], s.Captures, s.CaptureQueueBytes)
	if p.Captures > 0 {
		p.CaptureHoldBytes = min(granted[heldPackets]/uint64(p.Captures), s.CaptureHoldBytes)
	}
	p.Rings, p.RingQueueBytes = divide(granted[ringQueues], s.Rings, s.RingQueueBytes)
	p.ReorderBytes = granted[reorderBuffer]
	p.Flows = int(granted[flowTable] / FlowBytes)
	p.L7Bytes = granted[layer7]
	p.StreamBytes = granted[streams]
	p.StatisticsBytes = granted[statistics]
	if p.Slots = int(min(uint64(s.Slots), granted[analysis]/leastSlot)); p.Slots > 0 {
		p.SlotBytes = granted[analysis] / uint64(p.Slots)
	}

	granted[captureQueues] = uint64(p.Captures) * p.CaptureQueueBytes
	granted[heldPackets] = uint64(p.Captures) * p.CaptureHoldBytes
	granted[ringQueues] = uint64(p.Rings) * p.RingQueueBytes
	granted[analysis] = uint64(p.Slots) * p.SlotBytes
}

// grant finds the greatest level at which all claims fit, when each gets level times its weight between its least and its want.
func grant(all []claim, free uint64) ([]uint64, error) {
	granted := make([]uint64, len(all))
	at := func(level int) (sum uint64) {
		for i, c := range all {
			granted[i] = min(max(uint64(level)*c.weight, c.least), c.want) / c.each * c.each
			sum += granted[i]
		}
		return sum
	}
	if need := at(0); need > free {
		most := slices.MaxFunc(all, func(a, b claim) int { return cmp.Compare(a.least, b.least) })
		return nil, fmt.Errorf("%s are needed at least, %s of them for the %s: lower %s, or raise engine.memoryPercent",
			size(need+program), size(most.least), most.name, most.lower)
	}
	const most = 1 << 47 // more than any claim
	at(sort.Search(most, func(level int) bool { return at(level+1) > free }))
	return granted, nil
}

// divide gives each of up to n the same, at most want, and rather serves fewer of them than give one less than leastQueue.
func divide(bytes uint64, n int, want uint64) (served int, each uint64) {
	served = int(min(uint64(n), bytes/leastQueue))
	if served == 0 {
		return 0, 0
	}
	return served, min(bytes/uint64(served), want)
}

// size writes bytes for people, 1 MB being 10^6 bytes.
func size(bytes uint64) string {
	switch {
	case bytes >= 10_000*mb:
		return fmt.Sprintf("%.0f GB", float64(bytes)/1e9)
	case bytes >= 1000*mb:
		return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
	case bytes < 10*mb:
		return fmt.Sprintf("%.1f MB", float64(bytes)/mb)
	}
	return fmt.Sprintf("%.0f MB", float64(bytes)/mb)
}
