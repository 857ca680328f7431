package l7test

import (
	"strings"

	"galvo/services/internal/l7/protocol"
)

// webConversations are those of the web: whose a name, a certificate or a request is.
func webConversations() []Conversation {
	nameless := TLSRecord(22, strings.Replace(ClientHello("www.example.com", 9), "\x00\x00\x00\x14\x00\x12\x00", "\x00\x15\x00\x14\x00\x12\x00", 1))
	flight := ServerFlight(Certificate("*.facebook.com", "Example", "www.example.com"))
	quic := ClientHello("quic.example.com", 16)
	return []Conversation{
		{"TLS without a name", 6, 40000, 4433, []Packet{SYN, SYNACK, Up(nameless), Down(flight[:120]), Down(flight[120:])}, protocol.TLS, AppNamed("Facebook"), "", 5},
		{"TLS without a name in two segments", 6, 40000, 4433, []Packet{SYN, SYNACK, Up(nameless[:70]), Up(nameless[70:]), Down(flight[:120]), Down(flight[120:])}, protocol.TLS, AppNamed("Facebook"), "", 6},
		{"TLS of AnyDesk", 6, 40000, 7070, []Packet{SYN, SYNACK, Up(nameless), Down(ServerFlight(Certificate("AnyDesk Client", "x", "y")))}, protocol.TLS, AppNamed("AnyDesk"), "", 4},
		{"TLS by alternative name", 6, 40000, 443, []Packet{SYN, SYNACK, Up(nameless), Down(ServerFlight(Certificate("x", "y", "*.zoom.us")))}, protocol.TLS, AppNamed("Zoom"), "", 4},
		{"Tor", 6, 40000, 9001, []Packet{SYN, SYNACK, Up(TLSRecord(22, ClientHello("www.k3jx7qabz5.com", 9))), Down(ServerFlight(torCertificate()))}, protocol.TLS, protocol.Tor, "www.k3jx7qabz5.com", 4},
		{"not Tor", 6, 40000, 9001, []Packet{SYN, SYNACK, Up(TLSRecord(22, ClientHello("www.example.com", 9))), Down(flight)}, protocol.TLS, 0, "www.example.com", 3},
		{"DTLS with a name", 17, 40000, 4433, []Packet{Up(DTLSHello("a.nvidiagrid.net"))}, protocol.DTLS, AppNamed("GeForceNow"), "a.nvidiagrid.net", 1},
		{"TLS of an application", 6, 40000, 443, []Packet{SYN, SYNACK, Up(TLSRecord(22, ClientHello("www.youtube.com", 9)))}, protocol.TLS, AppNamed("YouTube"), "www.youtube.com", 3},
		{"IMAP in TLS", 6, 40000, 993, []Packet{SYN, SYNACK, Up(TLSRecord(22, ClientHello("imap.gmail.com", 9)))}, protocol.IMAPS, AppNamed("GMail"), "imap.gmail.com", 3},
		{"DNS in TLS", 6, 40000, 853, []Packet{SYN, SYNACK, Up(nameless)}, protocol.TLS, protocol.DoHDoT, "", 3},
		{"DNS of an application", 17, 40000, 53, []Packet{Up(strings.Replace(DNSQuery, "\x07example", "\x09instagram", 1))}, protocol.DNS, AppNamed("Instagram"), "www.instagram.com", 1},
		{"DNSCrypt certificate", 17, 40000, 443, []Packet{Up(strings.Replace(DNSQuery, "\x03WWW", "\x012\x0ddnscrypt-cert", 1))}, protocol.DNS, protocol.DNSCrypt, "2.dnscrypt-cert.example.com", 1},
		{"WebDAV", 6, 40000, 80, []Packet{SYN, SYNACK, Up("PROPFIND /a HTTP/1.1\r\nHost: a.example\r\n\r\n")}, protocol.HTTP, protocol.WebDAV, "a.example", 3},
		{"WebSocket", 6, 40000, 80, []Packet{SYN, SYNACK, Up("GET /a HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n")}, protocol.HTTP, protocol.WebSocket, "a.example", 3},
		{"proxy", 6, 40000, 3128, []Packet{SYN, SYNACK, Up("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")}, protocol.HTTPConnect, 0, "a.example", 3},
		{"HTTP with a proxy", 6, 40000, 3128, []Packet{SYN, SYNACK, Up("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")}, protocol.HTTPProxy, 0, "a.example", 3},
		{"OCSP", 6, 40000, 80, []Packet{SYN, SYNACK, Up("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/ocsp-request\r\n\r\n")}, protocol.HTTP, protocol.OCSP, "a.example", 3},
		{"DASH", 6, 40000, 80, []Packet{SYN, SYNACK, Up("GET /v/manifest.mpd HTTP/1.1\r\nHost: a.example\r\n\r\n")}, protocol.HTTP, protocol.MPEGDASH, "a.example", 3},
		{"STUN of a realm", 17, 40000, 3478, []Packet{Up(STUNRequest("\x00\x14\x00\x0ctelegram.org"))}, protocol.STUN, AppNamed("TelegramVoip"), "telegram.org", 1},
		{"STUN of WhatsApp", 17, 40000, 3478, []Packet{Up(STUNRequest("\x40\x00\x00\x03abc"))}, protocol.STUN, protocol.WhatsAppCall, "", 1},
		{"STUN of Zoom", 17, 40000, 3478, []Packet{Up("\x00\x01\x00\x18" + strings.Repeat("t", 16) + "\x01\x01\x00\x14" + strings.Repeat("1", 20))}, protocol.STUN, protocol.Zoom, "", 1},
		{"TLS of Apple's push, by what it offers", 6, 40000, 5223, []Packet{SYN, SYNACK, Up(TLSRecord(22, helloOffering("apns-security-v3")))}, protocol.TLS, AppNamed("ApplePush"), "www.example.com", 3},
		{"TLS of a version of AnyDesk, by what it offers", 6, 40000, 443, []Packet{SYN, SYNACK, Up(TLSRecord(22, helloOffering("anydesk/7.1.7/linux")))}, protocol.TLS, AppNamed("AnyDesk"), "www.example.com", 3},
		{"request to a tracker", 6, 40000, 80, []Packet{SYN, SYNACK, Up("GET /announce?port=6881&info_hash=%12%34 HTTP/1.1\r\nHost: a.example\r\n\r\n")}, protocol.HTTP, protocol.BitTorrent, "a.example", 3},
		{"HLS with a token", 6, 40000, 80, []Packet{SYN, SYNACK, Up("GET /live/index.m3u8?token=1 HTTP/1.1\r\nHost: a.example\r\n\r\n")}, protocol.HTTP, protocol.HLS, "a.example", 3},
		{"QUIC of an experimental mvfst, with the salt that is tried second", 17, 40000, 443, []Packet{Up(QUICInitial(0xfaceb00f, "connection", 0, CryptoFrame(0, quic))),
			Up(QUICInitial(0xfaceb00f, "connection", 1, CryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC 2 of the draft", 17, 40000, 443, []Packet{Up(QUICInitial(0x709a50c4, "connection", 0, CryptoFrame(0, quic)))}, protocol.QUIC, 0, "quic.example.com", 1},
		{"QUIC of Google with TLS", 17, 40000, 443, []Packet{Up(QUICInitial(0x54303531, "connection", 0, "\x08"+CryptoFrame(0, quic)[1:]))}, protocol.QUIC, 0, "quic.example.com", 1},
	}
}

// helloOffering builds a ClientHello that wants to speak a protocol.
func helloOffering(protocol string) string {
	n := 3 + len(protocol)
	padding := "\x00\x15" + U16(n) + strings.Repeat("\x00", n)
	return strings.Replace(ClientHello("www.example.com", n), padding, "\x00\x10"+U16(n)+U16(n-2)+string([]byte{byte(len(protocol))})+protocol, 1)
}

// AppNamed returns the number of a name of the table.
func AppNamed(name string) protocol.ID {
	id, _ := protocol.Lookup(name)
	return id
}

// STUNRequest builds a request with attributes.
func STUNRequest(attributes string) string {
	return "\x00\x01" + U16(len(attributes)) + "\x21\x12\xa4\x42abcdefghijkl" + attributes
}

// torCertificate builds one as Tor does.
func torCertificate() []byte {
	name := func(text string) string {
		return DER(0x30, DER(0x31, DER(0x30, DER(6, "\x55\x04\x03"), DER(0x0c, text))))
	}
	tbs := DER(0x30, DER(0xa0, DER(2, "\x02")), DER(2, "\x01"), DER(0x30), name("www.abcdefgh2.com"), DER(0x30), name("www.zyxwvu7654.net"), DER(0x30))
	cert := DER(0x30, tbs, DER(0x30), DER(3, "sig"))
	one := "\x00" + U16(len(cert)) + cert
	return []byte("\x00" + U16(len(one)) + one)
}

// DTLSHello builds a ClientHello of DTLS 1.2 with a server's name.
func DTLSHello(name string) string {
	message := ClientHello(name, 9)
	body := message[4:]
	body = body[:34+33] + "\x00" + body[34+33:] // an empty cookie behind the session
	n := "\x00" + U16(len(body))
	message = "\x01" + n + "\x00\x00\x00\x00\x00" + n + body
	return "\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00" + U16(len(message)) + message
}
