package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// A pair is two tables, of which one follows only what a filter needs.
type pair struct {
	f         *Filter
	all, some *flow.Table
	yes       bool // the last packet matched
}

func newPair(f *Filter) *pair {
	only := f.Followed()
	if only == nil {
		return nil
	}
	return &pair{
		f:    f,
		all:  flow.New(flow.Config{Flows: 1 << 14, Sparse: true}),
		some: flow.New(flow.Config{Flows: 1 << 14, Sparse: true, Only: only}),
	}
}

// differs says how the results for a packet differ, "" if they do not.
func (c *pair) differs(frame packet.Frame, link packet.LinkType) string {
	p, q := packet.Packet{Frame: frame}, packet.Packet{Frame: frame}
	p.Decode(link)
	q.Decode(link)
	all, some := c.all.Find(&p), c.some.Find(&q)
	if p.Headers != q.Headers {
		return fmt.Sprintf("with all flows the headers are %+v, with some %+v", p.Headers, q.Headers)
	}
	a, b := c.f.Match(&p, &all, l7.Verdict{}), c.f.Match(&q, &some, l7.Verdict{})
	c.yes = a == Yes
	if a != b {
		return fmt.Sprintf("%s: %d with all flows, %d with some", c.f, a, b)
	}
	return ""
}

// meeting draws packets of few hosts that meet each other directly, in fragments, in tunnels and in both, so that the same addresses and ports come in every place.
func meeting(rng *rand.Rand, n int) (frames []packet.Frame) {
	ports := []uint16{0, 53, 80, 1000, 40000}
	port := func() uint16 { return ports[rng.IntN(len(ports))] }
	for now := int64(1); len(frames) < n; now += rng.Int64N(1e9) << rng.IntN(9) {
		hosts, et := []string{"10.0.0.1", "10.0.0.2", "192.0.2.7"}, uint16(0x0800)
		if rng.IntN(4) == 0 {
			hosts, et = []string{"2001:db8::1", "2001:db8::2"}, 0x86dd
		}
		host := func() netip.Addr { return netip.MustParseAddr(hosts[rng.IntN(len(hosts))]) }
		tcp := packettest.TCP(port(), port(), []uint8{2, 18, 16, 16, 17, 4}[rng.IntN(6)], uint32(rng.IntN(3)), make([]byte, 9))
		proto := []uint8{6, 6, 17, 17, 1, 132, 51}[rng.IntN(7)]
		ip := packettest.IP(proto, host(), host(), map[uint8][]byte{
			6: tcp, 17: packettest.UDP(port(), port(), make([]byte, 24)), 1: {8, 0, 0, 0, 0, 1, 0, 1}, 132: packettest.UDP(port(), port(), make([]byte, 20)),
			51: append([]byte{6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, tcp...), // an authentication header
		}[proto])
		for _, ip := range split(rng, ip) {
			switch rng.IntN(8) {
			case 0:
				ip = packettest.IP(map[uint16]uint8{0x0800: 4, 0x86dd: 41}[et], host(), host(), ip)
			case 1:
				ip = packettest.IP(47, host(), host(), packettest.GRE(et, ip))
			case 2:
				ip = packettest.IP(17, host(), host(), packettest.UDP(port(), 4789, packettest.VXLAN(5, packettest.Ethernet(et, ip))))
			}
			for _, ip := range split(rng, ip) {
				frames = append(frames, packet.Frame{Data: packettest.Ethernet(et, ip), Time: now})
			}
		}
	}
	for i := range frames {
		frames[i].Len = uint32(len(frames[i].Data))
	}
	return frames
}

// split makes two fragments of some packets, whose first one mostly comes first; others are returned as they are.
func split(rng *rand.Rand, ip []byte) [][]byte {
	const first = 24
	if ip[0]>>4 != 4 || len(ip) <= 20+first || rng.IntN(5) > 0 {
		return [][]byte{ip}
	}
	id := byte(rng.Uint32())
	part := func(flagsAndOffset uint16, payload []byte) []byte {
		f := slices.Concat(ip[:20], payload)
		f[2], f[3] = byte(len(f)>>8), byte(len(f))
		f[4], f[5], f[6], f[7] = 0, id, byte(flagsAndOffset>>8), byte(flagsAndOffset)
		return f
	}
	parts := [][]byte{part(0x2000, ip[20:20+first]), part(first/8, ip[20+first:])}
	if rng.IntN(8) == 0 {
		slices.Reverse(parts)
	}
	return parts
}

// narrow draws expressions that need flows and may ask for some of them only.
func narrow() *rapid.Generator[string] {
	invariant := []string{
		"ip == 10.0.0.1", "srcip == 10.0.0.1", "dstip == 10.0.0.0/24", "ip == 10.0.0.2:80", "ip == 2001:db8::1", "port == 80", "srcport == 53,1000", "dstport == 0", "portrange == 0-60", "l4Protocol == TCP",
		"l4Protocol == UDP,SCTP,AH", "port < 100",
	}
	return rapid.Custom(func(t *rapid.T) string {
		one := func() string { return rapid.SampledFrom(invariant).Draw(t, "invariant") }
		server := rapid.SampledFrom([]string{"serverport == 80", "serverport != 80", "serverport == 0", "serverport < 100", "!(serverport == 1000)", "serverport != 1"}).Draw(t, "server")
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			return one() + " and " + server
		case 1:
			return "(" + one() + " or " + one() + ") and " + server
		case 2:
			return one() + " and " + server + " or " + one() + " and len > 60"
		}
		return one() + " and (" + server + " or " + expressions().Filter(func(e string) bool { return !strings.Contains(e, "callId") }).Draw(t, "any") + ")"
	})
}

