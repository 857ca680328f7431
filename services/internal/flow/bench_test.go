package flow

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// mixed returns packets of packettest's mix, decoded.
func mixed(n, flows int) []packet.Packet {
	packets := packettest.Packets(1, n, flows)
	for i := range packets {
		packets[i].Decode(packet.LinkEthernet)
	}
	return packets
}

// cpuTime returns the processor time of this thread: on a shared machine it says more than the clock on the wall.
func cpuTime(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

// BenchmarkDecodeFind is the way of a packet, in batches as the pipeline has them: decode, find the flow. "cached" runs the same batch again and again, which leaves
// the cost of computing; the others read 175 MB of frames and reach ever more records.
func BenchmarkDecodeFind(b *testing.B) {
	for _, c := range []struct {
		name           string
		packets, flows int
	}{{"cached", 256, 100}, {"flows=1000", 1 << 19, 1000}, {"flows=10000", 1 << 19, 10_000}, {"flows=100000", 1 << 19, 100_000}, {"flows=1000000", 1 << 19, 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			packets := packettest.Packets(1, c.packets, c.flows)
			table := New(Config{Flows: 2 * c.flows})
			var batch [256]packet.Packet
			var ref Ref
			run := func(n int) {
				for i := 0; i < n; i += len(batch) {
					table.Begin()
					for j, p := range packets[i&(c.packets-1):][:len(batch)] {
						batch[j].Frame = p.Frame
					}
					for from := 0; from < len(batch)+Lead*AheadMax; from += AheadMax { // as the pipeline does it
						some := batch[min(from, len(batch)):min(from+AheadMax, len(batch))]
						for j := range some {
							some[j].Decode(packet.LinkEthernet)
						}
						table.Ahead(some, false)
						if from >= Lead*AheadMax {
							for j := range AheadMax {
								table.FindAhead(j, &ref)
							}
						}
						table.Advance()
					}
				}
			}
			run(c.packets)
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime(b)
			run(b.N)
			b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkCreate opens a flow with every packet, in a table that is full of others.
func BenchmarkCreate(b *testing.B) {
	table := New(Config{Flows: 1 << 16})
	p := decode(frame4(protoUDP, 1, 2, 3, 4, 0, 0), 0)
	b.ReportAllocs()
	for i := range b.N {
		if i&255 == 0 {
			table.Begin()
		}
		p.Data[26], p.Data[27], p.Data[28], p.Data[29] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		p.Time = int64(i)
		table.Find(p)
	}
}
