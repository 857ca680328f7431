package l7

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
)

func (l *lab) play(c conversation) (v Verdict) {
	for _, p := range c.packets {
		v = l.send(c.proto, c.a, c.b, p)
	}
	return v
}

func TestRecognises(t *testing.T) {
	for _, c := range conversations() {
		l := newLab(Config{})
		v := l.play(c)
		if v.Proto != c.want || v.App != c.app || v.State != Final && v.State != Partial {
			t.Errorf("%s: %s/%s, %v; want %s/%s", c.what, protocol.Name(v.Proto), protocol.Name(v.App), v.State, protocol.Name(c.want), protocol.Name(c.app))
			continue
		}
		if got := string(l.engine.HostName(l.last)); got != c.host {
			t.Errorf("%s: host %q, want %q", c.what, got, c.host)
		}
		if got := DPIPackets(l.last); got != c.dpi {
			t.Errorf("%s: decided by packet %d, want %d", c.what, got, c.dpi)
		}
		if w := VerdictOf(l.last); w != v {
			t.Errorf("%s: VerdictOf %v, Inspect %v", c.what, w, v)
		}
		if w := l.engine.Finish(l.last); w.Proto != v.Proto || w.App != v.App || w.State != Final {
			t.Errorf("%s: at the end %v", c.what, w)
		}
		l.engine.End(l.last)
		if w := VerdictOf(l.last); w.Proto != v.Proto || w.State != Final || len(l.engine.HostName(l.last)) != 0 {
			t.Errorf("%s: after the end %v", c.what, w)
		}
		l.checkStore(t)
	}
}

// TestSplitStreams splits the bytes of each TCP conversation at every place into two segments, in order, the other way round, and repeated.
func TestSplitStreams(t *testing.T) {
	for _, c := range conversations() {
		if c.proto != 6 || len(c.packets) < 3 || !c.packets[1].back || c.packets[2].back || len(c.packets[2].payload) < 10 || c.dpi != 3 {
			continue
		}
		last := c.packets[2].payload
		for at := 1; at < len(last); at++ {
			for _, repeated := range []bool{false, true} {
				l := newLab(Config{})
				l.send(6, c.a, c.b, syn)
				first := l.seqs[0]
				l.send(6, c.a, c.b, up(last[:at]))
				if repeated {
					l.send(6, c.a, c.b, packetSpec{payload: last[:at], seq: first + 1<<31}) // far outside
				}
				v := l.send(6, c.a, c.b, up(last[at:]))
				if v.Proto != c.want || string(l.engine.HostName(l.last)) != c.host {
					t.Fatalf("%s split at %d (repeated %v): %s %q", c.what, at, repeated, protocol.Name(v.Proto), l.engine.HostName(l.last))
				}
			}
		}
	}
}

// TestReordered sends the three parts of a ClientHello in the wrong order behind its first one.
func TestReordered(t *testing.T) {
	hello := tlsRecordOf(22, clientHello("www.example.com", 1500))
	l := newLab(Config{})
	l.send(6, 1, 2, syn)
	parts := [][2]int{{0, 400}, {1200, len(hello)}, {400, 900}, {400, 900}, {800, 1200}}
	for _, p := range parts {
		l.send(6, 1, 2, packetSpec{payload: hello[p[0]:p[1]], seq: 1 + 1<<20 + uint32(p[0])})
	}
	if got := string(l.engine.HostName(l.last)); got != "www.example.com" {
		t.Errorf("host %q", got)
	}
}

// TestCutOff captures each packet up to every length: what is recognised then is nothing or the same.
func TestCutOff(t *testing.T) {
	for _, c := range conversations() {
		for snap := 14; snap < 200; snap++ {
			l := newLab(Config{Bytes: 1 << 16})
			l.snap = snap
			if v := l.play(c); v.Proto != 0 && v.Proto != c.want && v.Proto != c.app && !(Verdict{Proto: c.want}).Is(v.Proto) {
				t.Errorf("%s captured up to %d: %s", c.what, snap, protocol.Name(v.Proto))
			}
		}
	}
}

