package l7_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
)

// TestDPIPackets cuts each flow behind the packet that is said to have decided it, and wants the same verdict.
func TestDPIPackets(t *testing.T) {
	flows, wrong := 0, 0
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7/pcap/*"))
	for _, name := range files {
		whole := classify(t, l7.Config{}, name)
		last := lastFrames(whole)
		cut := verdicts(classifySome(t, l7.Config{}, name, func(frame int) bool {
			id := flowAt(whole, frame)
			return last[id] == 0 || frame <= last[id]
		}))
		for i := range whole.flows {
			r := &whole.flows[i]
			if r.dpi == 0 || last[r.id] == 0 {
				continue
			}
			flows++
			if cut[keyOf(r)] == r.verdict {
				continue
			}
			// What the flow relied on may have been cut off another one.
			alone := verdicts(classifySome(t, l7.Config{}, name, func(frame int) bool { return flowAt(whole, frame) != r.id || frame <= last[r.id] }))
			if got := alone[keyOf(r)]; got != r.verdict {
				wrong++
				t.Errorf("%s: %v was decided by packet %d; cut behind it, it is %s/%s %v", filepath.Base(name), r, r.dpi, protocol.Name(got.Proto), protocol.Name(got.App), got.State)
			}
		}
	}
	t.Logf("%d flows, %d of them need more packets than they say", flows, wrong)
	if flows == 0 {
		t.Error("no flow has a verdict")
	}
}

// lastFrames returns the frame that decided each flow, by the flow's number. A flow that comes more than once by its addresses is left out: cut off it would be
// joined with the other.
func lastFrames(r *run) map[uint64]int {
	times := make(map[string]int)
	dpi := make(map[uint64]int)
	for i := range r.flows {
		times[keyOf(&r.flows[i])]++
	}
	for i := range r.flows {
		if f := &r.flows[i]; times[keyOf(f)] == 1 {
			dpi[f.id] = f.dpi
		}
	}
	last, seen := make(map[uint64]int), make(map[uint64]int)
	for frame, id := range r.frames {
		if id == 0 {
			continue
		}
		if seen[id]++; seen[id] == dpi[id] {
			last[id] = frame
		}
	}
	return last
}

func flowAt(r *run, frame int) uint64 {
	if frame >= len(r.frames) {
		return 0
	}
	return r.frames[frame]
}

func keyOf(r *row) string { return fmt.Sprint(r.proto, r.addr, r.port) }

func verdicts(r *run) map[string]l7.Verdict {
	m := make(map[string]l7.Verdict)
	for i := range r.flows {
		m[keyOf(&r.flows[i])] = r.flows[i].verdict
	}
	return m
}
