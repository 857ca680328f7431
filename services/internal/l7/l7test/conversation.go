// Package l7test has conversations of many protocols, as tests play them, and builds their messages.
package l7test

import (
	"slices"
	"strings"

	"galvo/services/internal/l7/protocol"
)

// A Packet is a packet of a conversation between 10.0.0.1 (port A) and 10.0.0.2 (port B).
type Packet struct {
	Back    bool // from 10.0.0.2
	Flags   byte // of TCP
	Payload string
	Skip    uint32 // bytes of the stream that are lost before it
	Seq     uint32 // if not 0 instead of what follows
}

// A Conversation is what a flow shows, and what is to be made of it.
type Conversation struct {
	What    string
	Proto   byte   // of IP
	A, B    uint16 // ports
	Packets []Packet
	Want    protocol.ID // the carrier
	App     protocol.ID // what it carries; 0 if nothing tells
	Host    string      // the server's name; empty if nothing tells
	DPI     int         // the packet that decides, from 1
}

// How a connection of TCP begins.
var (
	SYN    = Packet{Flags: 2}
	SYNACK = Packet{Flags: 2, Back: true}
)

// Up is a packet to 10.0.0.2.
func Up(payload string) Packet { return Packet{Payload: payload} }

// Down is a packet from it.
func Down(payload string) Packet { return Packet{Payload: payload, Back: true} }

// Messages that several tests send.
const (
	DNSQuery  = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03WWW\x07example\x03com\x00\x00\x01\x00\x01"
	DNSAnswer = "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x09"
	SIPInvite = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33\r\nCall-ID: a84b4c76e66710\r\n\r\n"
	HTTPGet   = "GET /index.html HTTP/1.1\r\nUser-Agent: test\r\nHost: WWW.example.com:8080\r\n\r\n"
)

