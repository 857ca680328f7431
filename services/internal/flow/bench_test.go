package flow

import (
	"fmt"
	"testing"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// mixed returns decoded frames of packettest's mix, copied into one block of memory as a packet ring has them.
func mixed(n, flows int) []packet.Packet {
	frames := packettest.Mix(1, n, flows)
	size := 0
	for _, f := range frames {
		size += len(f)
	}
	block := make([]byte, 0, size)
	packets := make([]packet.Packet, n)
	for i, f := range frames {
		at := len(block)
		block = append(block, f...)
		p := &packets[i]
		p.Frame = packet.Frame{Data: block[at:len(block):len(block)], Len: uint32(len(f)), Time: int64(i) * 1000}
		p.Decode(packet.LinkEthernet)
	}
	return packets
}

// BenchmarkFind looks up decoded packets of ever more flows; each packet finds its flow.
func BenchmarkFind(b *testing.B) {
	for _, flows := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint("flows=", flows), func(b *testing.B) {
			packets := mixed(max(1<<16, flows), flows)
			table := New(Config{Flows: 2 * flows})
			for i := range packets {
				table.Find(&packets[i])
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i&255 == 0 {
					table.Begin()
				}
				table.Find(&packets[i%len(packets)])
			}
		})
	}
}

// BenchmarkDecodeFind is the way of a packet: decode, find the flow.
func BenchmarkDecodeFind(b *testing.B) {
	for _, flows := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint("flows=", flows), func(b *testing.B) {
			packets := mixed(1<<19, flows)
			table := New(Config{Flows: 2 * flows})
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i&255 == 0 {
					table.Begin()
				}
				p := &packets[i&(1<<19-1)]
				p.Decode(packet.LinkEthernet)
				table.Find(p)
			}
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
