package protocol

import "testing"

// TestNumbers holds the numbers that code uses against the names that the files give them.
func TestNumbers(t *testing.T) {
	for id, name := range map[ID]string{
		SMTP: "SMTP", FTP: "FTP_CONTROL", POP3: "POP3", IMAP: "IMAP", SMTPS: "SMTPS", IMAPS: "IMAPS", POPS: "POPS", FTPS: "FTPS", DoHDoT: "DoH_DoT", WireGuard: "WireGuard", SOCKS: "SOCKS",
		DNSCrypt: "DNScrypt", MPEGDASH: "MpegDash", WebSocket: "WebSocket", WebDAV: "WebDAV", SOAP: "SOAP", HLS: "HLS", HTTPConnect: "HTTP_Connect",
		HTTPProxy: "HTTP_Proxy", IPP: "IPP", IceCast: "IceCast", JSONRPC: "JSON-RPC", Git: "Git", RPCOverHTTP: "MS-RPCH", OCSP: "OCSP", Ookla: "Ookla",
		Zoom: "Zoom", SkypeCall: "Skype_TeamsCall", WhatsAppCall: "WhatsAppCall", RDP: "RDP", BitTorrent: "BitTorrent", S7Comm: "S7Comm", DNP3: "DNP3", LDAP: "LDAP", NFS: "NFS",
		RakNet: "RakNet", Ethereum: "ETHEREUM", ONCRPC: "ONC-RPC", GlusterFS: "GlusterFS", OpenVPN: "OpenVPN", Tor: "Tor", SRTP: "SRTP",
	} {
		if got := Name(id); got != name {
			t.Errorf("%d is %s, not %s", id, got, name)
		}
	}
}
