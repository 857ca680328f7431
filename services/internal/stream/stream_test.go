package stream

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

var (
	alice = netip.MustParseAddr("10.0.0.1")
	bob   = netip.MustParseAddr("2001:db8::1")
	carol = netip.MustParseAddr("2001:db8::2")
)

// A tap is a flow table and a store behind it.
type tap struct {
	flows *flow.Table
	*Store
	reach int
}

func newTap(streams, reach int) *tap {
	return &tap{flow.New(flow.Config{Flows: 1024}), New(fixed + streams*unit), reach}
}

// see takes a packet and returns its payload with what is known about it.
func (t *tap) see(frame []byte) (payload []byte, f *flow.Stream) {
	p := &packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(len(frame)), Time: 1e9}}
	p.Decode(packet.LinkRaw)
	t.flows.Begin()
	t.Begin()
	ref := t.flows.Find(p)
	inner := t.flows.Innermost(p)
	t.Follow(inner, &ref, t.reach)
	return inner.L7(), ref.Stream
}

const ackFlag = 16

func segment(sport uint16, flags uint8, seq uint32, payload []byte) []byte {
	return packettest.IP(6, carol, bob, packettest.TCP(sport, 80, flags, seq, payload))
}

// A model knows a stream byte by byte.
type model struct {
	bytes []byte
	known []bool
}

// span returns which bytes of a segment are new, from the first one to the last one, and the stretch without a hole that they are in then.
func (m *model) span(from, to int) (newFrom, newTo, begin, end int) {
	newFrom, newTo = to, from
	for at := from; at < to; at++ {
		if !m.known[at] {
			newFrom, newTo = min(newFrom, at), at+1
			m.known[at] = true
		}
	}
	begin, end = newFrom, newTo
	for begin > 0 && m.known[begin-1] {
		begin--
	}
	for end < len(m.known) && m.known[end] {
		end++
	}
	return newFrom, newTo, begin, end
}

// stretches counts the stretches of a stream.
func (m *model) stretches() (n int) {
	for i, k := range m.known {
		if k && (i == 0 || !m.known[i-1]) {
			n++
		}
	}
	return n
}

// TestModel compares what is said about segments that come in any order, again, and overlapping, with a stream that is known byte by byte.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	joined, ahead, old := 0, 0, 0
	for round := range 80 {
		reach := []int{1, 7, 100, flow.StreamReach}[round%4]
		tap := newTap(16, reach)
		m := &model{make([]byte, 7000), make([]bool, 7000)}
		for i := range m.bytes {
			m.bytes[i] = byte(r.Uint32())
		}
		isn := r.Uint32()
		if round%3 == 0 {
			isn = -uint32(r.IntN(6000)) // the numbers wrap
		}
		largest := 1 + r.IntN(1400)
		for at := 0; at < len(m.bytes); {
			from := at
			switch r.IntN(4) {
			case 0: // again, or late
				from = max(0, at-r.IntN(4*largest))
			case 1: // ahead
				from = min(at+r.IntN(3*largest), len(m.bytes)-1)
			}
			to := min(from+1+r.IntN(largest), len(m.bytes))
			if hole := slices.Index(m.known[:at], false); hole >= 0 && r.IntN(4) == 0 { // filled, as far as one segment does
				from, to = hole, min(hole+1+r.IntN(largest), len(m.bytes))
				if known := slices.Index(m.known[hole:], true); known >= 0 && r.IntN(4) > 0 {
					to = hole + min(known, largest)
				}
			}
			save := slices.Clone(m.known)
			a, b, begin, end := m.span(from, to)
			if m.stretches() > maxRuns { // no such segment: what is let go of has a test of its own
				m.known = save
				continue
			}
			at = max(at, to)
			payload, f := tap.see(segment(1000, ackFlag, isn+uint32(from), m.bytes[from:to]))
			if f == nil || f.Forgotten {
				t.Fatalf("nothing is known about a segment: %+v", f)
			}
			if a >= b {
				if old++; f.New != 0 {
					t.Fatalf("%d of %d bytes that were there are new", f.New, to-from)
				}
				continue
			}
			if f.Skip != a-from || f.New != b-a || !bytes.Equal(payload[f.Skip:][:f.New], m.bytes[a:b]) {
				t.Fatalf("segment %d to %d: %d bytes from %d on are new, want %d to %d", from, to, f.New, from+f.Skip, a, b)
			}
			before, after := m.bytes[max(begin, a-reach-1):a], m.bytes[b:min(end, b+reach+1)]
			if !bytes.Equal(f.Before, before) || f.Open != (a-begin > reach) {
				t.Fatalf("before %d: %d bytes, open %v; want %d of %d", a, len(f.Before), f.Open, len(before), a-begin)
			}
			if !bytes.Equal(f.After, after) || f.More != (end-b > reach) {
				t.Fatalf("after %d: %d bytes, more %v; want %d of %d", b, len(f.After), f.More, len(after), end-b)
			}
			if len(f.After) > 0 && len(f.Before) > 0 {
				joined++
			}
			if len(f.Before) == 0 {
				ahead++
			}
		}
	}
	t.Logf("%d segments filled a hole, %d came ahead of one, %d were old", joined, ahead, old)
	if joined < 300 || ahead < 300 || old < 300 {
		t.Errorf("%d segments filled a hole, %d came ahead of one, %d were old: too few to show anything", joined, ahead, old)
	}
}

