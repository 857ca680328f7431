package capture

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/sink"
)

// mixed returns batches with the sizes of real traffic, 334 bytes on average, spread over more memory than caches hold.
func mixed(batches int) []*pipeline.Batch {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{60, 60, 66, 74, 90, 110, 128, 128, 180, 240, 400, 700, 1514, 1514}
	var out []*pipeline.Batch
	number := uint64(0)
	for range batches {
		var packets []packet.Packet
		for range pipeline.BatchSize {
			packets = append(packets, frame(number, sizes[rng.IntN(len(sizes))], int64(number)*1000, 0))
			number++
		}
		out = append(out, batchOf(0, packets...))
	}
	return out
}

// addressed is mixed with IP and TCP headers.
func addressed(batches int) []*pipeline.Batch {
	out := mixed(batches)
	for _, b := range out {
		for i := range b.Packets {
			p := &b.Packets[i]
			n := len(p.Data) - 14
			copy(p.Data[12:], []byte{8, 0, 0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, byte(i), 1, 10, 1, 2, byte(i), 0x80, byte(i), 0, 80})
			p.Decode(packet.LinkEthernet)
		}
	}
	return out
}

func BenchmarkEverythingToDiscard(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprint(workers, " workers"), func(b *testing.B) {
			cs := newCaptures(b, Options{Source: Source{Workers: workers}})
			c, wait := begin(b, cs, Spec{QueueBytes: 64_000_000}, sink.Discard{})
			batches := mixed(64)
			batch := batchOf(0, batches[0].Packets...) // a worker has one, with frames that were not touched lately
			b.ReportAllocs()
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				for k, p := range batches[i%len(batches)].Packets {
					batch.Packets[k].Data, batch.Packets[k].Len = p.Data, p.Len
				}
				cs.Stage(i % workers).Process(batch)
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/pipeline.BatchSize, "cpu-ns/packet")
			for i := range workers {
				cs.Stage(i).Finish()
			}
			c.Finish("end")
			wait()
			f := cs.Finished()[0]
			b.ReportMetric(float64(f.Dropped)/float64(f.Captured+f.Dropped)*100, "%dropped")
		})
	}
}

// The worker's side alone, with a reader that takes everything at once.
func BenchmarkEverythingQueued(b *testing.B) {
	for _, format := range []Format{Pcapng, Pcap, PcapNanos} {
		b.Run(string(format), func(b *testing.B) {
			cs := newCaptures(b, Options{})
			c, err := cs.Start(Spec{QueueBytes: 4_000_000, Format: format})
			if err != nil {
				b.Fatal(err)
			}
			if err := c.attach(sink.Discard{}); err != nil {
				b.Fatal(err)
			}
			batches := mixed(64)
			batch := batchOf(0, batches[0].Packets...)
			q := &c.lanes[0].queue
			b.ReportAllocs()
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				for k, p := range batches[i%len(batches)].Packets {
					batch.Packets[k].Data, batch.Packets[k].Len = p.Data, p.Len
				}
				cs.Stage(0).Process(batch)
				for r := q.peek(); r.packets != 0; r = q.peek() {
					q.take(r)
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/pipeline.BatchSize, "cpu-ns/packet")
			cs.feed.detach(c)
			c.Finish("end")
			cs.retire(c) // as who empties the queue does
		})
	}
}

// The least that any capture of everything can cost: one copy of each frame.
func BenchmarkCopyOnly(b *testing.B) {
	batches := mixed(64)
	room := make([]byte, 1<<20)
	before := cpuTime()
	at := 0
	for i := 0; b.Loop(); i++ {
		for k := range batches[i%len(batches)].Packets {
			at += copy(room[at:], batches[i%len(batches)].Packets[k].Data)
			if at > len(room)-2000 {
				at = 0
			}
		}
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/pipeline.BatchSize, "cpu-ns/packet")
}

func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{0, 1, 4, 50} {
		b.Run(fmt.Sprint(n, " captures"), func(b *testing.B) {
			cs := newCaptures(b, Options{Max: 64})
			for i := range n {
				c, wait := begin(b, cs, Spec{Filter: compile(b, fmt.Sprintf("ip == 203.0.113.%d and port == %d", i, 80+i%3)), Expression: "x", QueueBytes: 1}, sink.Discard{})
				b.Cleanup(func() { c.Finish("end"); wait() })
			}
			batches := addressed(4)
			b.ReportAllocs()
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				cs.Stage(0).Process(batches[i%len(batches)])
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/pipeline.BatchSize, "cpu-ns/packet")
		})
	}
}

// cpuTime returns the CPU time of the process in ns: the cost of the worker and of the goroutine that drains.
func cpuTime() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func TestStageAllocatesNothing(t *testing.T) {
	cs := newCaptures(t, Options{Max: 64})
	var all []func()
	for i := range 4 {
		spec := Spec{QueueBytes: 8 << 20}
		if i > 0 {
			spec.Filter, spec.Expression, spec.Hold, spec.HoldBytes = every(t, uint64(i)), "x", i == 2, 1<<20
		}
		c, wait := begin(t, cs, spec, sink.Discard{})
		all = append(all, func() { c.Finish("end"); wait() })
	}
	batches := mixed(4)
	for _, b := range batches {
		cs.Stage(0).Process(b) // the first batch makes room for results and interfaces
	}
	i := 0
	if n := testing.AllocsPerRun(200, func() { cs.Stage(0).Process(batches[i%4]); i++; time.Sleep(time.Millisecond) }); n != 0 {
		t.Errorf("a batch costs %v allocations", n)
	}
	for _, end := range all {
		end()
	}
}
