package l7

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
)

func (l *lab) play(c l7test.Conversation) (v Verdict) {
	for _, p := range c.Packets {
		v = l.send(c.Proto, c.A, c.B, p)
	}
	return v
}

func TestRecognises(t *testing.T) {
	for _, c := range l7test.Conversations() {
		l := newLab(Config{})
		v := l.play(c)
		if v.Proto != c.Want || v.App != c.App || v.State != Final && v.State != Partial {
			t.Errorf("%s: %s/%s, %v; want %s/%s", c.What, protocol.Name(v.Proto), protocol.Name(v.App), v.State, protocol.Name(c.Want), protocol.Name(c.App))
			continue
		}
		if got := string(l.engine.HostName(l.last)); got != c.Host {
			t.Errorf("%s: host %q, want %q", c.What, got, c.Host)
		}
		if got := DPIPackets(l.last); got != c.DPI {
			t.Errorf("%s: decided by packet %d, want %d", c.What, got, c.DPI)
		}
		if w := VerdictOf(l.last); w != v {
			t.Errorf("%s: VerdictOf %v, Inspect %v", c.What, w, v)
		}
		if w := l.engine.Finish(l.last); w.Proto != v.Proto || w.App != v.App || w.State != Final {
			t.Errorf("%s: at the end %v", c.What, w)
		}
		l.engine.End(l.last)
		if w := VerdictOf(l.last); w.Proto != v.Proto || w.State != Final || len(l.engine.HostName(l.last)) != 0 {
			t.Errorf("%s: after the end %v", c.What, w)
		}
		l.checkStore(t)
	}
}

// TestSplitStreams splits the bytes of each TCP conversation at every place into two segments, in order, the other way round, and repeated.
func TestSplitStreams(t *testing.T) {
	for _, c := range l7test.Conversations() {
		if c.Proto != 6 || len(c.Packets) < 3 || !c.Packets[1].Back || c.Packets[2].Back || len(c.Packets[2].Payload) < 10 || c.DPI != 3 {
			continue
		}
		last := c.Packets[2].Payload
		for at := 1; at < len(last); at++ {
			for _, repeated := range []bool{false, true} {
				l := newLab(Config{})
				l.send(6, c.A, c.B, l7test.SYN)
				first := l.seqs[0]
				l.send(6, c.A, c.B, l7test.Up(last[:at]))
				if repeated {
					l.send(6, c.A, c.B, l7test.Packet{Payload: last[:at], Seq: first + 1<<31}) // far outside
				}
				v := l.send(6, c.A, c.B, l7test.Up(last[at:]))
				if v.Proto != c.Want || string(l.engine.HostName(l.last)) != c.Host {
					t.Fatalf("%s split at %d (repeated %v): %s %q", c.What, at, repeated, protocol.Name(v.Proto), l.engine.HostName(l.last))
				}
			}
		}
	}
}

// TestReordered sends the three parts of a ClientHello in the wrong order behind its first one.
func TestReordered(t *testing.T) {
	hello := l7test.TLSRecord(22, l7test.ClientHello("www.example.com", 1500))
	l := newLab(Config{})
	l.send(6, 1, 2, l7test.SYN)
	parts := [][2]int{{0, 400}, {1200, len(hello)}, {400, 900}, {400, 900}, {800, 1200}}
	for _, p := range parts {
		l.send(6, 1, 2, l7test.Packet{Payload: hello[p[0]:p[1]], Seq: 1 + 1<<20 + uint32(p[0])})
	}
	if got := string(l.engine.HostName(l.last)); got != "www.example.com" {
		t.Errorf("host %q", got)
	}
}