// TestWhatIsNoStream: packets that are no part of one.
func TestWhatIsNoStream(t *testing.T) {
	tap := newTap(16, 100)
	for name, frame := range map[string][]byte{
		"udp":            packettest.IP(17, carol, bob, packettest.UDP(1, 2, []byte("x"))),
		"no payload":     segment(1, ackFlag, 1, nil),
		"reset":          segment(1, ackFlag|rst, 1, []byte("why")),
		"later fragment": packettest.IPFragment(6, alice, alice, 1, 10, []byte("a later fragment of something")),
	} {
		if _, f := tap.see(frame); f != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if n := tap.Counters(); n != (Counters{}) {
		t.Errorf("counted %+v", n)
	}
}

// TestTunnel: the stream is that of the innermost headers.
func TestTunnel(t *testing.T) {
	tap := newTap(16, 100)
	in := func(seq uint32, text string) []byte {
		return packettest.IP(17, alice, alice, packettest.UDP(9, 4789, packettest.VXLAN(1, packettest.Ethernet(0x86dd, segment(1, ackFlag, seq, []byte(text))))))
	}
	tap.see(in(1, "abc"))
	if _, f := tap.see(in(4, "def")); f == nil || string(f.Before) != "abc" {
		t.Errorf("%+v", f)
	}
}

// TestNewConnection: ports that are used again begin another stream, also where the table takes both for one flow.
func TestNewConnection(t *testing.T) {
	tap := newTap(16, 100)
	tap.see(segment(1, syn, 99, nil))
	tap.see(segment(1, ackFlag, 100, []byte("abc")))
	tap.see(segment(1, syn, 99, nil)) // again
	if _, f := tap.see(segment(1, ackFlag, 103, []byte("d"))); string(f.Before) != "abc" || f.Open {
		t.Errorf("after its SYN came again: %+v", f)
	}
	tap.see(segment(1, syn, 100000, nil))
	if _, f := tap.see(segment(1, ackFlag, 100001, []byte("e"))); len(f.Before) != 0 || f.New != 1 {
		t.Errorf("after another SYN: %+v", f)
	}
	if _, f := tap.see(segment(1, ackFlag, 1<<31, []byte("f"))); len(f.Before) != 0 || f.New != 1 {
		t.Errorf("after a jump: %+v", f)
	}
	if _, f := tap.see(segment(1, syn, 7, []byte("g"))); len(f.Before) != 0 || f.New != 1 {
		t.Errorf("data in a SYN: %+v", f)
	}
	if _, f := tap.see(segment(1, ackFlag, 9, []byte("h"))); string(f.Before) != "g" {
		t.Errorf("after data in a SYN: %+v", f)
	}
}

// TestMemory: the stream that was silent for long makes room, and says so when it goes on.
func TestMemory(t *testing.T) {
	tap := newTap(64, 100)
	for port := range uint16(200) {
		if _, f := tap.see(segment(port, ackFlag, 1, []byte("abc"))); f == nil || f.Forgotten {
			t.Fatalf("stream %d: %+v", port, f)
		}
		if _, f := tap.see(segment(0, ackFlag, 4+uint32(port), []byte("z"))); port < 100 && (f.Forgotten || len(f.Before) == 0) {
			t.Fatalf("the stream that goes on all the time was let go of, at %d: %+v", port, f)
		}
	}
	if n := tap.Counters(); n.Streams != 64 || n.Evicted != 200-64 || n.Forgotten != 0 {
		t.Errorf("counted %+v", n)
	}
	if _, f := tap.see(segment(1, ackFlag, 4, []byte("d"))); !f.Forgotten || len(f.Before) != 0 || f.New != 1 {
		t.Errorf("the first stream goes on: %+v", f)
	}
	if _, f := tap.see(segment(199, ackFlag, 4, []byte("d"))); f.Forgotten || string(f.Before) != "abc" {
		t.Errorf("the last one: %+v", f)
	}
	for from := range 40 { // nothing breaks where one stream with holes has all there is
		for _, streams := range []int{0, 1, 2, 3} {
			small := newTap(streams, 9)
			for k := range 30 {
				small.see(segment(uint16(from%3), ackFlag, uint32(from*2000+(k*7919%60)*2), []byte("a")))
			}
			if streams == 0 {
				if _, f := small.see(segment(uint16(from%3), ackFlag, 1, []byte("a"))); !f.Forgotten {
					t.Fatal("without memory nothing is forgotten")
				}
			}
		}
	}
}

// TestManyHoles: with more holes than are kept the oldest is let go of, which its filling says.
func TestManyHoles(t *testing.T) {
	tap := newTap(64, 100)
	for k := range uint32(maxRuns + 3) {
		tap.see(segment(1, ackFlag, 1000+10*k, []byte("abcde")))
	}
	if _, f := tap.see(segment(1, ackFlag, 1005, []byte("fghij"))); !f.Forgotten {
		t.Errorf("the first hole is filled: %+v", f)
	}
	if _, f := tap.see(segment(1, ackFlag, 1000+10*(maxRuns+1)+5, []byte("fghij"))); f.Forgotten || string(f.Before) != "abcde" || string(f.After) != "abcde" {
		t.Errorf("the last hole is filled: %+v", f)
	}
}

// load is segments of many streams, some of them out of order.
func load() (packets []packet.Packet, total int64) {
	r := rand.New(rand.NewPCG(5, 6))
	var next [100]uint32
	text := bytes.Repeat([]byte("0123456789abcdef"), 100)
	for range 2560 {
		s := r.IntN(len(next))
		n := 100 + r.IntN(1300)
		seq := next[s]
		if r.IntN(20) == 0 {
			seq -= uint32(n) / 2
		}
		next[s] = seq + uint32(n)
		b := segment(uint16(s), ackFlag, seq, text[:n])
		p := packet.Packet{Frame: packet.Frame{Data: b, Len: uint32(len(b)), Time: 1e9}}
		p.Decode(packet.LinkRaw)
		packets, total = append(packets, p), total+int64(n)
	}
	return packets, total
}

func TestAllocations(t *testing.T) {
	packets, _ := load()
	flows, s := flow.New(flow.Config{}), New(1<<20)
	ask := func() {
		for i := range packets {
			if i%batch == 0 {
				flows.Begin()
				s.Begin()
			}
			ref := flows.Find(&packets[i])
			s.Follow(flows.Innermost(&packets[i]), &ref, flow.StreamReach)
		}
	}
	ask()
	if n := testing.AllocsPerRun(3, ask); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFollow(b *testing.B) {
	packets, total := load()
	for name, reach := range map[string]int{"literal": 12, "unbounded": flow.StreamReach} {
		b.Run(name, func(b *testing.B) {
			flows, s := flow.New(flow.Config{}), New(16<<20)
			flows.Begin()
			refs := make([]flow.Ref, len(packets))
			for i := range packets {
				refs[i] = flows.Find(&packets[i])
			}
			b.SetBytes(total)
			b.ReportAllocs()
			for b.Loop() {
				for i := range packets {
					if i%batch == 0 {
						s.Begin()
					}
					s.Follow(&packets[i], &refs[i], reach)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(packets)), "ns/packet")
		})
	}
}

// FuzzFollow: whatever comes, nothing breaks.
func FuzzFollow(f *testing.F) {
	f.Add(segment(1, syn, 1, nil), segment(1, ackFlag, 2, []byte("abc")), segment(1, ackFlag, 9, []byte("def")), uint16(5))
	f.Add(segment(1, ackFlag, 1<<31, []byte("abc")), segment(1, ackFlag|rst, 2, []byte("abc")), segment(1, ackFlag, 1<<30, []byte("def")), uint16(2000))
	f.Fuzz(func(t *testing.T, a, b, c []byte, reach uint16) {
		tap := newTap(2, int(reach))
		for range 2 {
			for _, frame := range [][]byte{a, b, c} {
				payload, s := tap.see(frame)
				if s == nil {
					continue
				}
				if s.Skip < 0 || s.New < 0 || s.Skip+s.New > len(payload) || len(s.Before) > room || len(s.After) > room || s.Open && len(s.Before) == 0 || s.More && len(s.After) == 0 {
					t.Fatalf("%+v of %d bytes", s, len(payload))
				}
			}
		}
	})
}
