package engine

import (
	"log/slog"
	"math/bits"
	"sync/atomic"

	"galvo/services/internal/pipeline"
)

// panics counts the packets that a dissector could not take. It may be told by any worker.
type panics struct{ n atomic.Uint64 }

// note logs a panic if its number is a power of 2: who sends such packets on purpose must not fill the log.
func (p *panics) note(x *pipeline.Panic) {
	if n := p.n.Add(1); bits.OnesCount64(n) == 1 {
		slog.Error("a packet goes on without its application protocol: this is a fault in Galvo, please report it",
			"error", x, "number", n, "flow", x.Flow, "frame", x.Frame, "stack", x.Stack)
	}
}
