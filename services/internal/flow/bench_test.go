package flow

import (
	"encoding/binary"
	"runtime"
	"strconv"
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
// the cost of computing where the processor knows every branch beforehand, and "warm" so many packets that it does not; the others read 175 MB of frames and reach ever more records.
func BenchmarkDecodeFind(b *testing.B) {
	for _, c := range []struct {
		name           string
		packets, flows int
	}{{"cached", 256, 100}, {"warm", 1 << 13, 1000}, {"flows=1000", 1 << 19, 1000}, {"flows=10000", 1 << 19, 10_000}, {"flows=100000", 1 << 19, 100_000}, {"flows=1000000", 1 << 19, 1_000_000}} {
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

// BenchmarkFindAny finds flows in any order, of frames that are in the cache: what is left beside computing is the wait for the table.
func BenchmarkFindAny(b *testing.B) {
	for _, flows := range []int{100, 10_000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(flows), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			table := New(Config{Flows: 2 * flows})
			var batch [256]packet.Packet
			for i := range batch {
				batch[i] = *decode(frame4(protoUDP, 1, 2, 3, 4, 0, 0), 0)
			}
			var ref Ref
			rng := uint32(1)
			run := func(n int, next func() uint32) {
				for i := 0; i < n; i += len(batch) {
					table.Begin()
					for j := range batch {
						binary.BigEndian.PutUint32(batch[j].Data[26:], next())
					}
					for from := 0; from < len(batch)+Lead*AheadMax; from += AheadMax {
						table.Ahead(batch[min(from, len(batch)):min(from+AheadMax, len(batch))], false)
						if from >= Lead*AheadMax {
							for j := range AheadMax {
								table.FindAhead(j, &ref)
							}
						}
						table.Advance()
					}
				}
			}
			n := uint32(0)
			run(flows, func() uint32 { n++; return n % uint32(flows) })
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime(b)
			run(b.N, func() uint32 {
				rng ^= rng << 13
				rng ^= rng >> 17
				rng ^= rng << 5
				return uint32(uint64(rng) * uint64(flows) >> 32)
			})
			b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}
