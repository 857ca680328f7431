package flow

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
	"pgregory.net/rapid"
)

// A step is one packet of a generated run.
type step struct {
	proto        uint8
	src, dst     netip.AddrPort
	flags        uint8
	seq          uint32
	pause        time.Duration
	vlan, cut    bool
	startOfBatch bool
}

func (s step) frame() []byte {
	payload := packettest.UDP(s.src.Port(), s.dst.Port(), nil)
	switch s.proto {
	case protoTCP:
		payload = packettest.TCP(s.src.Port(), s.dst.Port(), s.flags, s.seq, nil)
	case 1:
		payload = []byte{8, 0, 0, 0, 0, 0, 0, 0}
	}
	if s.cut {
		payload = payload[:3]
	}
	et := uint16(0x0800)
	if s.src.Addr().Is6() {
		et = 0x86dd
	}
	ip := packettest.IP(s.proto, s.src.Addr(), s.dst.Addr(), payload)
	if s.vlan {
		return packettest.Ethernet(0x8100, packettest.Tag(5, et, ip))
	}
	return packettest.Ethernet(et, ip)
}

func steps() *rapid.Generator[[]step] {
	v4 := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	v6 := []string{"2001:db8::1", "2001:db8::2"}
	one := rapid.Custom(func(t *rapid.T) step {
		hosts := rapid.SampledFrom([][]string{v4, v6}).Draw(t, "version")
		end := func(name string) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, name)), rapid.SampledFrom([]uint16{40000, 40001, 80, 8080}).Draw(t, name+" port"))
		}
		return step{
			proto:        rapid.SampledFrom([]uint8{protoTCP, protoTCP, protoUDP, 1}).Draw(t, "proto"),
			src:          end("src"),
			dst:          end("dst"),
			flags:        rapid.SampledFrom([]uint8{syn, syn | ack, ack, ack, fin | ack, rst}).Draw(t, "flags"),
			seq:          rapid.Uint32Range(1, 2).Draw(t, "seq"),
			pause:        rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 61 * time.Second, 121 * time.Second, 601 * time.Second}).Draw(t, "pause"),
			vlan:         rapid.Bool().Draw(t, "vlan"),
			cut:          rapid.IntRange(0, 20).Draw(t, "cut") == 0,
			startOfBatch: rapid.IntRange(0, 4).Draw(t, "batch") == 0,
		}
	})
	return rapid.SliceOfN(one, 1, 200)
}

// A model is the table as a map, written for clarity.
type model struct {
	flows map[string]*modelFlow
	next  uint64
}

type modelFlow struct {
	id       uint64
	first    netip.AddrPort
	server   netip.AddrPort
	last     time.Duration
	isn      uint32
	opened   bool
	fins     map[netip.AddrPort]bool
	finished bool
	packets  map[netip.AddrPort]uint32
}

func (m *model) find(s step, now time.Duration) *modelFlow {
	if s.cut && s.proto != 1 {
		return nil
	}
	src, dst := s.src, s.dst
	if s.proto == 1 {
		src, dst = netip.AddrPortFrom(src.Addr(), 0), netip.AddrPortFrom(dst.Addr(), 0)
	}
	a, b := src, dst
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	k := fmt.Sprint(s.proto, a, b)
	f := m.flows[k]
	if f == nil || f.over(s, now) {
		m.next++
		f = &modelFlow{id: m.next, first: src, server: server(s, src, dst), fins: map[netip.AddrPort]bool{}, packets: map[netip.AddrPort]uint32{}}
		m.flows[k] = f
	}
	f.last = now
	f.packets[src]++
	if s.proto != protoTCP {
		return f
	}
	if s.flags == syn && !f.opened {
		f.opened, f.isn = true, s.seq
	}
	f.fins[src] = f.fins[src] || s.flags&fin != 0
	f.finished = f.finished || s.flags&rst != 0 || src != dst && f.fins[src] && f.fins[dst]
	return f
}

func (f *modelFlow) over(s step, now time.Duration) bool {
	idle := now - f.last
	switch {
	case f.finished && idle > 60*time.Second, s.proto == protoTCP && idle > 600*time.Second, s.proto != protoTCP && idle > 120*time.Second:
		return true
	}
	return s.proto == protoTCP && s.flags == syn && !(f.opened && f.isn == s.seq) && (f.finished || idle > 60*time.Second)
}

