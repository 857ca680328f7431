package afpacket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/pipeline"
)

// asReceiver makes the test binary a receiver for benchmarks: its value is how much it does (count, decode, flows, l7), and its first argument the interface.
// It runs until SIGINT and prints what it got. So the receive path can be measured next to other programs' without the rest of the engine.
const asReceiver = "GALVO_TEST_RECEIVE"

// A sink is a stage that does nothing, but for counting.
type sink struct{ frames int }

func (s *sink) Process(b *pipeline.Batch) { s.frames += len(b.Packets) }

func receiver(name, does string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	fds, err := Open(i.Index, 1)
	if err != nil {
		return err
	}
	ps := NewPorts(1)
	defer ps.Close()
	port, err := ps.Add(pipeline.Interface{Port: 1, Name: name}, fds, Options{Blocks: 256})
	if err != nil {
		return err
	}
	got, err := work(ctx, ps.Source(0), does)
	if !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Printf("captured=%d lost=%d\n", got, port.Stats().LostKernel)
	return nil
}

// work takes frames until ctx is done.
func work(ctx context.Context, s *Source, does string) (int, error) {
	if does == "count" {
		var b pipeline.Batch
		for n := 0; ; n += len(b.Packets) {
			if err := s.Next(ctx, &b); err != nil {
				return n, err
			}
		}
	}
	end := &sink{}
	w := &pipeline.Worker{Source: s, Stages: []pipeline.Stage{end}}
	if does == "l7" {
		w.L7 = l7.New(l7.Config{})
	}
	if does != "decode" {
		onEnd := func(*flow.Record) {}
		if w.L7 != nil {
			onEnd = w.L7.End
		}
		w.Flows = flow.New(flow.Config{OnEnd: onEnd})
	}
	err := w.Run(ctx)
	return end.frames, err
}
