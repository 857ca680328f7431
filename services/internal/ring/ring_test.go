package ring

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"math"
	"testing"
	"time"

	"galvo/ci/rig"
	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// epoch is when the traffic of the tests begins.
const epoch = int64(1_700_000_000_000_000_000)

var ethernet = []pipeline.Interface{{Port: 1, Name: "eth1", Link: packet.LinkEthernet}, {Port: 2, Name: "eth2", Link: packet.LinkEthernet, MAC: [6]byte{2, 1}}}

// A traffic is a source of frames in memory.
type traffic struct {
	frames []packet.Frame
	at     int
	table  []pipeline.Interface
	paced  *Ring // if not nil: it is given time to write, so that it drops nothing because a machine is busy
}

func (t *traffic) Next(_ context.Context, b *pipeline.Batch) error {
	if t.at == len(t.frames) {
		return io.EOF
	}
	t.pace()
	n := min(pipeline.BatchSize, len(t.frames)-t.at)
	b.Packets = b.Packets[:n]
	for i := range n {
		b.Packets[i].Frame = t.frames[t.at+i]
	}
	t.at += n
	b.Now = b.Packets[n-1].Time
	return nil
}

// longWait is how long something may take that takes a moment on a machine that is not busy with other things.
const longWait = time.Minute

// pace waits until there is memory for two blocks, or for ever none.
func (t *traffic) pace() {
	for start := time.Now(); t.paced != nil; time.Sleep(50 * time.Microsecond) {
		t.paced.handing.Lock()
		free := len(t.paced.free)
		t.paced.handing.Unlock()
		if free >= 2 {
			return
		}
		if time.Since(start) > longWait {
			t.paced = nil
		}
	}
}

// paceFor lets the rings of stages set the pace.
func (t *traffic) paceFor(stages []pipeline.Stage) *traffic {
	for _, s := range stages {
		if s, ok := s.(*stage); ok {
			t.paced = s.ring
		}
	}
	return t
}

func (t *traffic) Interfaces() []pipeline.Interface {
	if t.table == nil {
		return ethernet
	}
	return t.table
}

// mix makes frames of the rig's traffic.
func mix(seed uint64, n int) []packet.Frame {
	var frames []packet.Frame
	for i, f := range rig.Mix(seed, n) {
		frames = append(frames, packet.Frame{Data: f.Data, Len: uint32(len(f.Data)), Iface: uint16(i & 1), Time: epoch + int64(f.Time)})
	}
	return frames
}

// play runs frames through a worker with all that a device has before the stage.
func play(t testing.TB, s Stage, src *traffic) {
	t.Helper()
	worker(t, []pipeline.Stage{s}, src)
}

