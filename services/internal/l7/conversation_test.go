package l7

import (
	"slices"
	"strings"

	"galvo/services/internal/l7/protocol"
)

// A packetSpec is a packet of a conversation between 10.0.0.1 (port a) and 10.0.0.2 (port b).
type packetSpec struct {
	back    bool // from 10.0.0.2
	flags   byte // of TCP
	payload string
	skip    uint32 // bytes of the stream that are lost before it
	seq     uint32 // if not 0 instead of what follows
}

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

func conversations() []conversation {
	hello := tlsRecordOf(22, clientHello("www.example.com", 64))
	long := clientHello("long.example.com", 1800)
	dhcp := "\x01\x01\x06\x00" + strings.Repeat("\x00", 232) + "\x63\x82\x53\x63\x35\x01\x01\xff"
	ptp := unhex("0b 02 0040 00 00 0008 0000000000000000 00000000 001d7ffffe800023 0001 0001 05 01") + strings.Repeat("\x00", 30)
	pnio := unhex("04 00 20 00 10 00 00 00 dea00000 6c97 11d1 8271 000100010001 0100a0de 976c d111 8271 00a02442df7d 00112233445566778899aabbccddeeff"+
		"00000000 01000000 00000000 0000 ffff ffff 0400 0000 00 00") + "abcd"
	quic := clientHello("quic.example.com", 16)
	return append(slices.Concat(officeConversations(), webConversations()), []conversation{
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
		{"QUIC 1", 17, 40000, 443, []packetSpec{up(quicInitial(1, "\x83\x94\xc8\xf0\x3e\x51\x57\x08", 0, cryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC 2, out of order, over two datagrams", 17, 40000, 443, []packetSpec{
			up(quicInitial(0x6b3343cf, "connection", 0, cryptoFrame(100, quic[100:]))), up(quicInitial(0x6b3343cf, "connection", 1, cryptoFrame(50, quic[50:100])+"\x01"+cryptoFrame(0, quic[:50]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with another connection id after the server's answer", 17, 40000, 443, []packetSpec{
			up(quicInitial(1, "connection", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(1, "serverid", "connection", "", 1, cryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with other keys after a Retry", 17, 40000, 443, []packetSpec{
			up(quicInitial(1, "connection", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(1, "retry id", "retry id", "token", 1, cryptoFrame(0, quic))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with a token of an earlier connection, and another connection id after the server's answer", 17, 40000, 443, []packetSpec{
			up(quicInitialTo(1, "connection", "connection", "token", 0, cryptoFrame(0, quic[:50]))), up(quicInitialTo(1, "serverid", "connection", "token", 1, cryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC draft 29", 17, 40000, 4433, []packetSpec{up(quicInitial(0xff00001d, "connection", 0, cryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC after version negotiation", 17, 40000, 443, []packetSpec{
			up("\xc0\x1a\x2a\x3a\x4a\x08connecti\x00" + strings.Repeat("x", 1186)), down("\xc0\x00\x00\x00\x00\x00\x08connecti\x00\x00\x00\x01\xff\x00\x00\x1d"),
			up(quicInitial(1, "connection", 0, cryptoFrame(0, quic))),
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