// TestPortDoesNotDecide sends noise and text to every port of the table.
func TestPortDoesNotDecide(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for key := range 2 << 16 { // ports of UDP, then of TCP
		proto, port := byte(17), uint16(key)
		if key>>16 == 1 {
			proto = 6
		}
		if protocol.AtPort(port, proto == 6) == 0 {
			continue
		}
		for n := range 50 {
			l := newLab(Config{Bytes: 1 << 16})
			var v Verdict
			for range 4 {
				b := make([]byte, 20+r.IntN(200))
				for i := range b {
					b[i] = byte(r.Uint32())
					if n%2 == 0 {
						b[i] = 'a' + b[i]%26
					}
				}
				v = l.send(proto, 40000, port, up(string(b)))
			}
			if v.Proto != 0 {
				t.Errorf("noise on port %d of protocol %d is %s", port, proto, protocol.Name(v.Proto))
			}
		}
	}
}

func TestGuessByPort(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		l := newLab(Config{Guess: wanted})
		for range 12 {
			l.send(6, 40000, 22, up("????"))
		}
		want := Verdict{State: Unknown}
		if wanted {
			want = Verdict{Proto: protocol.SSH, State: Guessed}
		}
		if v := VerdictOf(l.last); v != want {
			t.Errorf("guessing %v: %v", wanted, v)
		}
		if n := DPIPackets(l.last); n != 0 {
			t.Errorf("a verdict without payload took %d packets", n)
		}
	}
}

func TestGivesUp(t *testing.T) {
	for _, c := range []struct {
		what string
		send func(l *lab, i int) Verdict
		at   int // the verdict is unknown with this packet, from 0
	}{
		{"12 packets with payload in one direction", func(l *lab, _ int) Verdict { return l.send(17, 1, 2, up("????")) }, 11},
		{"8192 bytes", func(l *lab, _ int) Verdict { return l.send(17, 1, 2, up(strings.Repeat("?", 1024))) }, 7},
		{"32 packets", func(l *lab, _ int) Verdict { return l.send(6, 1, 2, up("")) }, 31},
		{"5 seconds", func(l *lab, i int) Verdict {
			l.now += 1e9
			return l.send(17, 1, 2, up("????"))
		}, 5},
	} {
		l := newLab(Config{})
		for i := range 40 {
			v := c.send(l, i)
			if want := map[bool]State{false: Pending, true: Unknown}[i >= c.at]; v.State != want {
				t.Errorf("%s: packet %d is %v, want %v", c.what, i, v.State, want)
				break
			}
		}
	}
}

func TestNoFlow(t *testing.T) {
	l := newLab(Config{})
	mac := "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"
	for _, c := range []struct {
		frame string
		want  protocol.ID
	}{
		{mac + "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" + strings.Repeat("\x01", 20), protocol.ARP},
		{mac + "\x88\xcc\x02\x07\x04", protocol.LLDP},
		{mac + "\x81\x00\x00\x05\x88\xcc\x02\x07\x04", protocol.LLDP},
		{mac + "\x88\x92\x80\x01" + strings.Repeat("\x00", 40), protocol.PROFINETRT},
		{mac + "\x88\xf7" + unhex("0b 02 0040") + strings.Repeat("\x00", 60), protocol.PTPv2},
		{mac + "\x88\x09\x01\x01" + strings.Repeat("\x00", 40), protocol.LACP},
		{mac + "\x00\x26\x42\x42\x03" + strings.Repeat("\x00", 40), protocol.STP},
		{mac + "\x12\x34" + strings.Repeat("\x00", 40), 0},
	} {
		v := l.take([]byte(c.frame))
		if v.Proto != c.want || c.want != 0 && v.State != Final || c.want == 0 && v.State != NoFlow {
			t.Errorf("%x: %s, %v; want %s", c.frame[12:], protocol.Name(v.Proto), v.State, protocol.Name(c.want))
		}
	}
	l.take([]byte(mac + "\x08\x00\x45")) // no record: neither panic nor verdict
}

// TestNoRoom lets flows compete for two slots: carriers are recognised all the same.
func TestNoRoom(t *testing.T) {
	hello := tlsRecordOf(22, clientHello("www.example.com", 900))
	for _, bytes := range []int{1, 2*slotSize*4/3 + 64} {
		l := newLab(Config{Bytes: bytes})
		for i := range uint16(50) {
			l.send(6, 1000+i, 443, up(hello[:500]))
		}
		for i := range uint16(50) {
			if v := l.send(6, 1000+i, 443, up(hello[500:])); v.Proto != protocol.TLS {
				t.Errorf("%d bytes, flow %d: %v", bytes, i, v)
			}
		}
	}
}

