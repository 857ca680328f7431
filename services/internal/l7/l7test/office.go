package l7test

import (
	"strings"

	"galvo/services/internal/l7/protocol"
)

// officeConversations are those of the dissectors that need more than a signature.
func officeConversations() []Conversation {
	rpc := func(program, version, procedure, rest string) string {
		return Unhex("11223344 00000000 00000002") + program + version + procedure + strings.Repeat("\x00", 16) + rest
	}
	one, three := "\x00\x00\x00\x01", "\x00\x00\x00\x03"
	mount := rpc("\x00\x01\x86\xa5", three, one, "")
	client := "\x38" + "12345678" + "\x00\x00\x00\x00\x00"
	crypt := func(kind byte, id string, n int) string {
		return string(kind) + id + "\x0f\x00\x00\x01" + "\x62\x5a\x9e\x97" + strings.Repeat("e", n)
	}
	reset := "\x40" + "abcdefgh" + "\x01\x00\x00\x00\x00" + "12345678" + "\x00\x00\x00\x00"
	utp := func(kind byte, id int, seq, ack int, data string) string {
		return string(kind<<4|1) + "\x00" + U16(id) + "\xed\x63\x92\x96" + "\x00\x00\x00\x00" + "\x00\x10\x00\x00" + U16(seq) + U16(ack) + data
	}
	ping := strings.Repeat("h", 32) + strings.Repeat("s", 64) + "\x01\x01" + "\xce\x04\xc5\x84\x0a\x00\x00\x01\x80\xc0\x84abcd"
	pong := strings.Repeat("h", 32) + strings.Repeat("s", 64) + "\x00\x02" + "\xc7\xc0\x80\x84abcd"
	frame := func(number string) string { return "\x84" + number + "\x00\x00\x20abcd" }
	return []Conversation{
		{"mount", 17, 800, 1048, []Packet{Up(mount)}, protocol.NFS, 0, "", 1},
		{"mount over TCP", 6, 800, 1048, []Packet{SYN, SYNACK, Up("\x80\x00\x00\x28" + mount)}, protocol.NFS, 0, "", 3},
		{"where is mount", 17, 800, 111, []Packet{Up(rpc("\x00\x01\x86\xa0", "\x00\x00\x00\x02", three, "\x00\x01\x86\xa5"+three+"\x00\x00\x00\x11\x00\x00\x00\x00"))}, protocol.NFS, 0, "", 1},
		{"where is another program", 17, 800, 111, []Packet{Up(rpc("\x00\x01\x86\xa0", "\x00\x00\x00\x02", three, "\x00\x01\x86\xa4"+three+"\x00\x00\x00\x11\x00\x00\x00\x00"))}, protocol.ONCRPC, 0, "", 1},
		{"LDAP", 6, 40000, 389, []Packet{SYN, SYNACK, Up("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00")}, protocol.LDAP, 0, "", 3},
		{"LDAP in the middle, long form", 6, 40000, 3268, []Packet{Up("\x30\x84\x00\x00\x00\x0d\x02\x02\x01\x07\x60\x07\x02\x01\x03\x04\x00\x80\x00")}, protocol.LDAP, 0, "", 1},
		{"CLDAP", 17, 40000, 389, []Packet{Up("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00")}, protocol.LDAP, 0, "", 1},
		{"CoAP", 17, 40000, 5683, []Packet{Up("\x43\x01\x05\xca\x72\x16\x33\xbb.well-known\x04core")}, protocol.COAP, 0, "", 1},
		{"CoAP at another port", 17, 40000, 5000, []Packet{Up("\x43\x01\x05\xca\x72\x16\x33\xbb.well-known\x04core"), Down("\x63\x45\x05\xca\x72\x16\x33\xff</a>")}, protocol.COAP, 0, "", 2},
		{"OpenVPN", 17, 40000, 1194, []Packet{Up(client)}, protocol.OpenVPN, 0, "", 1},
		{"OpenVPN over TCP", 6, 40000, 443, []Packet{SYN, SYNACK, Up("\x00\x0e" + client)}, protocol.OpenVPN, 0, "", 3},
		{"OpenVPN's server", 17, 40000, 1194, []Packet{Down(reset)}, protocol.OpenVPN, 0, "", 1},
		{"OpenVPN, encrypted control channel", 17, 40000, 1194, []Packet{Up(crypt(0x50, "12345678", 330)), Down(crypt(0x40, "abcdefgh", 55))}, protocol.OpenVPN, 0, "", 2},
		{"ESP behind a NAT, one direction", 17, 40000, 4500, []Packet{Up("\x12\x34\x56\x78\x00\x00\x07\x01" + strings.Repeat("e", 40)), Up("\x12\x34\x56\x78\x00\x00\x07\x03" + strings.Repeat("f", 60))},
			protocol.IPSec, 0, "", 2},
		{"ESP behind a NAT", 17, 4500, 4500, []Packet{Up("\x12\x34\x56\x78\x00\x00\x07\x01" + strings.Repeat("e", 40)), Down("\x87\x65\x43\x21\x00\x00\x00\x09" + strings.Repeat("e", 40)),
			Up("\x12\x34\x56\x78\x00\x00\x07\x02" + strings.Repeat("e", 40))}, protocol.IPSec, 0, "", 3},
		{"WireGuard in the middle, one direction", 17, 40000, 51820, []Packet{Up("\x04\x00\x00\x00abcd\x09\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("w", 16)),
			Up("\x04\x00\x00\x00abcd\x0a\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("v", 64))}, protocol.WireGuard, 0, "", 2},
		{"WireGuard in the middle", 17, 40000, 51820, []Packet{Up("\x04\x00\x00\x00abcd\x09\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("w", 16)),
			Down("\x04\x00\x00\x00efgh\x07\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("v", 64))}, protocol.WireGuard, 0, "", 2},
		{"Skype's own network", 17, 40000, 40001, []Packet{Up("\x12\x34\x02" + strings.Repeat("\xe7", 25)), Down("\x12\x34\x57\x2e\x01\x02\x03abcd")}, protocol.SkypeCall, 0, "", 2},
		{"uTP", 17, 40000, 6881, []Packet{Up(utp(4, 777, 1, 0, "")), Down(utp(2, 777, 9, 1, ""))}, protocol.BitTorrent, 0, "", 2},
		{"uTP in the middle", 17, 40000, 6881, []Packet{Up(utp(0, 777, 5, 2, "data")), Down(utp(2, 776, 9, 5, "")), Up(utp(0, 777, 6, 2, "data")), Down(utp(2, 776, 9, 6, ""))}, protocol.BitTorrent, 0, "", 4},
		{"ping of Ethereum", 17, 40000, 40001, []Packet{Up(ping)}, protocol.Ethereum, 0, "", 1},
		{"pongs of Ethereum", 17, 40000, 40001, []Packet{Down(pong), Up(pong)}, protocol.Ethereum, 0, "", 2},
		{"RakNet", 17, 40000, 40001, []Packet{Up(frame("\x01\x00\x00")), Down("\xc0\x00\x01\x01\x01\x00\x00")}, protocol.RakNet, 0, "", 2},
	}
}
