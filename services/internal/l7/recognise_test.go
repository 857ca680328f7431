package l7

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
)

// A conversation is what a flow shows, and what is to be made of it.
type conversation struct {
	what    string
	proto   byte
	a, b    uint16
	packets []packetSpec
	want    protocol.ID
	app     protocol.ID
	host    string
	dpi     int
}

var (
	syn    = packetSpec{flags: 2}
	synAck = packetSpec{flags: 2, back: true}
)

func up(payload string) packetSpec   { return packetSpec{payload: payload} }
func down(payload string) packetSpec { return packetSpec{payload: payload, back: true} }

const (
	dnsQuery  = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03WWW\x07example\x03com\x00\x00\x01\x00\x01"
	dnsAnswer = "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x09"
	sipInvite = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33\r\nCall-ID: a84b4c76e66710\r\n\r\n"
	httpGet   = "GET /index.html HTTP/1.1\r\nUser-Agent: test\r\nHost: WWW.example.com:8080\r\n\r\n"
)

func conversations(t testing.TB) []conversation {
	hello := tlsRecordOf(22, clientHello("www.example.com", 64))
	long := clientHello("long.example.com", 1800)
	dhcp := "\x01\x01\x06\x00" + strings.Repeat("\x00", 232) + "\x63\x82\x53\x63\x35\x01\x01\xff"
	ptp := unhex("0b 02 0040 00 00 0008 0000000000000000 00000000 001d7ffffe800023 0001 0001 05 01") + strings.Repeat("\x00", 30)
	pnio := unhex("04 00 20 00 10 00 00 00 dea00000 6c97 11d1 8271 000100010001 0100a0de 976c d111 8271 00a02442df7d 00112233445566778899aabbccddeeff"+
		"00000000 01000000 00000000 0000 ffff ffff 0400 0000 00 00") + "abcd"
	quic := clientHello("quic.example.com", 16)
	return append(slices.Concat(officeConversations(), webConversations(t)), []conversation{
		{"DNS query", 17, 40000, 53, []packetSpec{up(dnsQuery), down(dnsAnswer)}, protocol.DNS, 0, "www.example.com", 1},
		{"DNS on another port", 17, 40000, 5300, []packetSpec{up(dnsQuery)}, protocol.DNS, 0, "www.example.com", 1},
		{"DNS over TCP, length apart", 6, 40000, 53, []packetSpec{syn, synAck, up(u16(len(dnsQuery))), up(dnsQuery)}, protocol.DNS, 0, "www.example.com", 4},
		{"multicast DNS", 17, 5353, 5353, []packetSpec{up("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05_http\x04_tcp\x05local\x00\x00\x0c\x80\x01")}, protocol.MDNS, 0, "_http._tcp.local", 1},
		{"LLMNR", 17, 40000, 5355, []packetSpec{up("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04wpad\x00\x00\x01\x00\x01")}, protocol.LLMNR, 0, "wpad", 1},
		{"DHCP", 17, 68, 67, []packetSpec{up(dhcp)}, protocol.DHCP, 0, "", 1},
		{"HTTP request", 6, 40000, 8080, []packetSpec{syn, synAck, up(httpGet)}, protocol.HTTP, 0, "www.example.com", 3},
		{"HTTP response in the middle", 6, 40000, 80, []packetSpec{down("HTTP/1.1 304 Not Modified\r\n\r\n")}, protocol.HTTP, 0, "", 1},
		{"TLS", 6, 40000, 443, []packetSpec{syn, synAck, up(hello), down(tlsRecordOf(22, "\x02\x00\x00\x46\x03\x03"))}, protocol.TLS, 0, "www.example.com", 3},
		{"TLS hello over two records", 6, 40000, 443, []packetSpec{syn, up(tlsRecordOf(22, long[:1000])), up(tlsRecordOf(22, long[1000:]))}, protocol.TLS, 0, "long.example.com", 2},
		{"TLS hello after a record of one byte", 6, 40000, 443, []packetSpec{syn, up(tlsRecordOf(22, long[:1]) + tlsRecordOf(22, long[1:]))}, protocol.TLS, 0, "long.example.com", 2},
		{"TLS hello in records of one byte, then of many, over two segments", 6, 40000, 443, []packetSpec{
			syn, up(tlsRecordOf(22, long[:1]) + tlsRecordOf(22, long[1:2])), up(tlsRecordOf(22, long[2:3]) + tlsRecordOf(22, long[3:])),
		}, protocol.TLS, 0, "long.example.com", 3},
		{"TLS in the middle", 6, 40000, 443, []packetSpec{up("\x17\x03\x03\x00\x04abcd")}, protocol.TLS, 0, "", 1},
		{"QUIC 1", 17, 40000, 443, []packetSpec{up(quicInitial(t, 1, "\x83\x94\xc8\xf0\x3e\x51\x57\x08", 0, cryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC 2, out of order, over two datagrams", 17, 40000, 443, []packetSpec{
			up(quicInitial(t, 0x6b3343cf, "connection", 0, cryptoFrame(100, quic[100:]))), up(quicInitial(t, 0x6b3343cf, "connection", 1, cryptoFrame(50, quic[50:100])+"\x01"+cryptoFrame(0, quic[:50]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with another connection id after the server's answer", 17, 40000, 443, []packetSpec{
			up(quicInitial(t, 1, "connection", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(t, 1, "serverid", "connection", "", 1, cryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with other keys after a Retry", 17, 40000, 443, []packetSpec{
			up(quicInitial(t, 1, "connection", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(t, 1, "retry id", "retry id", "token", 1, cryptoFrame(0, quic))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with a token of an earlier connection, and another connection id after the server's answer", 17, 40000, 443, []packetSpec{
			up(quicInitialTo(t, 1, "connection", "connection", "token", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(t, 1, "serverid", "connection", "token", 1, cryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC draft 29", 17, 40000, 4433, []packetSpec{up(quicInitial(t, 0xff00001d, "connection", 0, cryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC after version negotiation", 17, 40000, 443, []packetSpec{
			up("\xc0\x1a\x2a\x3a\x4a\x08connecti\x00" + strings.Repeat("x", 1186)), down("\xc0\x00\x00\x00\x00\x00\x08connecti\x00\x00\x00\x01\xff\x00\x00\x1d"),
			up(quicInitial(t, 1, "connection", 0, cryptoFrame(0, quic))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"gQUIC", 17, 40000, 443, []packetSpec{up("\x0d12345678Q043\x01" + strings.Repeat("h", 12) + "\xa0\x01\x00\x00CHLO\x02\x00\x00\x00PAD\x00\x04\x00\x00\x00SNI\x00\x11\x00\x00\x00----old.example.c")}, protocol.QUIC, 0, "old.example.c", 1},
		{"SSH", 6, 40000, 2222, []packetSpec{syn, synAck, down("SSH-2.0-OpenSSH_9.2\r\n")}, protocol.SSH, 0, "", 3},
		{"SIP", 17, 5060, 5060, []packetSpec{up(sipInvite)}, protocol.SIP, 0, "", 1},
		{"SIP over TCP in two segments", 6, 40000, 5062, []packetSpec{syn, up(sipInvite[:20]), up(sipInvite[20:])}, protocol.SIP, 0, "", 3},
		{"RTP", 17, 40000, 40002, []packetSpec{up(rtpPacket(1, 7)), down(rtpPacket(900, 8)), up(rtpPacket(2, 7)), up(rtpPacket(3, 7))}, protocol.RTP, 0, "", 4},
		{"RTP over TCP", 6, 40000, 40002, []packetSpec{syn, up(u16(172) + rtpPacket(1, 7) + u16(172) + rtpPacket(2, 7)), up(u16(172) + rtpPacket(3, 7))}, protocol.RTP, 0, "", 3},
		{"WebSocket in its middle", 6, 12345, 40002, []packetSpec{up("\x81\x07Welcome"), down("\x81\x8c\xe1\x7e\x8e\xb9\x95\x1b\xfd\xcd\xc1\x13\xeb\x9a\x92\x1f\xe9\xdc")}, protocol.WebSocket, 0, "", 2},
		{"Threema", 6, 40000, 5222, []packetSpec{syn, up("\xf3" + strings.Repeat("\xe8", 47)), down("\x38" + strings.Repeat("\x9b", 79))}, protocol.Threema, 0, "", 3},
		{"RTP behind STUN", 17, 40000, 40002, []packetSpec{up("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"), up(rtpPacket(1, 7)), up(rtpPacket(2, 7)), up(rtpPacket(3, 7))}, protocol.STUN, protocol.RTP, "", 4},
		{"RTCP", 17, 40001, 40003, []packetSpec{up("\x80\xc8\x00\x06" + strings.Repeat("r", 24))}, protocol.RTCP, 0, "", 1},
		{"NTP", 17, 123, 123, []packetSpec{up("\x23\x02\x06\xe8\x00\x00\x01\x00\x00\x00\x02\x00" + strings.Repeat("\x01", 36))}, protocol.NTP, 0, "", 1},
		{"SNMP", 17, 40000, 161, []packetSpec{up("\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\x00\x05\x00")}, protocol.SNMP, 0, "", 1},
		{"PTP", 17, 319, 319, []packetSpec{up(ptp)}, protocol.PTPv2, 0, "", 1},
		{"PROFINET CM", 17, 49152, 34964, []packetSpec{up(pnio)}, protocol.DCERPC, protocol.PROFINETIO, "", 1},
		{"DCE/RPC over TCP", 6, 40000, 49668, []packetSpec{syn, synAck, up(unhex("05000b0310000000480000000100000 0b810b810000000000100000000000100") + strings.Repeat("\x01", 40))}, protocol.DCERPC, 0, "", 3},
		{"DHCPv6", 17, 546, 547, []packetSpec{up(unhex("01123456 0001000a 00030001020000000001 00080002 0000"))}, protocol.DHCPv6, 0, "", 1},
		{"ICMP", 1, 0, 0, []packetSpec{up("\x08\x00\x00\x00\x00\x01\x00\x01ping")}, protocol.ICMP, 0, "", 1},
		{"IGMP", 2, 0, 0, []packetSpec{up("\x16\x00\x00\x00\xe0\x00\x00\xfb")}, protocol.IGMP, 0, "", 1},
		{"SSDP", 17, 40000, 1900, []packetSpec{up("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n")}, protocol.SSDP, 0, "", 1},
		{"SMTP with STARTTLS", 6, 40000, 2525, []packetSpec{syn, synAck, down("220 mail.example.com ESMTP\r\n"), up("EHLO me\r\n"), down("250 STARTTLS\r\n"), up("STARTTLS\r\n"), down("220 ready\r\n"),
			up(hello[:100]), up(hello[100:])}, protocol.SMTPS, 0, "www.example.com", 8},
		{"FTP told by both sides", 6, 40000, 2121, []packetSpec{syn, synAck, down("220 Welcome\r\n"), up("USER anonymous\r\n")}, 257, 0, "", 4},
		{"HTTP behind SOCKS", 6, 40000, 9050, []packetSpec{syn, synAck, up("\x05\x01\x00"), down("\x05\x00"), up(httpGet)}, protocol.SOCKS, protocol.HTTP, "www.example.com", 5},
		{"Teredo", 17, 40000, 3544, []packetSpec{up("\x60\x00\x00\x00\x00\x00\x3b\xff" + strings.Repeat("a", 32))}, protocol.Teredo, 0, "", 1},
		{"DNP3", 6, 40000, 20001, []packetSpec{syn, synAck, up(unhex("056405c001000004e921"))}, protocol.DNP3, 0, "", 3},
		{"S7comm", 6, 40000, 1102, []packetSpec{syn, synAck, up(s7Connect), down(s7Accept), up(unhex("03000019 02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 5},
		{"S7comm-plus", 6, 40000, 102, []packetSpec{syn, synAck, up(s7Connect), down(s7Accept), up(unhex("03000014 02f080 720100050102030405 720100")), up("x")}, protocol.S7CommPlus, 0, "", 5},
		{"S7comm behind a unit of one byte", 6, 40000, 102, []packetSpec{syn, synAck, up(unhex("03000008 02f080 32 03000019 02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 3},
		{"S7comm, its headers apart", 6, 40000, 102, []packetSpec{syn, synAck, up(unhex("03000019")), up(unhex("02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 4},
		{"MMS", 6, 40000, 102, []packetSpec{syn, synAck, up(s7Connect), down(s7Accept), up(unhex("03000020 02f080 0d17 c115 3113 a003800101 a20c 0605 28ca220201 0000000000"))}, protocol.MMS, 0, "", 5},
		{"ICCP in the middle", 6, 40000, 102, []packetSpec{up(unhex("03000026 02f080 01000100 6119 3017 020103 a012 a0 10 020101 a40b a109 1807") + "abcdefg"),
			down(unhex("03000034 02f080 01000100") + "TASE2_Version")}, protocol.MMS, protocol.ICCP, "", 2},
		{"another user of COTP", 6, 40000, 102, []packetSpec{syn, synAck, up(s7Connect), down(s7Accept), up(unhex("0300000b 02f080 41424344"))}, protocol.COTP, 0, "", 5},
		{"RDP without negotiation", 6, 40000, 3390, []packetSpec{syn, synAck, up(unhex("0300000b 06e00000000000")), down(unhex("0300000b 06d00000123400")), up(unhex("0300000d 02f080 7f6582019004"))}, protocol.RDP, 0, "", 5},
		{"GTP-C 1", 17, 40000, 2123, []packetSpec{up(unhex("32100004 00000000 00010000"))}, protocol.GTP, protocol.GTPC, "", 1},
		{"GTP-C 2 elsewhere", 17, 40000, 2124, []packetSpec{up(unhex("48200011 00000000 00000100 01000500 1122334455"))}, protocol.GTP, protocol.GTPC, "", 1},
		{"GTP-U echo", 17, 2152, 2152, []packetSpec{up(unhex("32010004 00000000 00010000"))}, protocol.GTP, protocol.GTPU, "", 1},
		{"GTP'", 17, 40000, 3386, []packetSpec{up(unhex("4f0400030001 7e0100"))}, protocol.GTP, protocol.GTPPrime, "", 1},
		{"PFCP", 17, 8805, 8806, []packetSpec{up(unhex("20050009 00000100 00130001 01"))}, protocol.PFCP, 0, "", 1},
		{"EtherCAT over UDP, two datagrams", 17, 34980, 34981, []packetSpec{up(unhex("1c10 0700 01000000 0280 0000 1122 0000 0700 01000000 0200 0000 1122 0000"))}, protocol.EtherCAT, 0, "", 1},
		{"PROFINET RT over UDP", 17, 49152, 34962, []packetSpec{up(unhex("c001 8080808080 0100 35 00")), up(unhex("c001 8080808080 0180 35 00"))}, protocol.PROFINETRT, 0, "", 2},
		{"CoAP", 17, 40000, 5683, []packetSpec{up(unhex("40017d34 bb2e77656c6c2d6b6e6f776e 04636f7265"))}, protocol.COAP, 0, "", 1},
		{"CoAP elsewhere", 17, 40000, 6683, []packetSpec{up(unhex("40017d34 bb2e77656c6c2d6b6e6f776e 04636f7265")), down(unhex("60457d34 c128 ff") + "<x>")}, protocol.COAP, 0, "", 2},
		{"DTLS", 17, 40000, 4433, []packetSpec{up("\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04abcd")}, protocol.DTLS, 0, "", 1},
	}...)
}

// A connection of the transport over which S7comm goes, asked for and made.
var (
	s7Connect = unhex("03000016 11e00000000100 c1020100 c2020102 c0010a")
	s7Accept  = unhex("03000016 11d00001000200 c0010a c1020100 c2020102")
)

func (l *lab) play(c conversation) (v Verdict) {
	for _, p := range c.packets {
		v = l.send(c.proto, c.a, c.b, p)
	}
	return v
}

func TestRecognises(t *testing.T) {
	for _, c := range conversations(t) {
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
	for _, c := range conversations(t) {
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
	for _, c := range conversations(t) {
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
	for _, bytes := range []int{1, 2*(slotBytes+slotHead)*4/3 + 64} {
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
	for _, c := range conversations(t) {
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
	l.play(conversations(b)[0])
	ref := flow.Ref{Flow: l.last}
	for b.Loop() {
		l.engine.Inspect(&l.pkt, &l.pkt, &ref)
	}
}

// BenchmarkFirst is the first packet of a flow, for each conversation whose first payload decides.
func BenchmarkFirst(b *testing.B) {
	for _, c := range append(conversations(b), conversation{what: "noise UDP", proto: 17, a: 1, b: 2, packets: []packetSpec{up("\x9a" + strings.Repeat("?", 99))}},
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
		l.send(17, 1, 443, up(quicInitial(b, 1, "connection", 0, cryptoFrame(0, hello[:100]))))
		crafted := ""
		for i := 0; !l.seemsToFit(crafted, 1, "connection", saltV1); i++ {
			id := fmt.Sprintf("other %04d", i)
			crafted = quicInitial(b, 1, id, 1, cryptoFrame(100, hello[100:200])) + quicInitial(b, 1, id, 2, cryptoFrame(200, hello[200:300]))
		}
		sl := l.engine.slotOf(&payload{flow: l.last})
		state, before := l.last.L7, *sl
		l.send(17, 1, 443, up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.again(b, &ref, func() { l.last.L7, *sl = state, before })
	})
	b.Run("two salts", func(b *testing.B) {
		l := newLab(Config{})
		const version = 0xfaceb00f
		crafted := ""
		for i := 0; !l.seemsToFit(crafted, version, "connecti", mvfstSalts[0]); i++ {
			crafted = "\xc0\xfa\xce\xb0\x0f\x08connecti\x00\x00\x44\x00" + fmt.Sprintf("%08d", i) + strings.Repeat("x", 1100)
		}
		l.send(17, 1, 443, up(crafted))
		ref := flow.Ref{Flow: l.last}
		l.measure(b, &ref)
	})
}

// seemsToFit reports whether the first byte of an Initial packet allows the keys of a connection id.
func (l *lab) seemsToFit(packet string, version uint32, id, salt string) bool {
	h, ok := readLongHeader([]byte(packet))
	if !ok {
		return false
	}
	number, _, _, _ := initialBody([]byte(packet), h.end)
	var m [16]byte
	l.engine.worker.keys(&initial{ver: quicVersionOf(version), dcid: []byte(id)}, salt).header.Encrypt(m[:], []byte(packet[number+4:number+20]))
	return (packet[0]^m[0])&0x0c == 0
}

// TestInterleaved plays all conversations at once, in random order of packets of different flows: each flow's verdict is its own affair.
func TestInterleaved(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		all := conversations(t)
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

// twoInitials is a datagram of two Initial packets with parts of a ClientHello.
func twoInitials(t testing.TB) string {
	hello := clientHello("quic.example.com", 400)
	first, second := quicInitial(t, 1, "connection", 0, cryptoFrame(0, hello[:200])), quicInitial(t, 1, "connection", 1, cryptoFrame(200, hello[200:]))
	return first + second
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
		{what: "two Initial packets", proto: 17, a: 1, b: 443, packets: []packetSpec{up(twoInitials(b))}},
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
