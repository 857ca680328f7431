package l7_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
	"galvo/services/internal/pipeline"
)

// cpuTime returns the processor time of this thread: on a shared machine it says more than the clock on the wall.
func cpuTime(tb testing.TB) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	return ts.Nano()
}

// A worker is decoding, flow table and engine as the pipeline has them.
type worker struct {
	table  *flow.Table
	engine *l7.Engine
	batch  [flow.AheadMax]packet.Packet
}

func newWorker(flows int) *worker {
	w := &worker{engine: l7.New(l7.Config{})}
	w.table = flow.New(flow.Config{Flows: flows, OnEnd: w.engine.End})
	return w
}

// take passes frames on, and returns the verdict of the last one.
func (w *worker) take(frames [][]byte, now int64) (v l7.Verdict) {
	for len(frames) > 0 {
		n := min(len(frames), len(w.batch))
		w.table.Begin()
		w.engine.Begin()
		some := w.batch[:n]
		for i, f := range frames[:n] {
			some[i].Frame = packet.Frame{Data: f, Len: uint32(len(f)), Time: now}
			some[i].Decode(packet.LinkEthernet)
		}
		w.table.Ahead(some, true)
		for range flow.Lead {
			w.table.Advance()
			w.table.Ahead(nil, true)
		}
		for i := range some {
			var ref flow.Ref
			w.table.FindAhead(i, &ref)
			v = w.engine.Inspect(&some[i], w.table.Innermost(&some[i]), &ref)
		}
		frames = frames[n:]
	}
	return v
}

// tcpFlow returns the frames of a connection to a web server: handshake, a ClientHello, and so many packets of data.
func tcpFlow(number, data int) (frames [][]byte) {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)}), 40000)
	server := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), 443)
	add := func(from, to netip.AddrPort, flags byte, seq uint32, payload []byte) {
		frames = append(frames, packettest.Ethernet(0x0800, packettest.IP(6, from.Addr(), to.Addr(), packettest.TCP(from.Port(), to.Port(), flags, seq, payload))))
	}
	hello := webHello(fmt.Sprintf("host%d.example.com", number))
	body := append([]byte("\x17\x03\x03\x05\x00"), make([]byte, 1280)...)
	add(client, server, 2, 1, nil)
	add(server, client, 0x12, 1, nil)
	add(client, server, 0x10, 2, nil)
	add(client, server, 0x18, 2, hello)
	for i := range data {
		if i%3 == 2 {
			add(client, server, 0x10, 2+uint32(len(hello)), nil)
		} else {
			add(server, client, 0x18, 2+uint32(i*len(body)), body)
		}
	}
	return frames
}

// webHello builds a ClientHello with a server's name.
func webHello(name string) []byte {
	sni := append(binary.BigEndian.AppendUint16(nil, uint16(len(name)+3)), 0)
	sni = append(binary.BigEndian.AppendUint16(sni, uint16(len(name))), name...)
	ext := append([]byte{0, 21, 0, 200}, make([]byte, 200)...)
	ext = append(binary.BigEndian.AppendUint16(append(ext, 0, 0), uint16(len(sni))), sni...)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 4, 0x13, 1, 0x13, 2, 1, 0)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(ext))), ext...)
	record := append([]byte{22, 3, 1}, byte((len(body)+4)>>8), byte(len(body)+4), 1, 0, byte(len(body)>>8), byte(len(body)))
	return append(record, body...)
}

// BenchmarkShort and BenchmarkLong are connections of 10 and of 1000 packets; the goals are 900 and 250 ns of processor time per packet, decoding and flow table
// included.
func BenchmarkShort(b *testing.B) { benchmarkFlows(b, 6) }

func BenchmarkLong(b *testing.B) { benchmarkFlows(b, 996) }

func benchmarkFlows(b *testing.B, data int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var flows [][][]byte
	for i := range 2000 / (data + 4) * 10 {
		flows = append(flows, tcpFlow(i, data))
	}
	w := newWorker(1 << 16)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime(b)
	for n, now := 0, int64(1e18); n < b.N; {
		for _, f := range flows {
			w.take(f, now)
			n += len(f)
		}
		now += 700e9 // and the same connections again, which have ended since
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
}

// BenchmarkConcurrent has packets of so many flows in any order, which all have their verdict and the name of their server. The goal is that a million flows, and any
// number below, cost at most 1.5 times what 10,000 do, and at most 300 MB, 200 bytes for each. All take turns, and the least that a round took counts.
func BenchmarkConcurrent(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	counts := []int{10_000, 100_000, 300_000, 1_000_000}
	all := make([]*crowd, len(counts))
	for i, flows := range counts {
		all[i] = newCrowd(b, flows)
	}
	for b.Loop() {
		for _, c := range all {
			start := cpuTime(b)
			c.at = 0
			if err := c.pipe.Run(b.Context()); err != errPause {
				b.Fatal(err)
			}
			c.least = min(c.least, float64(cpuTime(b)-start)/float64(len(c.frames)))
		}
	}
	b.ReportMetric(0, "ns/op") // of a round, which says nothing
	for i, c := range all {
		b.ReportMetric(c.least, fmt.Sprintf("cpu-ns/%d", counts[i]))
		b.ReportMetric(c.least/all[0].least, fmt.Sprintf("ratio/%d", counts[i]))
		b.ReportMetric(c.bytes, fmt.Sprintf("B/flow/%d", counts[i]))
	}
}

// A crowd is a worker that has met many flows, and packets of theirs.
type crowd struct {
	worker *worker
	pipe   *pipeline.Worker // with the worker's table and engine, and the crowd as its source
	frames [][]byte
	at     int     // of the next frame
	bytes  float64 // that the worker takes, per flow
	least  float64 // ns
}

// errPause ends a round. With io.EOF the worker would give all flows their last verdict: that belongs to the end of a savefile.
var errPause = errors.New("a pause")

// Next implements pipeline.Source.
func (c *crowd) Next(_ context.Context, b *pipeline.Batch) error {
	some := c.frames[c.at:min(c.at+pipeline.BatchSize, len(c.frames))]
	if len(some) == 0 {
		return errPause
	}
	c.at += len(some)
	b.Now, b.Packets = 1e18, b.Packets[:len(some)]
	for i, f := range some {
		b.Packets[i].Frame = packet.Frame{Data: f, Len: uint32(len(f)), Time: b.Now}
	}
	return nil
}

// Interfaces implements pipeline.Source.
func (c *crowd) Interfaces() []pipeline.Interface {
	return []pipeline.Interface{{Port: 1, Link: packet.LinkEthernet}}
}

func newCrowd(b *testing.B, flows int) *crowd {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := &crowd{worker: newWorker(flows), frames: make([][]byte, 1<<17), least: math.Inf(1)}
	runtime.GC()
	runtime.ReadMemStats(&after)
	c.bytes = float64(after.HeapAlloc-before.HeapAlloc) / float64(flows)
	for i := range flows {
		if v := c.worker.take(tcpFlow(i, 0), 1e18); v.Proto != protocol.TLS {
			b.Fatalf("flow %d is %v", i, v)
		}
	}
	if active := c.worker.table.Counters().Active; active != flows {
		b.Fatalf("%d flows of %d are in the table", active, flows)
	}
	c.pipe = &pipeline.Worker{Source: c, Flows: c.worker.table, L7: c.worker.engine}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range c.frames {
		c.frames[i] = append([]byte(nil), tcpFlow(r.IntN(flows), 1)[4][:14+20+20+64]...)
	}
	return c
}
