package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

var (
	alice = netip.MustParseAddr("10.0.0.1")
	bob   = netip.MustParseAddr("10.0.0.2")
	east  = netip.MustParseAddr("192.0.2.1")
	west  = netip.MustParseAddr("192.0.2.2")
)

// tcp is a TCP segment from alice to bob.
func tcp() []byte {
	return packettest.IP(protoTCP, alice, bob, packettest.TCP(1000, 80, ack, 1, []byte("hello")))
}

func TestTunnels(t *testing.T) {
	tagged := packettest.Ethernet(0x8100, packettest.Tag(5, 0x0800, tcp()))
	arp := packettest.Ethernet(0x0806, packettest.ARP(alice, bob))
	vxlan := func(inner []byte) []byte {
		return packettest.IP(protoUDP, east, west, packettest.UDP(50000, 4789, packettest.VXLAN(7, inner)))
	}
	for _, c := range []struct {
		name         string
		frame        []byte
		proto, outer uint8 // of Flow and Outer, 0 = nil
	}{
		{"plain", packettest.Ethernet(0x0800, tcp()), protoTCP, protoTCP},
		{"arp", arp, 0, 0},
		{"vxlan", packettest.Ethernet(0x0800, vxlan(tagged)), protoTCP, protoUDP},
		{"vxlan with arp", packettest.Ethernet(0x0800, vxlan(arp)), protoUDP, protoUDP},
		{"gre", packettest.Ethernet(0x0800, packettest.IP(47, east, west, packettest.GRE(0x0800, tcp()))), protoTCP, 47},
		{"vxlan in gre", packettest.Ethernet(0x0800, packettest.IP(47, east, west, packettest.GRE(0x0800, vxlan(tagged)))), protoTCP, 47},
		{"pseudo-wire", packettest.Ethernet(0x8847, packettest.Label(16, true, packettest.Ethernet(0x0800, tcp()))), protoTCP, protoTCP},
		{"vxlan in a pseudo-wire", packettest.Ethernet(0x8847, packettest.Label(16, true, packettest.Ethernet(0x0800, vxlan(tagged)))), protoTCP, protoUDP},
		{"arp in a pseudo-wire", packettest.Ethernet(0x8847, packettest.Label(16, true, arp)), 0, 0},
		{"mpls", packettest.Ethernet(0x8847, packettest.Label(16, true, tcp())), protoTCP, protoTCP},
	} {
		table := New(Config{})
		p := decode(c.frame, 1)
		ref := table.Find(p)
		proto := func(r *Record) uint8 {
			if r == nil {
				return 0
			}
			return r.Proto
		}
		if proto(ref.Flow) != c.proto || proto(ref.Outer) != c.outer {
			t.Errorf("%s: flow of protocol %d in one of %d, want %d in %d", c.name, proto(ref.Flow), proto(ref.Outer), c.proto, c.outer)
		}
		if ref.Flow != nil && (ref.Flow.Flags&Outside != 0 || ref.Flow.Packets[0] != 1 || ref.Flow.Bytes(0) != uint64(len(c.frame))) {
			t.Errorf("%s: flow is %+v, want one packet of %d bytes that is not outside", c.name, ref.Flow, len(c.frame))
		}
		if ref.Outer != ref.Flow && ref.Outer != nil && ref.Outer.Flags&Outside == 0 {
			t.Errorf("%s: the outer flow is not called outside", c.name)
		}
		if ref.Flow != nil && table.Innermost(p).Proto != c.proto {
			t.Errorf("%s: Innermost has protocol %d, want %d", c.name, table.Innermost(p).Proto, c.proto)
		}
		if c.proto == c.outer && table.Innermost(p) != p {
			t.Errorf("%s: Innermost is not the packet itself", c.name)
		}
	}
}

// fragments cuts an IPv4 packet in two at 8*n bytes of its payload.
func fragments4(ip []byte, id, n uint16) (first, later []byte) {
	src, _ := netip.AddrFromSlice(ip[12:16])
	dst, _ := netip.AddrFromSlice(ip[16:20])
	body := ip[20:]
	first = packettest.IPFragment(ip[9], src, dst, id, 0x2000, body[:8*n])
	later = packettest.IPFragment(ip[9], src, dst, id, n, body[8*n:])
	return first, later
}

