package flow

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
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

func TestSize(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"recordBytes", recordBytes, int(unsafe.Sizeof(Record{}))},
		{"bucketBytes", bucketBytes, int(unsafe.Sizeof(bucket{}))},
		{"setBytes", setBytes, int(unsafe.Sizeof([4]note{}))},
		{"offset of ID, where the second cache line begins", 64, int(unsafe.Offsetof(Record{}.ID))},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, want %d", c.name, c.got, c.want)
		}
	}
	for _, flows := range []int{1024, 5000, 1 << 16} {
		table := New(Config{Flows: flows})
		bytes := len(table.records)*recordBytes + len(table.index)*bucketBytes + len(table.free.ring)*4 + len(table.join.frags)*setBytes
		if got := Size(flows); got != bytes {
			t.Errorf("Size(%d) = %d, want %d", flows, got, bytes)
		}
	}
}

// TestNewConnection repeats a 5-tuple: what opens a flow anew, and what does not.
func TestNewConnection(t *testing.T) {
	type seg struct {
		flags uint8
		seq   uint32
		at    time.Duration
		back  bool
	}
	for _, c := range []struct {
		name string
		run  []seg
		anew bool // the last segment begins a record
	}{
		{"repeated SYN", []seg{{syn, 1, 0, false}, {syn, 1, time.Second, false}}, false},
		{"another SYN at once", []seg{{syn, 1, 0, false}, {syn, 2, time.Second, false}}, false},
		{"another SYN after a minute", []seg{{syn, 1, 0, false}, {syn, 2, 61 * time.Second, false}}, true},
		{"another SYN after a reset", []seg{{syn, 1, 0, false}, {rst | ack, 0, 1, true}, {syn, 2, time.Second, false}}, true},
		{"the same SYN after a reset", []seg{{syn, 1, 0, false}, {rst | ack, 0, 1, true}, {syn, 1, time.Second, false}}, false},
		{"another SYN after one FIN", []seg{{syn, 1, 0, false}, {fin | ack, 2, 1, false}, {syn, 9, time.Second, false}}, false},
		{"another SYN after both FINs", []seg{{syn, 1, 0, false}, {fin | ack, 2, 1, false}, {fin | ack, 2, 1, true}, {syn, 9, time.Second, false}}, true},
		{"another SYN back after both FINs", []seg{{syn, 1, 0, false}, {fin | ack, 2, 1, false}, {fin | ack, 2, 1, true}, {syn, 9, time.Second, true}}, true},
		{"last ACK after both FINs", []seg{{syn, 1, 0, false}, {fin | ack, 2, 1, false}, {fin | ack, 2, 1, true}, {ack, 3, time.Second, false}}, false},
		{"data after ten minutes", []seg{{syn, 1, 0, false}, {ack, 2, 601 * time.Second, false}}, true},
	} {
		ends := 0
		table := New(Config{OnEnd: func(*Record) { ends++ }})
		var refs []Ref
		for _, s := range c.run {
			src, dst, sport, dport := uint32(1), uint32(2), uint16(1000), uint16(80)
			if s.back {
				src, dst, sport, dport = dst, src, dport, sport
			}
			refs = append(refs, table.Find(decode(frame4(protoTCP, src, dst, sport, dport, s.flags, s.seq), s.at)))
		}
		first, last := refs[0], refs[len(refs)-1]
		if anew := first.Flow != last.Flow; anew != c.anew || (ends == 1) != c.anew {
			t.Errorf("%s: a new record %v, %d ended, want %v", c.name, anew, ends, c.anew)
		}
		if last.Flow.Port[last.Flow.Server()] != 80 && c.name != "another SYN back after both FINs" {
			t.Errorf("%s: server port %d, want 80", c.name, last.Flow.Port[last.Flow.Server()])
		}
	}
}

// TestOnly: packets of flows that do not matter have none and are not counted, unless they are in a tunnel.
func TestOnly(t *testing.T) {
	table := New(Config{Only: func(p *packet.Packet) bool { return p.SrcPort == 80 || p.DstPort == 80 }})
	udp := func(a, b uint16) []byte { return frame4(protoUDP, uint32(a), uint32(b), a, b, 0, 0) }
	for i, c := range []struct {
		frame []byte
		want  bool
	}{
		{udp(1000, 80), true}, {udp(80, 1000), true}, {udp(1000, 81), false},
		{packettest.Ethernet(0x0800, packettest.IP(4, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), udp(1000, 81)[14:])), true},
		{udp(1000, 81), false}, {udp(1000, 80), true},
	} {
		if ref := table.Find(decode(c.frame, 0)); (ref.Flow != nil) != c.want || (ref.Outer != nil) != c.want {
			t.Errorf("packet %d: %+v, want a flow: %v", i, ref, c.want)
		}
	}
	if n := table.Counters().Created; n != 3 {
		t.Errorf("%d flows, want 3: one that matters, and both of the tunnel", n)
	}
}