// TestCutOff captures each packet up to every length: what is recognised then is nothing or the same.
func TestCutOff(t *testing.T) {
	for _, c := range l7test.Conversations() {
		for snap := 14; snap < 200; snap++ {
			l := newLab(Config{Bytes: 1 << 16})
			l.snap = snap
			if v := l.play(c); v.Proto != 0 && v.Proto != c.Want && v.Proto != c.App && !(Verdict{Proto: c.Want}).Is(v.Proto) {
				t.Errorf("%s captured up to %d: %s", c.What, snap, protocol.Name(v.Proto))
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
				v = l.send(proto, 40000, port, l7test.Up(string(b)))
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
			l.send(6, 40000, 22, l7test.Up("????"))
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
		{"12 packets with payload in one direction", func(l *lab, _ int) Verdict { return l.send(17, 1, 2, l7test.Up("????")) }, 11},
		{"8192 bytes", func(l *lab, _ int) Verdict { return l.send(17, 1, 2, l7test.Up(strings.Repeat("?", 1024))) }, 7},
		{"32 packets", func(l *lab, _ int) Verdict { return l.send(6, 1, 2, l7test.Up("")) }, 31},
		{"5 seconds", func(l *lab, i int) Verdict {
			l.now += 1e9
			return l.send(17, 1, 2, l7test.Up("????"))
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
		{mac + "\x88\xf7" + l7test.Unhex("0b 02 0040") + strings.Repeat("\x00", 60), protocol.PTPv2},
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
	hello := l7test.TLSRecord(22, l7test.ClientHello("www.example.com", 900))
	for _, bytes := range []int{1, 2*store.SlotSize*4/3 + 64} {
		l := newLab(Config{Bytes: bytes})
		for i := range uint16(50) {
			l.send(6, 1000+i, 443, l7test.Up(hello[:500]))
		}
		for i := range uint16(50) {
			if v := l.send(6, 1000+i, 443, l7test.Up(hello[500:])); v.Proto != protocol.TLS {
				t.Errorf("%d bytes, flow %d: %v", bytes, i, v)
			}
		}
	}
}

func TestAllocs(t *testing.T) {
	for _, c := range l7test.Conversations() {
		if c.Want == protocol.QUIC {
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
			t.Errorf("%s: %v allocations", c.What, n)
		}
	}
}

// BenchmarkSettled is a packet of a flow that has its verdict.
func BenchmarkSettled(b *testing.B) {
	l := newLab(Config{})
	l.play(l7test.Conversations()[0])
	ref := flow.Ref{Flow: l.last}
	for b.Loop() {
		l.engine.Inspect(&l.pkt, &l.pkt, &ref)
	}
}

// BenchmarkFirst is the first packet of a flow, for each conversation whose first payload decides.
func BenchmarkFirst(b *testing.B) {
	for _, c := range append(l7test.Conversations(), l7test.Conversation{What: "noise UDP", Proto: 17, A: 1, B: 2, Packets: []l7test.Packet{l7test.Up("\x9a" + strings.Repeat("?", 99))}},
		l7test.Conversation{What: "noise TCP", Proto: 6, A: 1, B: 2, Packets: []l7test.Packet{l7test.Up("\x9a" + strings.Repeat("?", 99))}}) {
		b.Run(c.What, func(b *testing.B) {
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
	hello := l7test.ClientHello("quic.example.com", 400)
	b.Run("another connection", func(b *testing.B) {
		l := newLab(Config{})
		l.send(17, 1, 443, l7test.Up(l7test.QUICInitial(1, "connection", 0, l7test.CryptoFrame(0, hello[:100]))))
		crafted := ""
		for i := 0; !l7test.SeemsToFit(crafted, 1+4+1+10+1+1+2, l7test.SaltOf1, "connection"); i++ {
			id := fmt.Sprintf("other %04d", i)
			crafted = l7test.QUICInitial(1, id, 1, l7test.CryptoFrame(100, hello[100:200])) + l7test.QUICInitial(1, id, 2, l7test.CryptoFrame(200, hello[200:300]))
		}
		sl := l.engine.slotOf(&dissect.Payload{Flow: l.last})
		state, before := l.last.L7, *sl
		l.send(17, 1, 443, l7test.Up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.again(b, &ref, func() { l.last.L7, *sl = state, before })
	})
	b.Run("two salts", func(b *testing.B) {
		l := newLab(Config{})
		crafted := ""
		for i := 0; !l7test.SeemsToFit(crafted, 1+4+1+8+1+1+2, l7test.SaltOfDraft23, "connecti"); i++ {
			crafted = "\xc0\xfa\xce\xb0\x0f\x08connecti\x00\x00\x44\x00" + fmt.Sprintf("%08d", i) + strings.Repeat("x", 1100)
		}
		l.send(17, 1, 443, l7test.Up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.measure(b, &ref)
	})
}

// TestInterleaved plays all conversations at once, in random order of packets of different flows: each flow's verdict is its own affair.
func TestInterleaved(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		all := l7test.Conversations()
		seqs := make([][2]uint32, len(all))
		last := make([]Verdict, len(all))
		next := make([]int, len(all))
		l := newLab(Config{})
		for left := len(all); left > 0; {
			i := r.IntN(len(all))
			c := &all[i]
			if next[i] == len(c.Packets) {
				continue
			}
			l.seqs = seqs[i]
			last[i] = l.send(c.Proto, c.A+uint16(256*i), c.B, c.Packets[next[i]])
			seqs[i] = l.seqs
			if next[i]++; next[i] == len(c.Packets) {
				left--
			}
		}
		for i, c := range all {
			ports := c.A == 5353 || c.A == 5060 || c.A == 123 || c.A == 319 || c.A == 68 // where the client's port tells
			if v := last[i]; !ports && (v.Proto != c.Want || v.App != c.App) {
				t.Errorf("%s among others: %s/%s", c.What, protocol.Name(v.Proto), protocol.Name(v.App))
			}
		}
	}
}

// BenchmarkWorst is what is made to cost time. The goal is 5 us of processor time.
func BenchmarkWorst(b *testing.B) {
	name := strings.Repeat("\x01a", 120) + "\x00"
	bomb := "\x12\x34\x81\x80\x00\x01\x00\x5a\x00\x00\x00\x00" + name + "\x00\x01\x00\x01" + strings.Repeat("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x00", 89) + "\xc0"
	for _, c := range []l7test.Conversation{
		{What: "DNS of many names", Proto: 17, A: 1, B: 53, Packets: []l7test.Packet{l7test.Up(bomb)}},
		{What: "HTTP of short lines", Proto: 6, A: 1, B: 80, Packets: []l7test.Packet{l7test.Up("GET / HTTP/1.1\r\n" + strings.Repeat("a\r\n", 450))}},
		{What: "TLS of short records", Proto: 6, A: 1, B: 443, Packets: []l7test.Packet{l7test.Up(l7test.TLSRecord(22, l7test.ClientHello("a", 1)[:20]) + strings.Repeat("\x16\x03\x01\x00\x01a", 220))}},
		{What: "STUN of empty attributes", Proto: 17, A: 1, B: 3478, Packets: []l7test.Packet{l7test.Up("\x00\x01" + l7test.U16(1380) + strings.Repeat("x", 16) + strings.Repeat("\x00\x01\x00\x00", 344) + "\x00\x00\x00\x00")}},
		{What: "two Initial packets", Proto: 17, A: 1, B: 443, Packets: []l7test.Packet{l7test.Up(l7test.TwoInitials())}},
		{What: "mvfst of wrong keys", Proto: 17, A: 1, B: 443, Packets: []l7test.Packet{l7test.Up("\xc0\xfa\xce\xb0\x0f\x08connecti\x00\x00\x44\x00" + strings.Repeat("x", 1200))}},
		{What: "words that nearly begin everywhere", Proto: 6, A: 1, B: 80, Packets: []l7test.Packet{l7test.Up("{" + strings.Repeat("\"", 200))}},
	} {
		b.Run(c.What, func(b *testing.B) {
			l := newLab(Config{})
			l.play(c)
			ref := flow.Ref{Flow: l.last}
			l.measure(b, &ref)
		})
	}
}

// TestNotQuite sends what misses one of the things that the dissectors of several packets want.
func TestNotQuite(t *testing.T) {
	for _, c := range []l7test.Conversation{
		{What: "call of another version of RPC", Packets: []l7test.Packet{l7test.Up(l7test.Unhex("11223344 00000000 00000003 000186a5 00000003 00000001") + strings.Repeat("\x00", 16))}},
		{What: "CoAP with an option that ends outside", Packets: []l7test.Packet{l7test.Up("\x43\x01\x05\xca\x72\x16\x33\xbf.well"), l7test.Down("\x63\x45\x05\xca\x72\x16\x33\xbf.well")}},
		{What: "uTP of two connections", Packets: []l7test.Packet{l7test.Up("\x01\x00\x00\x01" + strings.Repeat("a", 17)), l7test.Up("\x01\x00\x00\x05" + strings.Repeat("a", 17)), l7test.Up("\x01\x00\x00\x09" + strings.Repeat("a", 17)), l7test.Up("\x01\x00\x00\x0d" + strings.Repeat("a", 17))}},
		{What: "RakNet whose numbers jump", Packets: []l7test.Packet{l7test.Up("\x84\x01\x00\x00\x00\x00\x20abcd"), l7test.Up("\x84\x01\x01\x00\x00\x00\x20abcd"), l7test.Up("\x84\x01\x02\x00\x00\x00\x20abcd")}},
		{What: "OpenVPN answered at another time", Packets: []l7test.Packet{l7test.Up("\x5012345678\x00\x00\x00\x01\x62\x5a\x9e\x97" + strings.Repeat("e", 64)), l7test.Down("\x40abcdefgh\x00\x00\x00\x01\x71\x5a\x9e\x97" + strings.Repeat("e", 64))}},
	} {
		l := newLab(Config{})
		c.Proto, c.A, c.B = 17, 40000, 40001
		if v := l.play(c); v.Proto != 0 {
			t.Errorf("%s: %s", c.What, protocol.Name(v.Proto))
		}
	}
}