func fragments6(proto uint8, src, dst netip.Addr, id uint32, body []byte, n uint16) (first, later []byte) {
	header := func(frag uint16) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{proto, 0}, frag), id)
	}
	first = packettest.IP(44, src, dst, append(header(1), body[:8*n]...))
	later = packettest.IP(44, src, dst, append(header(8*n), body[8*n:]...))
	return first, later
}

func TestFragments(t *testing.T) {
	data := make([]byte, 64)
	udp := packettest.UDP(1000, 53, data)
	inner := packettest.IP(protoUDP, alice, bob, udp)
	six, seven := netip.MustParseAddr("2001:db8::6"), netip.MustParseAddr("2001:db8::7")
	plain1, plain2 := fragments4(inner, 9, 3)
	tunnel1, tunnel2 := fragments4(packettest.IP(47, east, west, packettest.GRE(0x0800, inner)), 9, 5)
	inside1, inside2 := fragments4(inner, 10, 3)
	v6first, v6later := fragments6(protoUDP, six, seven, 9, udp, 3)
	gre := func(ip []byte) []byte {
		return packettest.Ethernet(0x0800, packettest.IP(47, east, west, packettest.GRE(0x0800, ip)))
	}
	for _, c := range []struct {
		name         string
		first, later []byte
	}{
		{"ipv4", packettest.Ethernet(0x0800, plain1), packettest.Ethernet(0x0800, plain2)},
		{"ipv6", packettest.Ethernet(0x86dd, v6first), packettest.Ethernet(0x86dd, v6later)},
		{"tunnel in fragments", packettest.Ethernet(0x0800, tunnel1), packettest.Ethernet(0x0800, tunnel2)},
		{"fragments in a tunnel", gre(inside1), gre(inside2)},
	} {
		table := New(Config{})
		early := table.Find(decode(c.later, 0))
		if early.Flow != nil && early.Flow.Proto == protoUDP {
			t.Errorf("%s: a later fragment alone has the flow %+v", c.name, early.Flow)
		}
		first := table.Find(decode(c.first, 1))
		p := decode(c.later, 2)
		later := table.Find(p)
		if first.Flow == nil || first.Flow.Proto != protoUDP || first.Flow.Port != [2]uint16{1000, 53} {
			t.Fatalf("%s: the first fragment has the flow %+v", c.name, first.Flow)
		}
		if later.Flow != first.Flow || later.Outer != first.Outer || later.From != first.From || later.OuterFrom != first.OuterFrom {
			t.Errorf("%s: Find = %+v for the later fragment, want %+v", c.name, later, first)
		}
		if q := table.Innermost(p); q.Proto == protoUDP && (q.SrcPort != 1000 || q.DstPort != 53 || !q.Ports() || q.Layers&packet.UDP == 0) {
			t.Errorf("%s: the later fragment has the ports %d and %d, want 1000 and 53", c.name, q.SrcPort, q.DstPort)
		}
		if late := table.Find(decode(c.later, 40*time.Second)); late.Flow != nil && late.Flow.Proto == protoUDP {
			t.Errorf("%s: a fragment 40 s later still has the flow %+v", c.name, late.Flow)
		}
	}
}

// TestCutFragments finds fragments, outside and inside a tunnel, of which any number of bytes was captured.
func TestCutFragments(t *testing.T) {
	first, later := fragments4(packettest.IP(protoUDP, alice, bob, packettest.UDP(1000, 53, make([]byte, 24))), 1, 1)
	first6, later6 := fragments6(protoUDP, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), 1, packettest.UDP(1000, 53, make([]byte, 24)), 1)
	for _, frame := range [][]byte{
		packettest.Ethernet(0x0800, first), packettest.Ethernet(0x0800, later), packettest.Ethernet(0x86dd, first6), packettest.Ethernet(0x86dd, later6),
		packettest.Ethernet(0x0800, packettest.IP(4, east, west, first)), packettest.Ethernet(0x0800, packettest.IP(4, east, west, later)),
	} {
		for n := range frame {
			table := New(Config{})
			p := decode(frame[:n], 1)
			if ref := table.Find(p); ref.Outer != nil && p.Layers&packet.IP == 0 {
				t.Errorf("%x has a flow", frame[:n])
			}
		}
	}
}

