package capture

import (
	"encoding/binary"
	"fmt"
	"math"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
)

// A Format is the format of a savefile.
type Format string

// The formats.
const (
	Pcapng    Format = "pcapng"  // nanoseconds, any number of interfaces and link types
	Pcap      Format = "pcap"    // microseconds, one link type
	PcapNanos Format = "pcap-ns" // nanoseconds, one link type
)

// An encoding is how packets lie in a queue: as in the savefile.
type encoding struct {
	pcapng bool
	nanos  bool // of pcap
	single bool // all packets are of interface 0
}

// size returns how many bytes encode writes for n captured bytes and their options.
func (e encoding) size(n int, flags packet.Flags, options []byte) int {
	if e.pcapng {
		return pcapng.PacketSize(n, flags, options)
	}
	return pcapng.PcapPacketSize(n)
}

// encode writes the first n bytes of a frame, and its options where the format has any, to room, which is large enough.
func (e encoding) encode(room []byte, f *packet.Frame, n int, options []byte) {
	if !e.pcapng {
		pcapng.AppendPcapPacket(room[:0:len(room)], f.Time, f.Data[:n], f.Len, e.nanos)
		return
	}
	iface := uint32(f.Iface)
	if e.single {
		iface = 0
	}
	pcapng.PutPacket(room, iface, f, n, options)
}

var le = binary.LittleEndian

// A record is what can be read off an encoded packet.
type record struct {
	size     int
	captured int
	time     int64
}

// read reads the packet at the start of b, which encode has written.
func (e encoding) read(b []byte) record {
	if e.pcapng {
		return record{
			size:     int(le.Uint32(b[4:])),
			captured: int(le.Uint32(b[20:])),
			time:     int64(le.Uint32(b[12:]))<<32 | int64(le.Uint32(b[16:])),
		}
	}
	n := int(le.Uint32(b[8:]))
	fraction := int64(le.Uint32(b[4:]))
	if !e.nanos {
		fraction *= 1000
	}
	return record{size: pcapng.PcapPacketSize(n), captured: n, time: int64(le.Uint32(b))*1e9 + fraction}
}

// until cuts from the start of r the packets that are not later than t, at least the first one.
func (e encoding) until(r run, t int64) (cut, rest run) {
	if t == math.MaxInt64 {
		return r, run{}
	}
	at := 0
	for at < len(r.b) {
		p := e.read(r.b[at:])
		if at > 0 && p.time > t {
			break
		}
		at += p.size
		cut.packets++
		cut.captured += p.captured
	}
	cut.b = r.b[:at]
	return cut, run{r.b[at:], r.packets - cut.packets, r.captured - cut.captured}
}

// whole cuts r to the packets that lie within its first n bytes.
func (e encoding) whole(r run, n int) (cut run) {
	for at := 0; at < n; {
		p := e.read(r.b[at:])
		if at += p.size; at > n {
			break
		}
		cut = run{r.b[:at], cut.packets + 1, cut.captured + p.captured}
	}
	return cut
}

func otherLink(first, other packet.LinkType) string {
	return fmt.Sprintf("a packet has link type %d, the ones before have %d, and the output can hold only one: use the format pcapng with all interfaces", other, first)
}
