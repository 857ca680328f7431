package engine

import (
	"log/slog"

	"galvo/services/internal/handover"
	"galvo/services/internal/memory"
)

// usage returns how much of the memory plan's parts is taken. Tables are taken whole at the start, a capture's queue whole with the capture, a ring's with the ring, and
// what is kept of TCP streams, or read of rings, as it comes.
func (e *Engine) usage() *handover.Usage {
	s := e.settings.Load()
	captures := uint64(len(e.captures.List()))
	streams := uint64(0)
	for _, w := range e.workers {
		streams += w.Streams.Taken()
	}
	queues, readers := e.rings.Memory()
	return &handover.Usage{Bytes: map[string]uint64{
		memory.KernelRings:   uint64(e.ports.receiving()*len(e.workers)*e.ports.blocks) * memory.BlockBytes,
		memory.CaptureQueues: captures * s.queueBytes,
		memory.HeldPackets:   captures * s.holdBytes,
		memory.RingQueues:    queues,
		memory.ReorderBuffer: readers,
		memory.FlowTable:     uint64(e.flows) * memory.FlowBytes,
		memory.Layer7:        e.l7Bytes,
		memory.Streams:       streams,
		memory.Statistics:    e.stats.Bytes(),
		memory.Analysis:      uint64(len(e.slots.all())) * e.slots.bytes,
	}}
}

// receiving returns how many ports have rings.
func (ps *ports) receiving() (n int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.byID {
		if p.live != nil {
			n++
		}
	}
	return n
}

// report tells the host service what is used, so that it can show the plan with it.
func (e *Engine) report() {
	conn := e.host.Load()
	if conn == nil {
		return
	}
	if err := conn.Send(handover.Message{Usage: e.usage()}); err != nil {
		slog.Debug("report the use of memory", "error", err)
	}
}
