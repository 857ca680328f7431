package flow

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"galvo/services/internal/packet"
)

// frame4 builds Ethernet, IPv4 and a TCP or UDP header.
func frame4(proto byte, src, dst uint32, sport, dport uint16, flags byte, seq uint32) []byte {
	b := make([]byte, 14+20+20)
	b[12] = 8
	ip := b[14:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, proto
	binary.BigEndian.PutUint32(ip[12:], src)
	binary.BigEndian.PutUint32(ip[16:], dst)
	l4 := ip[20:]
	binary.BigEndian.PutUint16(l4, sport)
	binary.BigEndian.PutUint16(l4[2:], dport)
	if proto == protoUDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		return b
	}
	binary.BigEndian.PutUint32(l4[4:], seq)
	l4[12], l4[13] = 5<<4, flags
	return b
}

func decode(b []byte, at time.Duration) *packet.Packet {
	p := &packet.Packet{Frame: packet.Frame{Data: b, Len: uint32(len(b)), Time: int64(at)}}
	p.Decode(packet.LinkEthernet)
	return p
}

func TestRecordSize(t *testing.T) {
	if n := unsafe.Sizeof(Record{}); n != 128 {
		t.Errorf("a Record has %d bytes, want 128", n)
	}
}

func TestBothDirections(t *testing.T) {
	table := New(Config{Flows: 1024})
	table.Begin()
	a := table.Find(decode(frame4(protoTCP, 1, 2, 1000, 80, syn, 1), 0))
	b := table.Find(decode(frame4(protoTCP, 2, 1, 80, 1000, syn|ack, 1), 1))
	if a.Flow == nil || a.Flow != b.Flow || a.From != 0 || b.From != 1 || a.Flow.Server() != 1 {
		t.Errorf("Find = %+v and %+v, want one flow with endpoint 1 as server", a, b)
	}
	if got := a.Flow.Packets; got != [2]uint32{1, 1} {
		t.Errorf("Packets = %v, want one each", got)
	}
}