func server(s step, src, dst netip.AddrPort) netip.AddrPort {
	known := func(p netip.AddrPort) bool { return p.Port() == 80 || p.Port() == 8080 }
	switch {
	case s.proto == 1, s.proto == protoTCP && s.flags == syn:
		return dst
	case s.proto == protoTCP && s.flags == syn|ack:
		return src
	case known(src) != known(dst):
		if known(src) {
			return src
		}
		return dst
	case s.proto == protoTCP && src.Port() < dst.Port():
		return src
	}
	return dst
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := steps().Draw(t, "steps")
		table := New(Config{Flows: 1024})
		m := model{flows: map[string]*modelFlow{}}
		var now time.Duration
		for i, s := range run {
			now += s.pause
			if s.startOfBatch {
				table.Begin()
			}
			p := &packet.Packet{Frame: packet.Frame{Data: s.frame(), Len: 60, Time: int64(now)}}
			p.Decode(packet.LinkEthernet)
			ref, want := table.Find(p), m.find(s, now)
			if (ref.Flow == nil) != (want == nil) || ref.Flow != ref.Outer {
				t.Fatalf("step %d: Find = %+v, want flow %+v", i, ref, want)
			}
			if want == nil {
				continue
			}
			check(t, i, s, ref, want)
		}
	})
}

func check(t *rapid.T, i int, s step, ref Ref, want *modelFlow) {
	src, dst := s.src, s.dst
	if s.proto == 1 {
		src, dst = netip.AddrPortFrom(src.Addr(), 0), netip.AddrPortFrom(dst.Addr(), 0)
	}
	r := ref.Flow
	from := Endpoint(0)
	if src != want.first {
		from = 1
	}
	ends := [2]netip.AddrPort{want.first, dst}
	if from == 1 {
		ends[1] = src
	}
	switch {
	case r.ID != want.id:
		t.Fatalf("step %d: flow %d, want %d", i, r.ID, want.id)
	case ref.From != from:
		t.Fatalf("step %d: from endpoint %d, want %d", i, ref.From, from)
	case ends[r.Server()] != want.server:
		t.Fatalf("step %d: server %v, want %v", i, ends[r.Server()], want.server)
	case r.Packets[from] != want.packets[src]:
		t.Fatalf("step %d: %d packets, want %d", i, r.Packets[from], want.packets[src])
	case (r.Flags&Finished != 0) != want.finished:
		t.Fatalf("step %d: finished %v, want %v", i, r.Flags&Finished != 0, want.finished)
	case r.Last != int64(want.last):
		t.Fatalf("step %d: last %d, want %d", i, r.Last, want.last)
	}
}

// TestFull runs many more flows than a table has room for: what a batch was given stays, each record ends once, and no packet is lost from the sums.
func TestFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ended := map[uint64]bool{}
		var counted, tracked uint64
		table := New(Config{Flows: 1024, OnEnd: func(r *Record) {
			if ended[r.ID] {
				t.Fatalf("flow %d ended twice", r.ID)
			}
			ended[r.ID] = true
			counted += uint64(r.Packets[0]) + uint64(r.Packets[1])
		}})
		batches := rapid.IntRange(1, 20).Draw(t, "batches")
		size := rapid.IntRange(1, 1500).Draw(t, "batch size")
		hosts := rapid.Uint32Range(1, 5000).Draw(t, "hosts")
		for n := range batches {
			table.Begin()
			given := map[*Record]uint64{}
			for i := range size {
				host := (uint32(n*size+i) * 7919) % hosts
				ref := table.Find(decode(frame4(protoUDP, host, 1, 1000, 53, 0, 0), time.Duration(n)*time.Second))
				if ref.Flow == nil {
					continue
				}
				tracked++
				given[ref.Flow] = ref.Flow.ID
			}
			for r, id := range given {
				if r.ID != id || r.Flags&Ended != 0 {
					t.Fatalf("batch %d: the record of flow %d became that of %d", n, id, r.ID)
				}
			}
		}
		active := 0
		last := uint64(0)
		for r := range table.All() {
			active++
			counted += uint64(r.Packets[0]) + uint64(r.Packets[1])
			if ended[r.ID] || r.ID <= last {
				t.Fatalf("All yields flow %d after %d", r.ID, last)
			}
			last = r.ID
		}
		c := table.Counters()
		if active != c.Active || active+len(ended) != int(c.Created) || counted != tracked || tracked+c.Untracked != uint64(batches*size) {
			t.Fatalf("%d active, %d ended, %d packets counted of %d tracked: %+v", active, len(ended), counted, tracked, c)
		}
	})
}