func TestAllocs(t *testing.T) {
	for _, c := range conversations() {
		if c.want == protocol.QUIC {
			continue // opening an Initial packet makes the ciphers of the standard library
		}
		l := newLab(Config{})
		l.play(c)
		ref := flow.Ref{Flow: l.last}
		if n := testing.AllocsPerRun(100, func() {
			l.forget()
			l.engine.Inspect(&l.pkt, &l.pkt, &ref) // an open flow
			l.engine.Inspect(&l.pkt, &l.pkt, &ref)
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.what, n)
		}
	}
}

// BenchmarkSettled is a packet of a flow that has its verdict.
func BenchmarkSettled(b *testing.B) {
	l := newLab(Config{})
	l.play(conversations()[0])
	ref := flow.Ref{Flow: l.last}
	for b.Loop() {
		l.engine.Inspect(&l.pkt, &l.pkt, &ref)
	}
}

// BenchmarkFirst is the first packet of a flow, for each conversation whose first payload decides.
func BenchmarkFirst(b *testing.B) {
	for _, c := range append(conversations(), conversation{what: "noise UDP", proto: 17, a: 1, b: 2, packets: []packetSpec{up("\x9a" + strings.Repeat("?", 99))}},
		conversation{what: "noise TCP", proto: 6, a: 1, b: 2, packets: []packetSpec{up("\x9a" + strings.Repeat("?", 99))}}) {
		b.Run(c.what, func(b *testing.B) {
			l := newLab(Config{})
			l.play(c)
			ref := flow.Ref{Flow: l.last}
			b.ReportAllocs()
			l.measure(b, &ref)
		})
	}
}

