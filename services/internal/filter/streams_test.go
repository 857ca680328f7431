package filter

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	goregexp "regexp"
	"slices"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/stream"
)

// A reassembler is an independent idea of what streamRegexp means: it knows every byte of every stream, by its place.
type reassembler struct {
	sides   map[[2]uint64]*knownSide
	borders int // packets that complete a match which does not lie in them alone
}

type knownSide struct {
	first uint32 // sequence number of place 1<<32
	bytes map[int64]byte
	high  int64 // the highest place
}

// A novelty is what a packet brings: all bytes around the new ones that are known without a hole, and where the new ones are.
type novelty struct {
	text     []byte
	from, to int
}

// take says what a packet brings; of what is no segment of a stream, all of its payload.
func (r *reassembler) take(p, inner *packet.Packet, m *pipeline.Meta) novelty {
	data := payload(p)
	alone := novelty{data, 0, len(data)}
	if inner.Layers&(packet.TCP|packet.LaterFragment) != packet.TCP || inner.TCPBits&4 != 0 || m.Flow == nil || len(data) == 0 {
		return alone
	}
	seq := binary.BigEndian.Uint32(inner.Data[inner.L4+4:])
	if inner.TCPBits&2 != 0 {
		seq++
	}
	key := [2]uint64{m.Flow.ID, uint64(m.From)}
	s := r.sides[key]
	if s == nil {
		s = &knownSide{first: seq, bytes: make(map[int64]byte), high: 1 << 32}
		r.sides[key] = s
	}
	at := int64(1)<<32 + int64(int32(seq-s.first))
	n := novelty{}
	var places []int64
	for i, b := range inner.L7() {
		place := at + int64(i)
		if _, known := s.bytes[place]; !known {
			s.bytes[place] = b
			places = append(places, place)
		}
	}
	s.high = max(s.high, at+int64(len(data)))
	if len(places) == 0 {
		return novelty{}
	}
	begin, end := places[0], places[len(places)-1]+1
	for s.has(begin - 1) {
		begin--
	}
	for s.has(end) {
		end++
	}
	for place := begin; place < end; place++ {
		n.text = append(n.text, s.bytes[place])
	}
	n.from, n.to = int(places[0]-begin), int(places[len(places)-1]+1-begin)
	return n
}

func (s *knownSide) has(place int64) bool {
	_, known := s.bytes[place]
	return known
}

// completes looks for a match that the new bytes complete: from each place on, the longest one. The pattern must mean the same to Go, and begin with \A.
func (r *reassembler) completes(n novelty, pattern *goregexp.Regexp) bool {
	if pattern.Match(nil) || n.from == n.to {
		return pattern.Match(nil)
	}
	limit := min(len(n.text), n.to+flow.StreamReach)
	for at := max(0, n.from-flow.StreamReach); at < n.to; at++ {
		if m := pattern.FindIndex(n.text[at:limit]); m != nil && at+m[1] > n.from {
			if at < n.from || at+m[1] > n.to {
				r.borders++
			}
			return true
		}
	}
	return false
}

// An arbiter is a stage that compares filters with the reassembler.
type arbiter struct {
	t        *testing.T
	patterns []string
	filters  []*Filter
	sure     []*goregexp.Regexp
	compound []*Filter // of patterns 0 and 1: and, or, and not
	reassembler
	packets, yes, forgotten int
}

