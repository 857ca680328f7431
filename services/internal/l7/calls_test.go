package l7

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// callOf is Inspect's ref.Call for the last packet of a conversation.
func (l *lab) callOf(proto byte, a, b uint16, s l7test.Packet) flow.Call {
	l.send(proto, a, b, s)
	if l.ref.Call == nil {
		return flow.Call{}
	}
	return *l.ref.Call
}

func in(c flow.Call, id string) bool { return c.Has(call.ID([]byte(id))) }

// TestMessageInPieces splits two messages at every place: each packet belongs to the calls of the messages that it carries parts of, or says which message
// it waits for, and the packet that ends that message's header tells its identifiers.
func TestMessageInPieces(t *testing.T) {
	first := l7test.SIPMessage{Start: "INVITE sip:bob@example.com SIP/2.0", CallID: "i: one@a", Extra: "P-Palladion-ID: leg7\r\nAv-Global-Session-ID:\r\n folded\r\n", Body: l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0")}.String()
	text := "\r\n\r\n" + first + l7test.Invite("two@b", "")
	begin := 4
	end := begin + len(first)
	for at := 1; at < len(text); at++ {
		l := newLab(Config{})
		l.send(6, 40000, 5060, l7test.SYN)
		calls := []flow.Call{l.callOf(6, 40000, 5060, l7test.Up(text[:at])), l.callOf(6, 40000, 5060, l7test.Up(text[at:]))}
		for _, c := range calls[1:] { // what a hold does
			if calls[0].Pending && calls[0].Message == c.Continues {
				calls[0].Pending = false
				for _, id := range c.IDs[:c.Own] {
					calls[0].Add(id)
				}
			}
		}
		for i, span := range [][2]int{{0, at}, {at, len(text)}} {
			carriesFirst, carriesSecond := span[0] < end && span[1] > begin, span[1] > end
			for _, id := range []string{"one@a", "leg7", "folded"} {
				if got := in(calls[i], id); got != carriesFirst {
					t.Fatalf("split at %d, packet %d: %s %v, %+v", at, i, id, got, calls[i])
				}
			}
			if got := in(calls[i], "two@b"); got != carriesSecond {
				t.Fatalf("split at %d, packet %d: two@b %v", at, i, got)
			}
			if calls[i].Pending && !(i == 0 && at <= begin) { // line ends may begin anything
				t.Fatalf("split at %d, packet %d waits: %+v", at, i, calls[i])
			}
		}
	}
}

// TestMessageInManyPieces sends messages byte by byte, and in random pieces that come twice.
func TestMessageInManyPieces(t *testing.T) {
	first := l7test.Invite("one@a", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0"))
	text := first + l7test.Invite("two@b", "")
	known := strings.Index(first, "Call-ID") + 20
	for size := 1; size < 60; size++ {
		l := newLab(Config{PayloadPackets: 255, Packets: 255})
		l.send(6, 40000, 5060, l7test.Packet{Flags: 2, Skip: 1000})
		base := l.seqs[0]
		seen := 0
		for at := 0; at < len(text); at += size {
			piece := text[at:min(at+size, len(text))]
			l.callOf(6, 40000, 5060, l7test.Packet{Payload: piece, Seq: base + uint32(at)})
			if again := l.callOf(6, 40000, 5060, l7test.Packet{Payload: piece, Seq: base + uint32(at)}); at > known && at+size < len(first) {
				if !in(again, "one@a") || in(again, "two@b") {
					t.Fatalf("pieces of %d, sent again at %d: %+v", size, at, again)
				}
				seen++
			}
		}
		last := l.callOf(6, 40000, 5060, l7test.Packet{Payload: l7test.Invite("three@c", ""), Seq: base + uint32(len(text))})
		if !in(last, "three@c") || seen == 0 && size < 40 {
			t.Fatalf("pieces of %d: %+v behind them", size, last)
		}
	}
}

// TestCallMedia: who is to or from an endpoint that SDP named belongs to the call.
func TestCallMedia(t *testing.T) {
	l := newLab(Config{Bytes: 1 << 22})
	say := func(text string) { l.send(17, 5060, 5060, l7test.Up(text)) }
	media := func(what, id string, a, b uint16, want bool) {
		t.Helper()
		c := l.callOf(17, a, b, l7test.Up(l7test.RTPPacket(1, 7)))
		if got := in(c, id) && c.Media; got != want {
			t.Errorf("%s: %v, %+v", what, got, c)
		}
	}
	media("before the call", "a@b", 4000, 6000, false)
	if v := VerdictOf(l.last); v.State != Pending {
		t.Errorf("one packet of RTP is %v", v)
	}
	say(l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 96 0", "a=rtpmap:96 opus/48000/2", "m=video 4010/2 RTP/AVP 97", "a=rtpmap:97 H264/90000", "a=rtcp:5000 IN IP4 10.0.0.1", "m=image 4020 udptl t38",
		"m=audio 0 RTP/AVP 0", "m=message 4030 TCP/MSRP *", "m=audio 4040 RTP/AVP 0", "c=IN IP4 10.0.0.77", "m=audio 4050 UDP/TLS/RTP/SAVPF 111", "a=rtcp-mux", "a=candidate:1 1 UDP 2130706431 10.0.0.1 4061 typ host")))
	for _, c := range []struct {
		a    uint16
		want bool
	}{{4000, true}, {4001, true}, {4010, true}, {4012, true}, {5000, true}, {4013, true}, {4020, true}, {4021, false}, {4030, false}, {4040, false}, {4050, true}, {4051, false}, {4061, true}, {4002, false}} {
		media(fmt.Sprintf("from port %d", c.a), "a@b", c.a, 6000, c.want)
	}
	c := l.callOf(17, 4000, 6001, l7test.Packet{Back: true, Payload: "\x80\x60" + l7test.RTPPacket(2, 8)[2:]})
	if c.Codec != call.CodecID([]byte("OPUS")) || !in(c, "a@b") {
		t.Errorf("to the endpoint that named payload type 96: %+v", c)
	}
	if v := VerdictOf(l.last); v.Proto != protocol.RTP || DPIPackets(l.last) != 1 {
		t.Errorf("announced RTP is %v after %d packets", v, DPIPackets(l.last))
	}
	if l.send(17, 4000, 6009, l7test.Up("\r\n\r\n")); VerdictOf(l.last).Proto != 0 {
		t.Errorf("a keep-alive from the endpoint is %v", VerdictOf(l.last))
	}
	say(l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4100 RTP/AVP 0"))) // another port
	media("after the second INVITE", "a@b", 4100, 6000, true)
	say(l7test.Invite("a@b", "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 4100 RTP/AVP 0\r\na=sendonly\r\n")) // hold
	media("on hold", "a@b", 4100, 6002, true)
	say(l7test.Invite("leg2@c", l7test.SDP("10.0.0.1", "m=audio 4100 RTP/AVP 0"))) // a second leg with the same endpoint
	media("first leg", "a@b", 4100, 6003, true)
	media("second leg", "leg2@c", 4100, 6003, true)
	say(l7test.SIPMessage{Start: "BYE sip:bob@example.com SIP/2.0", CallID: "Call-ID: a@b"}.String())
	media("just after the end", "a@b", 4100, 6003, true)
	say(l7test.Invite("new@d", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0")))
	media("a new call with the port of an old one", "new@d", 4000, 6000, true)
	media("the old call's port", "a@b", 4000, 6000, false)
	l.now += 33e9
	media("long after the end", "a@b", 4100, 6004, false)
	media("the second leg goes on", "leg2@c", 4100, 6004, true)
	for i := range 5000 { // the table is full: the latest calls are in it
		id := fmt.Sprintf("many-%d@e", i)
		say(l7test.Invite(id, l7test.SDP(fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), fmt.Sprintf("m=audio %d RTP/AVP 0", 10000+i*2))))
	}
	say(l7test.Invite("last@f", l7test.SDP("10.0.0.1", "m=audio 4200 RTP/AVP 0")))
	media("behind many calls", "last@f", 4200, 6000, true)
}

// TestSDPOverTCP: a description may come in pieces, and in a body of several parts.
func TestSDPOverTCP(t *testing.T) {
	body := "--x\r\nContent-Type: application/sdp\r\n\r\n" + l7test.SDP("2001:db8::7", "m=audio 4000 RTP/AVP 0") + "--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n"
	body = strings.ReplaceAll(body, "IP4", "IP6") + l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0")
	text := strings.Replace(l7test.Invite("a@b", body), "application/sdp", "multipart/mixed;boundary=x", 1)
	for at := 1; at < len(text); at += 3 {
		l := newLab(Config{})
		l.send(6, 40000, 5060, l7test.SYN)
		l.send(6, 40000, 5060, l7test.Up(text[:at]))
		l.send(6, 40000, 5060, l7test.Up(text[at:]))
		c := l.callOf(17, 4000, 6000, l7test.Up(l7test.RTPPacket(1, 7)))
		if !in(c, "a@b") {
			t.Fatalf("split at %d: %+v", at, c)
		}
		var call flow.Call
		addr := netip.MustParseAddr("2001:db8::7").As16()
		if l.engine.calls.Find(&addr, 4000, 0, l.now, &call); !in(call, "a@b") {
			t.Fatalf("split at %d: the part's endpoint is missing", at)
		}
	}
}

// FuzzCalls feeds pieces of a stream and datagrams.
func FuzzCalls(f *testing.F) {
	f.Add([]byte(l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0", "a=rtpmap:96 opus/48000", "a=candidate:1 1 UDP 1 10.0.0.1 4061 typ host"))), uint16(40), int16(0))
	f.Add([]byte(l7test.Invite("a@b", "")+l7test.Invite("c@d", "x")), uint16(100), int16(-20))
	l := newLab(Config{})
	f.Fuzz(func(t *testing.T, data []byte, at uint16, shift int16) {
		l.send(17, 5060, 5060, l7test.Up(l7test.SIPInvite))
		l.send(6, 40000, 5060, l7test.Packet{Flags: 2, Seq: 1})
		l.send(6, 40000, 5060, l7test.Packet{Payload: l7test.SIPInvite, Seq: 2})
		n := min(int(at), len(data))
		seq := uint32(2 + len(l7test.SIPInvite))
		l.send(6, 40000, 5060, l7test.Packet{Payload: string(data[:n]), Seq: seq})
		l.send(6, 40000, 5060, l7test.Packet{Payload: string(data[n:min(len(data), n+1400)]), Seq: seq + uint32(n) + uint32(int32(shift))})
		l.send(17, 5060, 5060, l7test.Up(string(data[:min(len(data), 1400)])))
		l.send(17, 4000, 6000, l7test.Up(l7test.RTPPacket(1, 7)))
	})
}

func TestCallAllocs(t *testing.T) {
	text := l7test.Invite("a@b", l7test.SDP("2001:db8::1:2", "m=audio 4000 RTP/AVP 96", "a=rtpmap:96 opus/48000", "c=IN IP4 10.0.0.1", "m=audio 4000 RTP/AVP 96"))
	l := newLab(Config{})
	l.send(17, 5060, 5060, l7test.Up(text))
	ref := flow.Ref{Flow: l.last}
	p := l.pkt
	if n := testing.AllocsPerRun(100, func() { l.engine.Inspect(&p, &p, &ref) }); n != 0 {
		t.Errorf("a message costs %v allocations", n)
	}
	l.send(17, 4000, 6000, l7test.Up(l7test.RTPPacket(1, 7)))
	ref.Flow = l.last
	p = l.pkt
	if n := testing.AllocsPerRun(100, func() { l.engine.Inspect(&p, &p, &ref) }); n != 0 {
		t.Errorf("media costs %v allocations", n)
	}
}

// BenchmarkCalls is what a message costs, one of many short lines, media of a call, and a datagram of no call while there are calls.
func BenchmarkCalls(b *testing.B) {
	for _, c := range []struct {
		what, payload string
		a             uint16
	}{
		{"INVITE", l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 96", "a=rtpmap:96 opus/48000")), 5060},
		{"short lines", l7test.SIPInvite[:len(l7test.SIPInvite)-2] + strings.Repeat("a:\n", 400), 5060},
		{"many media", l7test.Invite("a@b", l7test.SDP("10.0.0.1", strings.Repeat("m=a 4/4 RTP/A 0\r\n", 60))), 5060},
		{"media", l7test.RTPPacket(1, 7), 4000}, {"no media", l7test.RTPPacket(1, 7), 4444},
	} {
		b.Run(c.what, func(b *testing.B) {
			l := newLab(Config{})
			l.send(17, 5060, 5060, l7test.Up(l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 96"))))
			for range 5 {
				l.send(17, c.a, 5060, l7test.Up(c.payload))
			}
			ref := flow.Ref{Flow: l.last}
			b.ReportAllocs()
			for b.Loop() {
				l.engine.Inspect(&l.pkt, &l.pkt, &ref)
			}
		})
	}
}

// TestLostSegments: what is lost of a body costs nothing, what is lost of a header costs the rest of that message at most.
func TestLostSegments(t *testing.T) {
	first := l7test.Invite("one@a", l7test.SDP("10.0.0.1", "m=audio 4000 RTP/AVP 0"))
	second, third := l7test.Invite("two@b", ""), l7test.Invite("three@c", "")
	for from := 1; from < len(first)-10; from += 7 {
		l := newLab(Config{})
		l.send(6, 40000, 5060, l7test.SYN)
		l.send(6, 40000, 5060, l7test.Up(l7test.Invite("zero@z", "")))
		begin := l.callOf(6, 40000, 5060, l7test.Up(first[:from]))
		to := min(from+20, len(first))
		rest := l.callOf(6, 40000, 5060, l7test.Packet{Payload: first[to:], Skip: uint32(to - from)})
		if in(begin, "zero@z") || in(rest, "zero@z") || in(rest, "two@b") {
			t.Fatalf("lost %d to %d: %+v, %+v", from, to, begin, rest)
		}
		if known := strings.Index(first, "one@a") + 7; from > known && !in(rest, "one@a") && len(first) > to {
			t.Fatalf("lost %d to %d: the rest is %+v", from, to, rest)
		}
		for _, m := range []string{second, third} {
			id := m[strings.Index(m, "Call-ID: ")+9:][:5]
			if c := l.callOf(6, 40000, 5060, l7test.Up(m)); !in(c, map[string]string{"two@b": "two@b", "three": "three@c"}[id]) || in(c, "one@a") {
				t.Fatalf("lost %d to %d: the next message is %+v", from, to, c)
			}
		}
	}
}

// TestManyMessagesInASegment: what waits for a message learns its call although the segment that ends it has many more.
func TestManyMessagesInASegment(t *testing.T) {
	text := ""
	for i := range 6 {
		text += l7test.SIPMessage{Start: "ACK sip:b SIP/2.0", CallID: fmt.Sprintf("i: %d@a", i)}.String()
	}
	l := newLab(Config{})
	l.send(6, 40000, 5060, l7test.SYN)
	begin, rest := l.callOf(6, 40000, 5060, l7test.Up(text[:30])), l.callOf(6, 40000, 5060, l7test.Up(text[30:]))
	if !begin.Pending || begin.Message != rest.Continues || rest.Own != 1 || rest.IDs[0] != call.ID([]byte("0@a")) || !in(rest, "5@a") {
		t.Errorf("%+v, then %+v", begin, rest)
	}
}