// BenchmarkCrafted is Initial packets whose headers seem to fit wrong keys, which are found out only by using them: two in one datagram, in a flow that began with
// another connection id, and one of a version that may have two salts. The goal is 5 us.
func BenchmarkCrafted(b *testing.B) {
	hello := clientHello("quic.example.com", 400)
	b.Run("another connection", func(b *testing.B) {
		l := newLab(Config{})
		l.send(17, 1, 443, up(quicInitial(1, "connection", 0, cryptoFrame(0, hello[:100]))))
		crafted := ""
		for i := 0; !seemsToFit(crafted, 1+4+1+10+1+1+2, saltOf1, "connection"); i++ {
			id := fmt.Sprintf("other %04d", i)
			crafted = quicInitial(1, id, 1, cryptoFrame(100, hello[100:200])) + quicInitial(1, id, 2, cryptoFrame(200, hello[200:300]))
		}
		sl := l.engine.slotOf(&payload{flow: l.last})
		state, before := l.last.L7, *sl
		l.send(17, 1, 443, up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.again(b, &ref, func() { l.last.L7, *sl = state, before })
	})
	b.Run("two salts", func(b *testing.B) {
		l := newLab(Config{})
		crafted := ""
		for i := 0; !seemsToFit(crafted, 1+4+1+8+1+1+2, saltOfDraft23, "connecti"); i++ {
			crafted = "\xc0\xfa\xce\xb0\x0f\x08connecti\x00\x00\x44\x00" + fmt.Sprintf("%08d", i) + strings.Repeat("x", 1100)
		}
		l.send(17, 1, 443, up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.measure(b, &ref)
	})
}

// TestInterleaved plays all conversations at once, in random order of packets of different flows: each flow's verdict is its own affair.
func TestInterleaved(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		all := conversations()
		seqs := make([][2]uint32, len(all))
		last := make([]Verdict, len(all))
		next := make([]int, len(all))
		l := newLab(Config{})
		for left := len(all); left > 0; {
			i := r.IntN(len(all))
			c := &all[i]
			if next[i] == len(c.packets) {
				continue
			}
			l.seqs = seqs[i]
			last[i] = l.send(c.proto, c.a+uint16(256*i), c.b, c.packets[next[i]])
			seqs[i] = l.seqs
			if next[i]++; next[i] == len(c.packets) {
				left--
			}
		}
		for i, c := range all {
			ports := c.a == 5353 || c.a == 5060 || c.a == 123 || c.a == 319 || c.a == 68 // where the client's port tells
			if v := last[i]; !ports && (v.Proto != c.want || v.App != c.app) {
				t.Errorf("%s among others: %s/%s", c.what, protocol.Name(v.Proto), protocol.Name(v.App))
			}
		}
	}
}

// BenchmarkWorst is what is made to cost time. The goal is 5 us of processor time.
func BenchmarkWorst(b *testing.B) {
	name := strings.Repeat("\x01a", 120) + "\x00"
	bomb := "\x12\x34\x81\x80\x00\x01\x00\x5a\x00\x00\x00\x00" + name + "\x00\x01\x00\x01" + strings.Repeat("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x00", 89) + "\xc0"
	for _, c := range []conversation{
		{what: "DNS of many names", proto: 17, a: 1, b: 53, packets: []packetSpec{up(bomb)}},
		{what: "HTTP of short lines", proto: 6, a: 1, b: 80, packets: []packetSpec{up("GET / HTTP/1.1\r\n" + strings.Repeat("a\r\n", 450))}},
		{what: "TLS of short records", proto: 6, a: 1, b: 443, packets: []packetSpec{up(tlsRecordOf(22, clientHello("a", 1)[:20]) + strings.Repeat("\x16\x03\x01\x00\x01a", 220))}},
		{what: "STUN of empty attributes", proto: 17, a: 1, b: 3478, packets: []packetSpec{up("\x00\x01" + u16(1380) + strings.Repeat("x", 16) + strings.Repeat("\x00\x01\x00\x00", 344) + "\x00\x00\x00\x00")}},
		{what: "two Initial packets", proto: 17, a: 1, b: 443, packets: []packetSpec{up(twoInitials())}},
		{what: "mvfst of wrong keys", proto: 17, a: 1, b: 443, packets: []packetSpec{up("\xc0\xfa\xce\xb0\x0f\x08connecti\x00\x00\x44\x00" + strings.Repeat("x", 1200))}},
		{what: "words that nearly begin everywhere", proto: 6, a: 1, b: 80, packets: []packetSpec{up("{" + strings.Repeat("\"", 200))}},
	} {
		b.Run(c.what, func(b *testing.B) {
			l := newLab(Config{})
			l.play(c)
			ref := flow.Ref{Flow: l.last}
			l.measure(b, &ref)
		})
	}
}

// TestNotQuite sends what misses one of the things that the dissectors of several packets want.
func TestNotQuite(t *testing.T) {
	for _, c := range []conversation{
		{what: "call of another version of RPC", packets: []packetSpec{up(unhex("11223344 00000000 00000003 000186a5 00000003 00000001") + strings.Repeat("\x00", 16))}},
		{what: "CoAP with an option that ends outside", packets: []packetSpec{up("\x43\x01\x05\xca\x72\x16\x33\xbf.well"), down("\x63\x45\x05\xca\x72\x16\x33\xbf.well")}},
		{what: "uTP of two connections", packets: []packetSpec{up("\x01\x00\x00\x01" + strings.Repeat("a", 17)), up("\x01\x00\x00\x05" + strings.Repeat("a", 17)), up("\x01\x00\x00\x09" + strings.Repeat("a", 17)), up("\x01\x00\x00\x0d" + strings.Repeat("a", 17))}},
		{what: "RakNet whose numbers jump", packets: []packetSpec{up("\x84\x01\x00\x00\x00\x00\x20abcd"), up("\x84\x01\x01\x00\x00\x00\x20abcd"), up("\x84\x01\x02\x00\x00\x00\x20abcd")}},
		{what: "OpenVPN answered at another time", packets: []packetSpec{up("\x5012345678\x00\x00\x00\x01\x62\x5a\x9e\x97" + strings.Repeat("e", 64)), down("\x40abcdefgh\x00\x00\x00\x01\x71\x5a\x9e\x97" + strings.Repeat("e", 64))}},
	} {
		l := newLab(Config{})
		c.proto, c.a, c.b = 17, 40000, 40001
		if v := l.play(c); v.Proto != 0 {
			t.Errorf("%s: %s", c.what, protocol.Name(v.Proto))
		}
	}
}