func newArbiter(t *testing.T, env *Env, patterns ...string) *arbiter {
	a := &arbiter{t: t, patterns: patterns, reassembler: reassembler{sides: make(map[[2]uint64]*knownSide)}}
	compile := func(text string) *Filter {
		f, err := Compile(text, env)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, p := range patterns {
		a.filters = append(a.filters, compile("streamRegexp == "+Quote(p)))
		re := goregexp.MustCompile(`\A(?:` + p + `)`)
		re.Longest()
		a.sure = append(a.sure, re)
	}
	x, y := "streamRegexp == "+Quote(patterns[0]), "streamRegexp == "+Quote(patterns[1])
	for _, text := range []string{x + " and " + y, x + " or " + y, "!(" + x + ") and " + y, "streamRegexp == " + Quote(patterns[0]) + "," + Quote(patterns[1]), "streamRegexp != " + Quote(patterns[0])} {
		a.compound = append(a.compound, compile(text))
	}
	return a
}

func (a *arbiter) StreamReach() (reach int) {
	for _, f := range a.filters {
		reach = max(reach, f.StreamReach())
	}
	return reach
}

func (a *arbiter) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		p, m := &b.Packets[i], &b.Meta[i]
		inner := *p
		for next := inner; next.Inner(&next); {
			if next.Layers&packet.IP != 0 {
				inner = next
			}
		}
		if p.Layers&packet.TCP == 0 && a.filters[0].env.Tunnels == OuterHeaders {
			inner = *p
		}
		n := a.take(&inner, &inner, m)
		a.packets++
		if m.Stream != nil && m.Stream.Forgotten { // there were too many holes
			a.forgotten++
			continue
		}
		var want []bool
		for k, f := range a.filters {
			want = append(want, a.completes(n, a.sure[k]))
			if want[k] {
				a.yes++
			}
			if got := f.Match(p, &m.Ref, m.L7) == Yes; got != want[k] {
				a.t.Errorf("packet %d: streamRegexp == %s is %v, want %v: bytes %d to %d of %.80q; %+v", a.packets, a.patterns[k], got, want[k], n.from, n.to, n.text, m.Stream)
			}
		}
		x, y := want[0], want[1]
		for k, want := range []bool{x && y, x || y, !x && y, x || y, !x} {
			if got := a.compound[k].Match(p, &m.Ref, m.L7) == Yes; got != want {
				a.t.Errorf("packet %d: %s is %v, want %v", a.packets, a.compound[k], got, want)
			}
		}
	}
}

// A sequence is a source of frames.
type sequence struct {
	frames [][]byte
	link   packet.LinkType
	now    int64
}

func (s *sequence) Next(_ context.Context, b *pipeline.Batch) error {
	if len(s.frames) == 0 {
		return io.EOF
	}
	n := min(len(s.frames), pipeline.BatchSize)
	b.Packets = b.Packets[:n]
	for i, data := range s.frames[:n] {
		s.now += 1e6
		b.Packets[i].Frame = packet.Frame{Data: data, Len: uint32(len(data)), Time: s.now}
	}
	s.frames, b.Now = s.frames[n:], s.now
	return nil
}

func (s *sequence) Interfaces() []pipeline.Interface {
	return []pipeline.Interface{{Port: 1, Link: s.link}}
}