// Conversations returns one or more for each dissector, and for what else can be recognised.
func Conversations() []Conversation {
	hello := TLSRecord(22, ClientHello("www.example.com", 64))
	long := ClientHello("long.example.com", 1800)
	dhcp := "\x01\x01\x06\x00" + strings.Repeat("\x00", 232) + "\x63\x82\x53\x63\x35\x01\x01\xff"
	ptp := Unhex("0b 02 0040 00 00 0008 0000000000000000 00000000 001d7ffffe800023 0001 0001 05 01") + strings.Repeat("\x00", 30)
	pnio := Unhex("04 00 20 00 10 00 00 00 dea00000 6c97 11d1 8271 000100010001 0100a0de 976c d111 8271 00a02442df7d 00112233445566778899aabbccddeeff"+
		"00000000 01000000 00000000 0000 ffff ffff 0400 0000 00 00") + "abcd"
	quic := ClientHello("quic.example.com", 16)
	return append(slices.Concat(officeConversations(), webConversations()), []Conversation{
		{"DNS query", 17, 40000, 53, []Packet{Up(DNSQuery), Down(DNSAnswer)}, protocol.DNS, 0, "www.example.com", 1},
		{"DNS on another port", 17, 40000, 5300, []Packet{Up(DNSQuery)}, protocol.DNS, 0, "www.example.com", 1},
		{"DNS over TCP, length apart", 6, 40000, 53, []Packet{SYN, SYNACK, Up(U16(len(DNSQuery))), Up(DNSQuery)}, protocol.DNS, 0, "www.example.com", 4},
		{"multicast DNS", 17, 5353, 5353, []Packet{Up("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05_http\x04_tcp\x05local\x00\x00\x0c\x80\x01")}, protocol.MDNS, 0, "_http._tcp.local", 1},
		{"LLMNR", 17, 40000, 5355, []Packet{Up("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04wpad\x00\x00\x01\x00\x01")}, protocol.LLMNR, 0, "wpad", 1},
		{"DHCP", 17, 68, 67, []Packet{Up(dhcp)}, protocol.DHCP, 0, "", 1},
		{"HTTP request", 6, 40000, 8080, []Packet{SYN, SYNACK, Up(HTTPGet)}, protocol.HTTP, 0, "www.example.com", 3},
		{"HTTP response in the middle", 6, 40000, 80, []Packet{Down("HTTP/1.1 304 Not Modified\r\n\r\n")}, protocol.HTTP, 0, "", 1},
		{"TLS", 6, 40000, 443, []Packet{SYN, SYNACK, Up(hello), Down(TLSRecord(22, "\x02\x00\x00\x46\x03\x03"))}, protocol.TLS, 0, "www.example.com", 3},
		{"TLS hello over two records", 6, 40000, 443, []Packet{SYN, Up(TLSRecord(22, long[:1000])), Up(TLSRecord(22, long[1000:]))}, protocol.TLS, 0, "long.example.com", 2},
		{"TLS hello after a record of one byte", 6, 40000, 443, []Packet{SYN, Up(TLSRecord(22, long[:1]) + TLSRecord(22, long[1:]))}, protocol.TLS, 0, "long.example.com", 2},
		{"TLS hello in records of one byte, then of many, over two segments", 6, 40000, 443, []Packet{
			SYN, Up(TLSRecord(22, long[:1]) + TLSRecord(22, long[1:2])), Up(TLSRecord(22, long[2:3]) + TLSRecord(22, long[3:])),
		}, protocol.TLS, 0, "long.example.com", 3},
		{"TLS in the middle", 6, 40000, 443, []Packet{Up("\x17\x03\x03\x00\x04abcd")}, protocol.TLS, 0, "", 1},
		{"QUIC 1", 17, 40000, 443, []Packet{Up(QUICInitial(1, "\x83\x94\xc8\xf0\x3e\x51\x57\x08", 0, CryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC 2, out of order, over two datagrams", 17, 40000, 443, []Packet{
			Up(QUICInitial(0x6b3343cf, "connection", 0, CryptoFrame(100, quic[100:]))), Up(QUICInitial(0x6b3343cf, "connection", 1, CryptoFrame(50, quic[50:100])+"\x01"+CryptoFrame(0, quic[:50]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with another connection id after the server's answer", 17, 40000, 443, []Packet{
			Up(QUICInitial(1, "connection", 0, CryptoFrame(0, quic[:50]))), Up(QUICInitialTo(1, "serverid", "connection", "", 1, CryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with other keys after a Retry", 17, 40000, 443, []Packet{
			Up(QUICInitial(1, "connection", 0, CryptoFrame(0, quic[:50]))), Up(QUICInitialTo(1, "retry id", "retry id", "token", 1, CryptoFrame(0, quic))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC with a token of an earlier connection, and another connection id after the server's answer", 17, 40000, 443, []Packet{
			Up(QUICInitialTo(1, "connection", "connection", "token", 0, CryptoFrame(0, quic[:50]))), Up(QUICInitialTo(1, "serverid", "connection", "token", 1, CryptoFrame(50, quic[50:]))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC draft 29", 17, 40000, 4433, []Packet{Up(QUICInitial(0xff00001d, "connection", 0, CryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC after version negotiation", 17, 40000, 443, []Packet{
			Up("\xc0\x1a\x2a\x3a\x4a\x08connecti\x00" + strings.Repeat("x", 1186)), Down("\xc0\x00\x00\x00\x00\x00\x08connecti\x00\x00\x00\x01\xff\x00\x00\x1d"),
			Up(QUICInitial(1, "connection", 0, CryptoFrame(0, quic))),
		}, protocol.QUIC, 0, "quic.example.com", 1},
		{"gQUIC", 17, 40000, 443, []Packet{Up("\x0d12345678Q043\x01" + strings.Repeat("h", 12) + "\xa0\x01\x00\x00CHLO\x02\x00\x00\x00PAD\x00\x04\x00\x00\x00SNI\x00\x11\x00\x00\x00----old.example.c")}, protocol.QUIC, 0, "old.example.c", 1},
		{"SSH", 6, 40000, 2222, []Packet{SYN, SYNACK, Down("SSH-2.0-OpenSSH_9.2\r\n")}, protocol.SSH, 0, "", 3},
		{"SIP", 17, 5060, 5060, []Packet{Up(SIPInvite)}, protocol.SIP, 0, "", 1},
		{"SIP over TCP in two segments", 6, 40000, 5062, []Packet{SYN, Up(SIPInvite[:20]), Up(SIPInvite[20:])}, protocol.SIP, 0, "", 3},
		{"RTP", 17, 40000, 40002, []Packet{Up(RTPPacket(1, 7)), Down(RTPPacket(900, 8)), Up(RTPPacket(2, 7)), Up(RTPPacket(3, 7))}, protocol.RTP, 0, "", 4},
		{"RTP over TCP", 6, 40000, 40002, []Packet{SYN, Up(U16(172) + RTPPacket(1, 7) + U16(172) + RTPPacket(2, 7)), Up(U16(172) + RTPPacket(3, 7))}, protocol.RTP, 0, "", 3},
		{"WebSocket in its middle", 6, 12345, 40002, []Packet{Up("\x81\x07Welcome"), Down("\x81\x8c\xe1\x7e\x8e\xb9\x95\x1b\xfd\xcd\xc1\x13\xeb\x9a\x92\x1f\xe9\xdc")}, protocol.WebSocket, 0, "", 2},
		{"Threema", 6, 40000, 5222, []Packet{SYN, Up("\xf3" + strings.Repeat("\xe8", 47)), Down("\x38" + strings.Repeat("\x9b", 79))}, protocol.Threema, 0, "", 3},
		{"RTP behind STUN", 17, 40000, 40002, []Packet{Up("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"), Up(RTPPacket(1, 7)), Up(RTPPacket(2, 7)), Up(RTPPacket(3, 7))}, protocol.STUN, protocol.RTP, "", 4},
		{"RTCP", 17, 40001, 40003, []Packet{Up("\x80\xc8\x00\x06" + strings.Repeat("r", 24))}, protocol.RTCP, 0, "", 1},
		{"NTP", 17, 123, 123, []Packet{Up("\x23\x02\x06\xe8\x00\x00\x01\x00\x00\x00\x02\x00" + strings.Repeat("\x01", 36))}, protocol.NTP, 0, "", 1},
		{"SNMP", 17, 40000, 161, []Packet{Up("\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\x00\x05\x00")}, protocol.SNMP, 0, "", 1},
		{"PTP", 17, 319, 319, []Packet{Up(ptp)}, protocol.PTPv2, 0, "", 1},
		{"PROFINET CM", 17, 49152, 34964, []Packet{Up(pnio)}, protocol.DCERPC, protocol.PROFINETIO, "", 1},
		{"DCE/RPC over TCP", 6, 40000, 49668, []Packet{SYN, SYNACK, Up(Unhex("05000b0310000000480000000100000 0b810b810000000000100000000000100") + strings.Repeat("\x01", 40))}, protocol.DCERPC, 0, "", 3},
		{"DHCPv6", 17, 546, 547, []Packet{Up(Unhex("01123456 0001000a 00030001020000000001 00080002 0000"))}, protocol.DHCPv6, 0, "", 1},
		{"ICMP", 1, 0, 0, []Packet{Up("\x08\x00\x00\x00\x00\x01\x00\x01ping")}, protocol.ICMP, 0, "", 1},
		{"IGMP", 2, 0, 0, []Packet{Up("\x16\x00\x00\x00\xe0\x00\x00\xfb")}, protocol.IGMP, 0, "", 1},
		{"SSDP", 17, 40000, 1900, []Packet{Up("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n")}, protocol.SSDP, 0, "", 1},
		{"SMTP with STARTTLS", 6, 40000, 2525, []Packet{SYN, SYNACK, Down("220 mail.example.com ESMTP\r\n"), Up("EHLO me\r\n"), Down("250 STARTTLS\r\n"), Up("STARTTLS\r\n"), Down("220 ready\r\n"),
			Up(hello[:100]), Up(hello[100:])}, protocol.SMTPS, 0, "www.example.com", 8},
		{"FTP told by both sides", 6, 40000, 2121, []Packet{SYN, SYNACK, Down("220 Welcome\r\n"), Up("USER anonymous\r\n")}, 257, 0, "", 4},
		{"HTTP behind SOCKS", 6, 40000, 9050, []Packet{SYN, SYNACK, Up("\x05\x01\x00"), Down("\x05\x00"), Up(HTTPGet)}, protocol.SOCKS, protocol.HTTP, "www.example.com", 5},
		{"Teredo", 17, 40000, 3544, []Packet{Up("\x60\x00\x00\x00\x00\x00\x3b\xff" + strings.Repeat("a", 32))}, protocol.Teredo, 0, "", 1},
		{"DNP3", 6, 40000, 20001, []Packet{SYN, SYNACK, Up(Unhex("056405c001000004e921"))}, protocol.DNP3, 0, "", 3},
		{"S7comm", 6, 40000, 1102, []Packet{SYN, SYNACK, Up(s7Connect), Down(s7Accept), Up(Unhex("03000019 02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 5},
		{"S7comm-plus", 6, 40000, 102, []Packet{SYN, SYNACK, Up(s7Connect), Down(s7Accept), Up(Unhex("03000014 02f080 720100050102030405 720100")), Up("x")}, protocol.S7CommPlus, 0, "", 5},
		{"S7comm behind a unit of one byte", 6, 40000, 102, []Packet{SYN, SYNACK, Up(Unhex("03000008 02f080 32 03000019 02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 3},
		{"S7comm, its headers apart", 6, 40000, 102, []Packet{SYN, SYNACK, Up(Unhex("03000019")), Up(Unhex("02f080 32010000000000080000f0000001000101e0"))}, protocol.S7Comm, 0, "", 4},
		{"MMS", 6, 40000, 102, []Packet{SYN, SYNACK, Up(s7Connect), Down(s7Accept), Up(Unhex("03000020 02f080 0d17 c115 3113 a003800101 a20c 0605 28ca220201 0000000000"))}, protocol.MMS, 0, "", 5},
		{"ICCP in the middle", 6, 40000, 102, []Packet{Up(Unhex("03000026 02f080 01000100 6119 3017 020103 a012 a0 10 020101 a40b a109 1807") + "abcdefg"),
			Down(Unhex("03000034 02f080 01000100") + "TASE2_Version")}, protocol.MMS, protocol.ICCP, "", 2},
		{"another user of COTP", 6, 40000, 102, []Packet{SYN, SYNACK, Up(s7Connect), Down(s7Accept), Up(Unhex("0300000b 02f080 41424344"))}, protocol.COTP, 0, "", 5},
		{"RDP without negotiation", 6, 40000, 3390, []Packet{SYN, SYNACK, Up(Unhex("0300000b 06e00000000000")), Down(Unhex("0300000b 06d00000123400")), Up(Unhex("0300000d 02f080 7f6582019004"))}, protocol.RDP, 0, "", 5},
		{"GTP-C 1", 17, 40000, 2123, []Packet{Up(Unhex("32100004 00000000 00010000"))}, protocol.GTP, protocol.GTPC, "", 1},
		{"GTP-C 2 elsewhere", 17, 40000, 2124, []Packet{Up(Unhex("48200011 00000000 00000100 01000500 1122334455"))}, protocol.GTP, protocol.GTPC, "", 1},
		{"GTP-U echo", 17, 2152, 2152, []Packet{Up(Unhex("32010004 00000000 00010000"))}, protocol.GTP, protocol.GTPU, "", 1},
		{"GTP'", 17, 40000, 3386, []Packet{Up(Unhex("4f0400030001 7e0100"))}, protocol.GTP, protocol.GTPPrime, "", 1},
		{"PFCP", 17, 8805, 8806, []Packet{Up(Unhex("20050009 00000100 00130001 01"))}, protocol.PFCP, 0, "", 1},
		{"EtherCAT over UDP, two datagrams", 17, 34980, 34981, []Packet{Up(Unhex("1c10 0700 01000000 0280 0000 1122 0000 0700 01000000 0200 0000 1122 0000"))}, protocol.EtherCAT, 0, "", 1},
		{"PROFINET RT over UDP", 17, 49152, 34962, []Packet{Up(Unhex("c001 8080808080 0100 35 00")), Up(Unhex("c001 8080808080 0180 35 00"))}, protocol.PROFINETRT, 0, "", 2},
		{"CoAP", 17, 40000, 5683, []Packet{Up(Unhex("40017d34 bb2e77656c6c2d6b6e6f776e 04636f7265"))}, protocol.COAP, 0, "", 1},
		{"CoAP elsewhere", 17, 40000, 6683, []Packet{Up(Unhex("40017d34 bb2e77656c6c2d6b6e6f776e 04636f7265")), Down(Unhex("60457d34 c128 ff") + "<x>")}, protocol.COAP, 0, "", 2},
		{"DTLS", 17, 40000, 4433, []Packet{Up("\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04abcd")}, protocol.DTLS, 0, "", 1},
	}...)
}

// A connection of the transport over which S7comm goes, asked for and made.
var (
	s7Connect = Unhex("03000016 11e00000000100 c1020100 c2020102 c0010a")
	s7Accept  = Unhex("03000016 11d00001000200 c0010a c1020100 c2020102")
)