func worker(t testing.TB, stages []pipeline.Stage, src *traffic) {
	t.Helper()
	p := newPlayer(stages...)
	p.worker.Source = src.paceFor(stages)
	if err := p.worker.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A player is a worker whose flows go on from one piece of traffic to the next.
type player struct{ worker pipeline.Worker }

func newPlayer(stages ...pipeline.Stage) *player {
	engine := l7.New(l7.Config{Bytes: 1 << 20})
	flows := flow.New(flow.Config{Flows: 1 << 14, Sparse: true, OnEnd: engine.End})
	return &player{pipeline.Worker{Flows: flows, L7: engine, Stages: stages}}
}

func (p *player) play(t testing.TB, frames []packet.Frame) {
	t.Helper()
	p.worker.Source = (&traffic{frames: frames}).paceFor(p.worker.Stages)
	if err := p.worker.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A setting is a ring on disks in memory.
type setting struct {
	cfg   Config
	disks map[string]*testDisk
}

func newSetting(t testing.TB, devices int, perDevice int64) *setting {
	s := &setting{disks: make(map[string]*testDisk)}
	s.cfg = Config{
		Name: "test", Bytes: perDevice, SegmentBytes: index.MinSegment, QueueBytes: 10 << 20, ReorderBytes: 64 << 20, patience: time.Microsecond,
		Store: func(dir string) files.Store { return s.disks[dir] },
	}
	for i := range devices {
		dir := string(rune('a' + i))
		s.cfg.Dirs = append(s.cfg.Dirs, dir)
		s.disks[dir] = newDisk(uint64(i))
	}
	return s
}

func (s *setting) create(t testing.TB) *setting {
	t.Helper()
	if err := Create(context.Background(), s.cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *setting) open(t testing.TB) *Ring {
	t.Helper()
	r, err := Open(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.stock.wait(nil)
	return r
}

func closeRing(t testing.TB, r *Ring) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// got is a packet that a query delivered, with its bytes copied.
type got struct {
	packet.Frame
	verdict l7.Verdict
	server  uint16
	known
}

// known is what else is known of a packet, copied.
type known struct {
	flow, outer     flow.Record
	from, outerFrom flow.Endpoint
	host            string
}

func knownOf(m *pipeline.Meta) (k known) {
	if m.Flow != nil {
		k = known{*m.Flow, *m.Outer, m.From, m.OuterFrom, string(m.Host)}
	}
	return k
}

func collect(t testing.TB, r *Ring, q Query) ([]got, Scan) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*longWait)
	defer cancel()
	res, err := r.Query(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var all []got
	for b := range batches(ctx, t, res) {
		known := len(res.Interfaces())
		for i := range b.Packets {
			if int(b.Packets[i].Iface) >= known {
				t.Fatalf("a packet of interface %d, and %d are known", b.Packets[i].Iface, known)
			}
			g := got{Frame: b.Packets[i].Frame, verdict: b.Meta[i].L7, known: knownOf(&b.Meta[i])}
			g.Data = append([]byte(nil), g.Data...)
			if f := b.Meta[i].Flow; f != nil {
				g.server = f.Port[f.Server()]
			}
			all = append(all, g)
		}
	}
	return all, res.Scan()
}

// batches yields what a query has left, up to its end.
func batches(ctx context.Context, t testing.TB, res *Results) iter.Seq[*pipeline.Batch] {
	return func(yield func(*pipeline.Batch) bool) {
		t.Helper()
		var b pipeline.Batch
		for {
			err := res.Next(ctx, &b)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !yield(&b) {
				return
			}
		}
	}
}

var everything = Query{From: math.MinInt64, To: math.MaxInt64}

func sameFrames(t testing.TB, want []packet.Frame, have []got) {
	t.Helper()
	if len(want) != len(have) {
		t.Fatalf("%d packets, want %d", len(have), len(want))
	}
	for i := range want {
		w, h := want[i], have[i].Frame
		if string(w.Data) != string(h.Data) || w.Len != h.Len || w.Iface != h.Iface || w.Time != h.Time || w.Flags != h.Flags {
			t.Fatalf("packet %d: time %d, %d of %d bytes, interface %d, flags %d; want %d, %d of %d, %d, %d", i,
				h.Time, len(h.Data), h.Len, h.Iface, h.Flags, w.Time, len(w.Data), w.Len, w.Iface, w.Flags)
		}
	}
}

func TestRecordAndRead(t *testing.T) {
	set := newSetting(t, 2, 16<<20)
	set.cfg.QueueBytes = 16 << 20 // for everything, however late the writers come to their turn
	set.create(t)
	r := set.open(t)
	frames := mix(1, 30_000)
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	play(t, s, &traffic{frames: frames})
	s.Finish()
	have, _ := collect(t, r, everything)
	sameFrames(t, frames, have)
	closeRing(t, r)

	r = set.open(t)
	have, scan := collect(t, r, everything)
	sameFrames(t, frames, have)
	t.Logf("%+v", scan)
	closeRing(t, r)
}

// A keeper is a stage that keeps batches: the traffic's frames and the flow records stay as they are.
type keeper struct{ batches []pipeline.Batch }

func (k *keeper) Process(b *pipeline.Batch) {
	c := *b
	c.Packets = append([]packet.Packet(nil), b.Packets...)
	c.Meta = append([]pipeline.Meta(nil), b.Meta...)
	for i := range c.Meta {
		c.Meta[i].Host = append([]byte(nil), c.Meta[i].Host...)
	}
	k.batches = append(k.batches, c)
}

var le = binary.LittleEndian

// As FORMAT.md says.
const (
	theTrailer = 1043836
	theChunks  = 128
	theBloom   = 640
)

func table() []pipeline.Interface { return ethernet }

// waitIdle waits until nothing is on its way to the disk.
func waitIdle(t testing.TB, r *Ring) {
	t.Helper()
	for start := time.Now(); ; {
		r.handing.Lock()
		n := len(r.waiting)
		r.handing.Unlock()
		if n == 0 {
			return
		}
		if time.Since(start) > longWait {
			t.Fatalf("%d blocks still wait", n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func mustFilter(t testing.TB, text string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(text, testEnv(0))
	if err != nil {
		t.Fatal(err)
	}
	return f
}