// conversation returns the frames of connections, whose streams are cut at random places, sent again, out of order, lost, one-sided, and in tunnels. Sequence numbers
// begin shortly before they wrap.
func conversation(r *rand.Rand, connections int) (frames [][]byte) {
	words := []string{"allegro", "ALLEGRO", "http", "abc", "abb", "cab", "17", "900", "xy\r\n", "\x16\x03\x01", "\xff\xfe", "needle in", " a hay", "stack"}
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	var lists [][][]byte
	for c := range connections {
		for side := range 2 {
			if c%5 == 4 && side == 1 { // only one direction was seen
				continue
			}
			src, dst, sport, dport := a, b, uint16(1000+c), uint16(80)
			if c%2 == 1 {
				src, dst = a6, b6
			}
			if side == 1 {
				src, dst, sport, dport = dst, src, dport, sport
			}
			var text []byte
			for len(text) < 3000 {
				text = append(text, words[r.IntN(len(words))]...)
			}
			seq := uint32(r.IntN(4000)) - 2000
			var list [][]byte
			add := func(flags uint8, seq uint32, data []byte) {
				ip := packettest.IP(6, src, dst, packettest.TCP(sport, dport, flags, seq, data))
				et := uint16(0x0800)
				if src.Is6() {
					et = 0x86dd
				}
				frame := packettest.Ethernet(et, ip)
				if c%7 == 3 {
					frame = packettest.Ethernet(0x8100, packettest.Tag(uint16(c), et, ip))
				}
				if c%7 == 5 {
					frame = packettest.Ethernet(0x0800, packettest.IP(17, a, b, packettest.UDP(9, 4789, packettest.VXLAN(1, frame))))
				}
				list = append(list, frame)
			}
			if c%3 > 0 {
				add(2, seq-1, nil)
			}
			for at, most := 0, 1+r.IntN(40+200*(c%3)); at < len(text); {
				n := min(1+r.IntN(most), len(text)-at)
				switch r.IntN(20) {
				case 0: // lost, and for good
				case 1: // again, with what comes after
					from := max(0, at-r.IntN(300))
					add(16, seq+uint32(from), text[from:at+n])
				case 2: // twice
					add(16, seq+uint32(at), text[at:at+n])
					fallthrough
				default:
					add(24, seq+uint32(at), text[at:at+n])
				}
				if at += n; r.IntN(10) == 0 {
					add(16, seq+uint32(at), nil)
				}
			}
			for i := range list { // out of order, by up to three segments: fewer holes than are kept
				if k := i + r.IntN(4); r.IntN(6) == 0 && k < len(list) {
					moved := list[i]
					list = slices.Insert(slices.Delete(list, i, i+1), k, moved)
				}
			}
			add(17, seq+uint32(len(text)), nil)
			add(20, seq+uint32(len(text)), []byte("allegro reset"))
			lists = append(lists, list)
		}
	}
	for len(lists) > 0 {
		i := r.IntN(len(lists))
		n := min(1+r.IntN(5), len(lists[i]))
		frames = append(frames, lists[i][:n]...)
		if lists[i] = lists[i][n:]; len(lists[i]) == 0 {
			lists = slices.Delete(lists, i, i+1)
		}
		if r.IntN(10) == 0 {
			frames = append(frames, packettest.Ethernet(0x0800, packettest.IP(17, a, b, packettest.UDP(5, 6, []byte("allegro 17 abbc xy")))))
		}
	}
	return frames
}

// streamPatterns mean the same to Go, as long as they are about ASCII.
var streamPatterns = []string{`allegro`, `(?i)allegro|http`, `ab+c.{0,9}9`, `[0-9]{4}`, `needle in.*stack`, `c?`, `xy\r\nallegro(?:abc){2}`}

// TestStreamsAgainstReassembly: traffic in, records out.
func TestStreamsAgainstReassembly(t *testing.T) {
	for _, view := range []TunnelView{OuterHeaders, InnerHeaders} {
		frames := conversation(rand.New(rand.NewPCG(31, uint64(view))), 28)
		a := newArbiter(t, &Env{Tunnels: view}, streamPatterns...)
		w := pipeline.Worker{Source: &sequence{frames: frames, link: packet.LinkEthernet}, Flows: flow.New(flow.Config{}), Streams: stream.New(4 << 20), Stages: []pipeline.Stage{a}}
		if err := w.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d packets, %d results are yes, %d of them over a border", a.packets, a.yes, a.borders)
		if a.packets != len(frames) || a.borders < 500 || a.forgotten > len(frames)/100 {
			t.Errorf("%d of %d packets, %d matches over a border, %d packets whose stream was not kept", a.packets, len(frames), a.borders, a.forgotten)
		}
	}
}

// TestStreamsOfTheCorpus does the same with recorded traffic.
func TestStreamsOfTheCorpus(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(need.Corpus(t), "protocols", "*.pcap*"))
	if err != nil || len(names) == 0 {
		t.Fatal(err, "no savefiles")
	}
	packets, borders := 0, 0
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 150_000 || !sampled(filepath.Base(name)) {
			continue
		}
		a := newArbiter(t, nil, `[a-z]{4,}`, `(?i)content-[a-z]+: [a-z0-9]+`, `[0-9]+[ -~]{1,3}[0-9]+`)
		worker(t, name, a)
		packets, borders = packets+a.packets, borders+a.borders
	}
	t.Logf("%d packets, %d matches over a border", packets, borders)
	if borders == 0 {
		t.Error("no match lies over a border, so it shows nothing")
	}
}