// TestFragmentOfAnother looks at a fragment with another identification, protocol or direction.
func TestFragmentOfAnother(t *testing.T) {
	ip := packettest.IP(protoUDP, alice, bob, packettest.UDP(1000, 53, make([]byte, 64)))
	first, _ := fragments4(ip, 9, 3)
	_, other := fragments4(ip, 10, 3)
	back := packettest.IP(protoUDP, bob, alice, packettest.UDP(1000, 53, make([]byte, 64)))
	_, backwards := fragments4(back, 9, 3)
	table := New(Config{})
	table.Find(decode(packettest.Ethernet(0x0800, first), 0))
	for name, f := range map[string][]byte{"identification": other, "direction": backwards} {
		if ref := table.Find(decode(packettest.Ethernet(0x0800, f), 1)); ref.Flow != nil {
			t.Errorf("a fragment of another %s has the flow %+v", name, ref.Flow)
		}
	}
}

// TestBatchesDoNotMatter runs the same packets in batches of several sizes.
func TestBatchesDoNotMatter(t *testing.T) {
	run := func(size int) (ids []uint64) {
		table := New(Config{Flows: 1 << 14})
		packets := mixed(20000, 3000)
		for i := range packets {
			if i%size == 0 {
				table.Begin()
			}
			packets[i].Time = int64(i) * int64(50*time.Millisecond)
			for _, r := range []*Record{table.Find(&packets[i]).Flow, table.Find(&packets[i]).Outer} {
				if r != nil {
					ids = append(ids, r.ID)
				}
			}
		}
		return ids
	}
	want := run(1)
	for _, size := range []int{7, 256, 20000} {
		got := run(size)
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("with batches of %d packet %d is of flow %d, else of %d", size, i, got[i], want[i])
			}
		}
	}
}

