package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// A loop is a source that gives the same frames again and again: times times, or for ever if that is negative.
type loop struct {
	frames []packet.Frame
	times  int
	err    error
}

func (l *loop) Next(ctx context.Context, b *Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.times == 0 {
		return l.err
	}
	l.times--
	b.Packets = b.Packets[:len(l.frames)]
	for i, f := range l.frames {
		b.Packets[i].Frame = f
	}
	b.Now++
	return nil
}

func (l *loop) Interfaces() []Interface { return interfaces[:] }

var interfaces = [...]Interface{{Port: 1, Link: packet.LinkRaw}, {Port: 2, Link: packet.LinkEthernet}}

// frames returns TCP packets of n flows on the second interface.
func frames(n int) []packet.Frame {
	list := make([]packet.Frame, n)
	for i := range list {
		b := make([]byte, 60)
		b[12], b[14], b[23] = 8, 0x45, 6
		binary.BigEndian.PutUint16(b[16:], 46)
		binary.BigEndian.PutUint32(b[26:], 0x0a000000+uint32(i))
		binary.BigEndian.PutUint32(b[30:], 0x0a010000)
		binary.BigEndian.PutUint16(b[34:], 1024)
		binary.BigEndian.PutUint16(b[36:], 80)
		b[46] = 0x50
		list[i] = packet.Frame{Data: b, Len: 60, Iface: 1, Time: 1e9}
	}
	return list
}

// A tally is a stage that notes what it sees.
type tally struct {
	batches, packets, flows, wrong int
	worker                         int
}

func (t *tally) Process(b *Batch) {
	t.batches++
	t.worker = b.Worker
	for i := range b.Packets {
		p, m := &b.Packets[i], &b.Meta[i]
		t.packets++
		if p.Layers&packet.TCP == 0 || p.DstPort != 80 {
			t.wrong++
		}
		if m.Flow != nil {
			t.flows++
		}
	}
}

func TestRun(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		err   error
		want  error
		flows *flow.Table
		l7    *l7.Engine
		found int
	}{
		{name: "end", err: io.EOF},
		{name: "failure", err: broken, want: broken},
		{name: "flows", err: io.EOF, flows: flow.New(flow.Config{Flows: 1024}), found: 30},
		{name: "flows and verdicts", err: io.EOF, flows: flow.New(flow.Config{Flows: 1024}), l7: l7.New(l7.Config{}), found: 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a, b tally
			w := &Worker{Source: &loop{frames(10), 3, c.err}, Index: 4, Flows: c.flows, L7: c.l7, Stages: []Stage{&a, &b}}
			if err := w.Run(context.Background()); err != c.want {
				t.Errorf("Run() = %v, want %v", err, c.want)
			}
			if want := (tally{batches: 3, packets: 30, flows: c.found, worker: 4}); a != want || b != want {
				t.Errorf("stages saw %+v and %+v, want %+v", a, b, want)
			}
		})
	}
}

func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := &Worker{Source: &loop{frames(1), -1, nil}}
	if err := w.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v", err)
	}
}

func TestDo(t *testing.T) {
	var seen tally
	w := &Worker{Source: &loop{frames(10), -1, nil}, Stages: []Stage{&seen}}
	look := func(ctx context.Context) (batches, packets int) {
		if err := w.Do(ctx, func(int64) { batches, packets = seen.batches, seen.packets }); err != nil {
			t.Errorf("Do() = %v", err)
		}
		return batches, packets
	}
	if batches, _ := look(context.Background()); batches != 0 {
		t.Errorf("%d batches before Run", batches)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	last := 0
	for range 100 {
		batches, packets := look(context.Background())
		if packets != 10*batches || batches < last {
			t.Fatalf("%d packets in %d batches, after %d", packets, batches, last)
		}
		last = batches
	}
	cancel()
	// Run may be on its way out or gone: Do answers all the same.
	look(context.Background())
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v", err)
	}
	if batches, packets := look(context.Background()); packets != 10*batches || batches < last {
		t.Errorf("%d packets in %d batches after Run, after %d", packets, batches, last)
	}
}

// A stuck source never comes back from Next before its context ends.
type stuck struct{ loop }

func (s *stuck) Next(ctx context.Context, _ *Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestDoGivesUp(t *testing.T) {
	w := &Worker{Source: &stuck{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	for running := false; !running; {
		w.mu.Lock()
		running = w.running
		w.mu.Unlock()
	}
	impatient, stop := context.WithCancel(context.Background())
	stop()
	called := false
	if err := w.Do(impatient, func(int64) { called = true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Do() = %v", err)
	}
	cancel()
	<-ended
	if called {
		t.Error("Do gave up, and called its function later")
	}
}

func TestAllocations(t *testing.T) {
	table := flow.New(flow.Config{Flows: 1024})
	engine := l7.New(l7.Config{})
	src := &loop{frames(BatchSize), -1, nil}
	w := &Worker{Source: src, Flows: table, L7: engine, Stages: []Stage{&tally{}}}
	w.start()
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if err := src.Next(ctx, &w.batch); err != nil {
			t.Fatal(err)
		}
		w.process(&w.batch)
	}); n != 0 {
		t.Errorf("%.1f allocations per batch", n)
	}
}

func BenchmarkWorker(b *testing.B) {
	for _, c := range []struct {
		name  string
		flows *flow.Table
		l7    *l7.Engine
	}{
		{"decode", nil, nil},
		{"flows", flow.New(flow.Config{Flows: 1024}), nil},
		{"l7", flow.New(flow.Config{Flows: 1024}), l7.New(l7.Config{})},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := &Worker{Source: &loop{frames(BatchSize), b.N/BatchSize + 1, io.EOF}, Flows: c.flows, L7: c.l7}
			b.ReportAllocs()
			if err := w.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
		})
	}
}
