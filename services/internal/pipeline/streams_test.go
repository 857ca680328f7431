package pipeline

import (
	"context"
	"io"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/stream"
)

// An inquirer is a stage that looks into TCP streams while reach is above 0.
type inquirer struct {
	reach        int
	packets      int
	known, after int // packets of which the stream is known, and of these, those that something came before
}

func (q *inquirer) StreamReach() int { return q.reach }

func (q *inquirer) Process(b *Batch) {
	for i := range b.Packets {
		q.packets++
		if st := b.Meta[i].Stream; st != nil {
			q.known++
			if len(st.Before) > 0 || st.New == 0 {
				q.after++
			}
		}
	}
}

// TestStreamsOnlyIfAsked: nothing is kept of streams, and nothing told, while no stage looks at them.
func TestStreamsOnlyIfAsked(t *testing.T) {
	list := frames(50)
	for i := range list { // a payload of six bytes
		list[i].Data[17] = 46
	}
	q := &inquirer{}
	src := &loop{frames: list, times: 2, err: io.EOF}
	w := &Worker{Source: src, Flows: flow.New(flow.Config{}), Streams: stream.New(1 << 20), Stages: []Stage{q}}
	run := func(reach int) {
		src.times, q.reach = 2, reach
		if err := w.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	run(0)
	if q.packets != 100 || q.known != 0 || w.Streams.Counters() != (stream.Counters{}) || w.Streams.Taken() != 0 {
		t.Errorf("nobody asks: %+v, %+v", q, w.Streams.Counters())
	}
	run(20)
	if q.known != 100 || q.after != 50 || w.Streams.Counters().Streams != 50 {
		t.Errorf("a stage asks: %+v, %+v", q, w.Streams.Counters())
	}
	run(0)
	if q.known != 100 {
		t.Error("what was told before is told again")
	}
	w.Streams = nil
	if run(20); q.known != 100 || q.packets != 400 {
		t.Errorf("without a store: %+v", q)
	}
}