// TestFollowed finds, for random expressions, in traffic where everything meets everything, the same results with all flows as with those that the expression needs.
func TestFollowed(t *testing.T) {
	envs := []*Env{{}, {SCTP: true}, {Fragments: OwnHeaders}}
	followed, matches := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		env := rapid.SampledFrom(envs).Draw(t, "env")
		expression := narrow().Draw(t, "expression")
		f, err := Compile(expression, env)
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		c := newPair(f)
		if c == nil {
			return
		}
		followed++
		for i, frame := range meeting(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)), 400) {
			if i%50 == 0 {
				c.all.Begin()
				c.some.Begin()
			}
			if d := c.differs(frame, packet.LinkEthernet); d != "" {
				t.Fatalf("packet %d, %x: %s", i, frame.Data, d)
			}
			if c.yes {
				matches++
			}
		}
		if a, b := c.all.Counters(), c.some.Counters(); b.Created > a.Created {
			t.Fatalf("%d flows where all are followed, %d where some are", a.Created, b.Created)
		}
	})
	t.Logf("%d expressions, %d matches", followed, matches)
	if followed < 40 || matches < 1000 {
		t.Errorf("%d expressions and %d matches show little", followed, matches)
	}
}

// TestFollowedInSavefiles does so with recorded traffic, asking for the hosts and ports that are in it.
func TestFollowedInSavefiles(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.pcap*"))
	if err != nil || len(names) == 0 {
		t.Fatal(err, "no savefiles")
	}
	matches := 0
	for _, name := range names {
		var frames []packet.Frame
		var links []packet.LinkType
		asked := map[string]bool{"l4Protocol == TCP and serverport > 1000": true}
		replay(t, name, func(_ int, p *packet.Packet, _ *flow.Ref) {
			frame := p.Frame
			frame.Data = slices.Clone(frame.Data)
			frames, links = append(frames, frame), append(links, p.Link)
			if src, _, ok, _ := addresses(p); ok && !src.v6 && len(asked) < 12 {
				a := netip.AddrFrom4([4]byte{byte(src.lo >> 24), byte(src.lo >> 16), byte(src.lo >> 8), byte(src.lo)})
				asked[fmt.Sprintf("ip == %v and serverport < 1000", a)] = true
				asked[fmt.Sprintf("(dstip == %v or port == %d) and serverport != 53", a, p.DstPort)] = true
			}
		})
		for expression := range asked {
			f, err := Compile(expression, nil)
			if err != nil {
				t.Fatalf("%s: %v", expression, err)
			}
			c := newPair(f)
			for i := range frames {
				if d := c.differs(frames[i], links[i]); d != "" {
					t.Errorf("%s, packet %d: %s", filepath.Base(name), i+1, d)
					break
				}
				if c.yes {
					matches++
				}
			}
		}
	}
	t.Logf("%d matches", matches)
	if matches < 1000 {
		t.Errorf("%d matches show little", matches)
	}
}

// TestFollowedIsAll: where some flows are not enough.
func TestFollowedIsAll(t *testing.T) {
	for _, c := range []struct {
		expression string
		env        *Env
		some       bool
	}{
		{"ip == 10.0.0.1 and serverport == 80", nil, true},
		{"serverport == 80", nil, false},
		{"len > 5 and serverport == 80", nil, false},
		{"ip != 10.0.0.1 and serverport == 80", nil, false},
		{"ip == 10.0.0.1 or serverport == 80", nil, false},
		{"ip == 10.0.0.1 and l7Protocol == HTTP", nil, false},
		{`ip == 10.0.0.1 and streamRegexp == "a"`, nil, false},
		{"ip == 10.0.0.1 and serverport == 80", &Env{Tunnels: InnerHeaders}, false},
		{"ip == 10.0.0.1 and serverport == 80", &Env{Tunnels: AnyHeaders}, false},
	} {
		f, err := Compile(c.expression, c.env)
		if err != nil {
			t.Error(err)
		} else if got := f.Followed() != nil; got != c.some {
			t.Errorf("%s: some flows are enough: %v, want %v", c.expression, got, c.some)
		}
	}
}
