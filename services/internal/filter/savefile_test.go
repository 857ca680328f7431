package filter

import (
	"context"
	"errors"
	"io"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
	"galvo/services/internal/stream"
)

// replay calls see for every frame of a savefile, decoded, with its flow. The verdict is that of a packet whose flow is pending.
func replay(t testing.TB, name string, see func(n int, p *packet.Packet, ref *flow.Ref)) {
	t.Helper()
	source, err := savefile.Open([]string{name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	flows := flow.New(flow.Config{Flows: 1 << 14})
	var batch pipeline.Batch
	n := 0
	for {
		flows.Begin()
		err := source.Next(context.Background(), &batch)
		for i := range batch.Packets {
			p := &batch.Packets[i]
			p.Decode(source.Interfaces()[p.Iface].Link)
			ref := flows.Find(p)
			see(n, p, &ref)
			n++
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Logf("%s: %v", name, err)
			return
		}
	}
}

var pending = l7.Verdict{State: l7.Pending}

// worker runs a savefile through a worker with flows and protocol recognition, whose last stage is stage.
func worker(t testing.TB, name string, stage pipeline.Stage) {
	t.Helper()
	source, err := savefile.Open([]string{name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	engine := l7.New(l7.Config{})
	w := pipeline.Worker{Source: source, Flows: flow.New(flow.Config{Flows: 1 << 14, OnEnd: engine.End}), L7: engine, Streams: stream.New(64 << 20), Stages: []pipeline.Stage{stage}}
	if err := w.Run(context.Background()); err != nil {
		t.Logf("%s: %v", name, err)
	}
}
