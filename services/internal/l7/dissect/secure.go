package dissect

import (
	"bytes"

	"galvo/services/internal/l7/protocol"
)

// secureNames says how a protocol that has a name of its own inside TLS is called there, and at which ports it is so from the first byte. That it is TLS follows from the payload; the
// port only says whose it is.
var secureNames = [...]struct {
	plain, secure protocol.ID
	ports         []uint16
}{
	{protocol.SMTP, protocol.SMTPS, []uint16{465}},
	{protocol.IMAP, protocol.IMAPS, []uint16{993}},
	{protocol.POP3, protocol.POPS, []uint16{995}},
	{protocol.FTP, protocol.FTPS, []uint16{990}},
}

// secured returns the name that a protocol has inside TLS, 0 if it has none of its own.
func secured(proto protocol.ID) protocol.ID {
	for i := range secureNames {
		if secureNames[i].plain == proto || secureNames[i].secure == proto {
			return secureNames[i].secure
		}
	}
	return 0
}

// securedBy names what TLS carries by the server's port, where nothing else did.
func securedBy(v *Payload, a Answer) Answer {
	for i := range secureNames {
		for _, port := range secureNames[i].ports {
			if v.on(port) {
				a.Proto = secureNames[i].secure
				return a
			}
		}
	}
	if a.App == 0 && len(a.Host) == 0 && v.on(853) { // RFC 7858
		a.App = protocol.DoHDoT
	}
	return a
}

// alpnNames are what a client can offer to speak (the registry of RFC 7301), and who speaks it.
var alpnNames = []struct {
	offer string
	name  string
}{
	{"dot", "DoH_DoT"}, {"doq", "DoH_DoT"}, {"doq-i11", "DoH_DoT"}, {"doq-i03", "DoH_DoT"}, {"doq-i02", "DoH_DoT"}, {"doq-i00", "DoH_DoT"},
	{"xmpp-client", "Jabber"}, {"xmpp-server", "Jabber"}, {"mqtt", "MQTT"}, {"coap", "COAP"}, {"postgresql", "PostgreSQL"}, {"irc", "IRC"}, {"nntp", "Usenet"},
	{"nnsp", "Usenet"}, {"tds/8.0", "MsSQL-TDS"}, {"radius/1.0", "Radius"}, {"radius/1.1", "Radius"}, {"stun.turn", "STUN"}, {"imap", "IMAP"}, {"pop3", "POP3"},
	{"ftp", "FTP_CONTROL"}, {"apns-security-v1", "ApplePush"}, {"apns-security-v2", "ApplePush"}, {"apns-security-v3", "ApplePush"}, {"apns-pack-v1", "ApplePush"},
	{"bep/1.0", "Syncthing"}, {"anydesk", "AnyDesk"}, {"managesieve", "ManageSieve"}, {"openvpn", "OpenVPN"}, {"amqp", "AMQP"}, {"sip/2", "SIP"}, {"smb", "SMBv23"}, {"sunrpc", "NFS"},
}

// alpnIDs is alpnNames by offer. What the table of names does not have is left out.
var alpnIDs = onceMap(func(add func(string, string)) {
	for _, n := range alpnNames {
		add(n.offer, n.name)
	}
})

// alpnApp returns what the first of the offers that the table knows stands for, or 0. offers has each name behind its length.
func alpnApp(offers []byte) protocol.ID {
	ids := alpnIDs()
	for len(offers) > 0 {
		n := int(offers[0])
		if 1+n > len(offers) {
			return 0
		}
		offer := offers[1 : 1+n]
		if id := ids[string(offer)]; id != 0 {
			return id
		}
		if i := bytes.IndexByte(offer, '/'); i > 0 { // a program's name, and its version
			if id := ids[string(offer[:i])]; id != 0 {
				return id
			}
		}
		offers = offers[1+n:]
	}
	return 0
}