func TestExpire(t *testing.T) {
	var ended []uint64
	table := New(Config{Flows: 1024, OnEnd: func(r *Record) { ended = append(ended, r.ID) }})
	table.Find(decode(frame4(protoUDP, 1, 2, 3, 4, 0, 0), 0))
	table.Find(decode(frame4(protoTCP, 1, 2, 3, 4, ack, 0), 0))
	table.Expire(int64(119*time.Second), 1024)
	if len(ended) != 0 {
		t.Errorf("after 119 s %v have ended, want none", ended)
	}
	table.Expire(int64(121*time.Second), 1024)
	if len(ended) != 1 || ended[0] != 1 {
		t.Errorf("after 121 s %v have ended, want the UDP flow", ended)
	}
	table.Expire(int64(601*time.Second), 1024)
	if c := table.Counters(); len(ended) != 2 || c.Active != 0 || c.Expired != 2 {
		t.Errorf("after 601 s %v have ended: %+v", ended, c)
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	packets := mixed(4096, 1500)
	table := New(Config{Flows: 1024})
	n := testing.AllocsPerRun(5, func() {
		for i := range packets {
			if i&255 == 0 {
				table.Begin()
			}
			table.Find(&packets[i])
		}
		table.Expire(1<<40, 64)
	})
	if n != 0 {
		t.Errorf("finding 4096 packets allocates %v times, want 0", n)
	}
}

// TestSparse finds many flows again in a table that grew with them, with and without Ahead.
func TestSparse(t *testing.T) {
	const flows = 50_000
	table := New(Config{Flows: 1 << 16, Sparse: true})
	small := table.mask
	packets := make([]packet.Packet, flows)
	for i := range packets {
		packets[i] = *decode(frame4(protoUDP, uint32(i), 1, 1000, 53, 0, 0), 0)
		table.Find(&packets[i])
	}
	for from := 0; from < flows; from += AheadMax {
		some := packets[from:min(from+AheadMax, flows)]
		table.Ahead(some, false)
		for range Lead {
			table.Advance()
			table.Ahead(nil, true)
		}
		for i := range some {
			var ref Ref
			if table.FindAhead(i, &ref); ref.Flow.ID != uint64(from+i+1) {
				t.Fatalf("packet %d is of flow %d", from+i, ref.Flow.ID)
			}
		}
	}
	if c := table.Counters(); c.Active != flows || c.Created != flows || c.Evicted != 0 || table.mask <= small {
		t.Errorf("%+v with %d buckets, want %d flows in more than %d buckets", c, table.mask+1, flows, small+1)
	}
}

// TestAheadOfItself finds a flow that ends and begins again within the packets of one Ahead.
func TestAheadOfItself(t *testing.T) {
	table := New(Config{Flows: 1024})
	f := func(flags byte, seq uint32) packet.Packet {
		return *decode(frame4(protoTCP, 1, 2, 3, 4, flags, seq), 0)
	}
	for round := range uint32(2) {
		seq := 10 * round
		packets := []packet.Packet{f(syn, seq+1), f(ack, seq+2), f(rst, seq+2), f(syn, seq+9), f(ack, seq+10)}
		table.Begin()
		table.Ahead(packets, true)
		for range Lead {
			table.Advance()
			table.Ahead(nil, true)
		}
		var ids []uint64
		for i := range packets {
			var ref Ref
			table.FindAhead(i, &ref)
			ids = append(ids, ref.Flow.ID)
		}
		if ids[0] != ids[2] || ids[3] != ids[4] || ids[0] == ids[3] {
			t.Errorf("flows %d, want the second SYN to begin another one", ids)
		}
	}
}

// TestAheadIsFind finds the same flows ahead, in runs as a worker makes them, as one by one: among them are packets that have none, in the places of others that had one.
func TestAheadIsFind(t *testing.T) {
	for name, only := range map[string]func(*packet.Packet) bool{
		"all":  nil,
		"some": func(p *packet.Packet) bool { return (p.SrcPort^p.DstPort)%16 == 3 },
		"none": func(p *packet.Packet) bool { return false },
	} {
		t.Run(name, func(t *testing.T) { testAhead(t, Config{Flows: 1 << 16, Only: only}) })
	}
}

func testAhead(t *testing.T, cfg Config) {
	rng := rand.New(rand.NewPCG(1, 2))
	var packets []packet.Packet
	for i, frame := range packettest.Mix(1, 20_000, 200) {
		switch rng.IntN(10) {
		case 0:
			frame = packettest.Ethernet(0x0806, frame[14:])
		case 1:
			frame = frame[:min(len(frame), 14+rng.IntN(40))]
		case 2:
			flags := []uint8{syn, syn | ack, fin | ack, rst, ack}[rng.IntN(5)]
			frame = frame4(protoTCP, uint32(rng.IntN(4)), uint32(rng.IntN(4)), 1000, 80, flags, rng.Uint32())
		}
		packets = append(packets, *decode(frame, time.Duration(i)*time.Duration(rng.IntN(2)*10)*time.Millisecond))
	}
	one, ahead := New(cfg), New(cfg)
	for batch := range slices.Chunk(packets, 250) {
		one.Begin()
		ahead.Begin()
		var ref Ref
		var last [Lead][]packet.Packet
		for run := range slices.Chunk(append(slices.Clone(batch), make([]packet.Packet, Lead*AheadMax)...), AheadMax) {
			ahead.Ahead(run, rng.IntN(2) == 0)
			for i := range last[0] {
				want := one.Find(&last[0][i])
				ahead.FindAhead(i, &ref)
				if (ref.Flow == nil) != (want.Flow == nil) || ref.From != want.From || ref.Flow != nil && (ref.Flow.ID != want.Flow.ID || ref.Outer.ID != want.Outer.ID) {
					t.Fatalf("ahead %+v\nalone %+v", ref, want)
				}
			}
			ahead.Advance()
			copy(last[:], last[1:])
			last[Lead-1] = run
		}
	}
	if a, b := ahead.Counters(), one.Counters(); a != b {
		t.Errorf("ahead %+v, alone %+v", a, b)
	}
}

// TestFindInto leaves nothing of the packet before in a Ref that is used again.
func TestFindInto(t *testing.T) {
	table := New(Config{Flows: 16})
	for _, p := range []*packet.Packet{
		decode(frame4(protoUDP, 1, 2, 3, 4, 0, 0), 0),
		decode(packettest.Ethernet(0x0806, nil), 0),
	} {
		ref := Ref{Flow: &Record{}, Outer: &Record{}, From: 1, OuterFrom: 1, Call: &Call{}, Host: []byte("before")}
		table.FindInto(&ref, p)
		if want := table.Find(p); !reflect.DeepEqual(ref, want) {
			t.Errorf("%+v, want %+v", ref, want)
		}
	}
}
