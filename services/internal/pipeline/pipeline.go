// Package pipeline moves frames from a source through the stages of one worker.
//
// A worker decodes each frame, finds its flow, asks l7 for a verdict, and hands the batch to its stages in order: statistics,
// ring, captures. Everything in a batch is borrowed: the frames' bytes from the source until its next Next, the flow records from
// the table until the next batch. A stage that wants to keep something copies it.
package pipeline

import (
	"cmp"
	"context"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// BatchSize is the number of packets that a batch has room for: large enough to spread the cost of a call, small enough that
// a batch stays in the second-level cache.
const BatchSize = 256

// A Meta is what a worker learnt about a packet beside its headers.
type Meta struct {
	flow.Ref
	L7 l7.Verdict
}

// A Batch is a run of packets of one worker, in the order in which they were received.
type Batch struct {
	Packets []packet.Packet // the source fills in each packet's Frame
	Meta    []Meta          // parallel to Packets; the worker fills it in before the stages
	Options [][]byte        // nil, or parallel to Packets: what a savefile says of each beside its frame, as pcapng.Reader.Options has it
	Now     int64           // ns since the epoch: the clock for live ports when they were looked at, the last frame's time for savefiles
	Given   int64           // of a batch without packets: every frame of this time and before was in an earlier one; 0 is up to Now
	Worker  int             // index of the worker, from 0
}

// OptionsOf returns what a savefile says of packet i beside its frame, or nil.
func (b *Batch) OptionsOf(i int) []byte {
	if b.Options == nil {
		return nil
	}
	return b.Options[i]
}

// Mark returns the time up to which the worker has every frame with this batch, as far as its source can tell.
func (b *Batch) Mark() int64 {
	if n := len(b.Packets); n != 0 {
		return b.Packets[n-1].Time
	}
	return cmp.Or(b.Given, b.Now)
}

// A Source is live ports, savefiles, or a ring replayed.
type Source interface {
	// Next fills b.Packets[:n].Frame, b.Options, b.Now and b.Given, with n up to BatchSize; it reuses the memory of b. It returns with an empty batch
	// when nothing came for a while (50 ms for live ports), so that stages can act on the clock. The bytes of the frames are valid until the
	// following Next. io.EOF ends the source; any other error ends it too and names what was being read, where, and why.
	Next(ctx context.Context, b *Batch) error

	// Interfaces returns the table that Frame.Iface indexes: that of port id 1 comes first. It may grow while the source runs, and a port that
	// comes back may have another description.
	Interfaces() []Interface
}

// A Stage sees each batch of one worker, in order, the empty ones too, and may act on b.Now: on live ports it is called every 50 ms at least. It
// must not block or keep b.
type Stage interface{ Process(b *Batch) }

// A StreamStage is a stage that may look at what came before in a packet's TCP stream (flow.Ref.Stream), which is not kept for nobody.
type StreamStage interface {
	Stage
	// StreamReach is asked before each batch how far the stage looks, in bytes; 0 is not at all.
	StreamReach() int
}

// An Interface describes where frames came from: an interface description block of pcapng, or a port.
type Interface struct {
	Port        int    // port id, from 1: what the filter's interface operand compares
	Name        string // "eth1"; may be empty in savefiles
	Description string
	Link        packet.LinkType
	SnapLen     uint32 // 0 = no limit
	SpeedBits   uint64 // bit/s, 0 = unknown
	MAC         [6]byte
	FCSLen      uint8 // bytes of FCS that the savefile kept after each frame; 0 for live ports
}