// TestStreamReach: what an expression needs of streams.
func TestStreamReach(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, `regexp == "abc"`: 0, `streamRegexp == "abc"`: 3, `ip == 10.0.0.1 and !(streamRegexp == "abc" or streamRegexp == "a*")`: flow.StreamReach, `streamRegexp == "a{900}b{900}"`: flow.StreamReach,
		`streamRegexp == ""`: 1, `streamRegexp != "a","bc","d"`: 2,
	} {
		f, err := Compile(text, nil)
		if err != nil {
			t.Error(err)
		} else if got := f.StreamReach(); got != want {
			t.Errorf("%s reaches %d bytes, want %d", text, got, want)
		}
	}
}

// TestFlows: what a record is asked for when the packets before matter.
func TestFlows(t *testing.T) {
	for text, want := range map[string]string{
		`streamRegexp == "a"`:                                                   "",
		`ip == 10.0.0.1 and streamRegexp == "a"`:                                "ip == 10.0.0.1",
		`srcip == 10.0/16 and dstport == 80 and len > 5 and streamRegexp == a`:  "ip == 10.0.0.0/16 and port == 80",
		`streamRegexp == a and (port == 80 or srcip == 10.0.0.1 and vlan == 5)`: "port == 80 or ip == 10.0.0.1",
		`streamRegexp == a or ip == 10.0.0.1`:                                   "",
		`ip != 10.0.0.1 and l4Protocol == TCP and streamRegexp == a`:            "l4Protocol == TCP",
		`!(len < 7) and portrange == 1-9 and streamRegexp == a`:                 "portrange == 1-9",
		`ip == 10.0.0.1 and l7Protocol == HTTP and streamRegexp == a`:           "",
		`port < 100 and streamRegexp == a`:                                      "port < 100",
	} {
		f, err := Compile(text, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		got := ""
		if g := f.Flows(); g != nil {
			got = g.String()
		}
		if got != want {
			t.Errorf("%s asks for the flows of %q, want %q", text, got, want)
		}
	}
	f, _ := Compile(`ip == 10.0.0.1 and streamRegexp == "a"`, &Env{Tunnels: AnyHeaders})
	if g := f.Flows(); g != nil {
		t.Errorf("with any headers: %s", g)
	}
}

// BenchmarkStreams is what a packet costs in a worker without and with a filter that looks into streams.
func BenchmarkStreams(b *testing.B) {
	frames := packettest.Mix(3, 8192, 500)
	for _, text := range []string{"ip == 10.9.9.9", `regexp == "(?i)allegro|hxtp"`, `streamRegexp == "(?i)allegro|hxtp"`, `streamRegexp == "allegro.*hxtp"`, `streamRegexp == "[a-z]+allegro"`} {
		f, err := Compile(text, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			flows, streams := flow.New(flow.Config{}), stream.New(16<<20)
			n := 0
			for b.Loop() {
				w := pipeline.Worker{Source: &sequence{frames: frames, link: packet.LinkEthernet}, Flows: flows, Streams: streams, Stages: []pipeline.Stage{asker{f}}}
				if err := w.Run(context.Background()); err != nil {
					b.Fatal(err)
				}
				n += len(frames)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/packet")
		})
	}
}

// An asker is a stage that asks a filter.
type asker struct{ f *Filter }

func (a asker) StreamReach() int { return a.f.StreamReach() }

func (a asker) Process(b *pipeline.Batch) {
	for i := range b.Packets {
		a.f.Match(&b.Packets[i], &b.Meta[i].Ref, b.Meta[i].L7)
	}
}
