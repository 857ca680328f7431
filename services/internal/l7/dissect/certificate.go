package dissect

import (
	"encoding/binary"
	"sync"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
	"galvo/services/internal/l7/text"
)

// onceMap returns a map from words to numbers of the table of names, made at first use of words and names.
func onceMap(fill func(add func(word, name string))) func() map[string]protocol.ID {
	return sync.OnceValue(func() map[string]protocol.ID {
		m := make(map[string]protocol.ID)
		fill(func(word, name string) {
			if id, ok := protocol.Lookup(name); ok {
				m[word] = id
			}
		})
		return m
	})
}

// organisations are what certificates of services say whose they are, in the subject's common name or organisation, where that says more than the name of
// a server.
var organisations = onceMap(func(add func(string, string)) {
	for _, o := range [...][2]string{
		{"AnyDesk Client", "AnyDesk"}, {"AnyNet Relay", "AnyDesk"}, {"AnyNet Root CA", "AnyDesk"}, {"philandro Software GmbH", "AnyDesk"}, {"AnyDesk Software GmbH", "AnyDesk"},
		{"Private Internet Access", "PrivateInternetAccess"}, {"Riot Games, Inc.", "RiotGames"}, {"Riot Games Inc", "RiotGames"}, {"Facebook, Inc.", "Facebook"},
		{"Meta Platforms, Inc.", "Facebook"}, {"WhatsApp Inc.", "WhatsApp"}, {"WhatsApp, Inc.", "WhatsApp"}, {"WhatsApp LLC", "WhatsApp"}, {"Twitter, Inc.", "Twitter"},
		{"Dropbox, Inc", "Dropbox"}, {"Dropbox, Inc.", "Dropbox"}, {"Spotify AB", "Spotify"}, {"Netflix, Inc.", "NetFlix"}, {"TeamViewer GmbH", "TeamViewer"},
		{"TeamViewer Germany GmbH", "TeamViewer"}, {"Slack Technologies, Inc.", "Slack"}, {"Slack Technologies, LLC", "Slack"}, {"Valve Corp.", "Steam"}, {"Valve", "Steam"},
		{"Apple Inc.", "Apple"}, {"Zoom Video Communications, Inc.", "Zoom"}, {"GoTo Group, Inc.", "GoTo"}, {"LogMeIn, Inc.", "GoTo"}, {"Citrix Systems, Inc.", "Citrix"},
		{"Kakao Corp.", "KakaoTalk"}, {"Kakao", "KakaoTalk"}, {"KAKAO Corp.", "KakaoTalk"}, {"LINE Corporation", "Line"}, {"LY Corporation", "Line"}, {"Snap Inc.", "Snapchat"},
		{"Snapchat, Inc.", "Snapchat"}, {"Viber Media S.a.r.l.", "Viber"}, {"Cisco WebEx LLC", "Webex"}, {"Cisco Systems Inc. Webex", "Webex"}, {"GitHub, Inc.", "Github"},
		{"LinkedIn Corporation", "LinkedIn"}, {"Pinterest, Inc.", "Pinterest"}, {"Roblox Corporation", "Roblox"}, {"Epic Games, Inc.", "EpicGames"},
		{"Sony Interactive Entertainment LLC", "Playstation"}, {"Nintendo Co., Ltd.", "Nintendo"}, {"NINTENDO CO., LTD.", "Nintendo"}, {"Salesforce, Inc.", "Salesforce"},
		{"salesforce.com, inc.", "Salesforce"}, {"Yahoo Inc.", "Yahoo"}, {"Yahoo Holdings, Inc.", "Yahoo"}, {"eBay, Inc.", "eBay"}, {"Proton AG", "ProtonVPN"},
		{"Tencent", "Tencent"}, {"Wikimedia Foundation, Inc.", "Wikipedia"}, {"Discord, Inc.", "Discord"}, {"Telegram Messenger", "Telegram"},
		{"FortiClient", "FortiClient"}, {"FortiGate", "FortiClient"},
	} {
		add(o[0], o[1])
	}
})

// inspectServerFlight looks for the server's certificate behind its ServerHello: b begins with the first record. From version 1.3 on the certificate is encrypted, and
// there is nothing to wait for; nor is there when the client has told the name.
func inspectServerFlight(v *Payload, b []byte) Answer {
	room := v.Worker.hello[:0]
	messages := b[5:min(len(b), 5+int(binary.BigEndian.Uint16(b[3:])))]
	if rest := b[5+len(messages):]; len(rest) > 0 {
		messages = joinRecords(b, room)
	}
	open := v.Begun && !v.Cut && len(v.Data) < store.SlotBytes && v.TCP
	for len(messages) >= 4 {
		n := int(messages[1])<<16 | int(binary.BigEndian.Uint16(messages[2:]))
		body := messages[4:min(len(messages), 4+n)]
		switch messages[0] {
		case 2:
			if len(body) == n && newerThan12(body) {
				return Answer{Outcome: Final}
			}
		case 11:
			if app, ok := certificateApp(v, body); ok || len(body) == n {
				return Answer{Outcome: Final, App: app}
			}
			return waitFor(open)
		case 12, 14: // no certificate came
			return Answer{Outcome: Final}
		}
		if len(body) < n {
			break
		}
		messages = messages[4+n:]
	}
	if cipherSpecFollows(b) {
		return Answer{Outcome: Final} // an old session goes on
	}
	return waitFor(open)
}

func waitFor(open bool) Answer {
	if open {
		return Answer{Outcome: Partial}
	}
	return Answer{Outcome: Final}
}

// cipherSpecFollows reports whether a record that ends the clear part of the handshake is among those of b.
func cipherSpecFollows(b []byte) bool {
	for len(b) >= 5 && tlsRecord(b) {
		if b[0] == tlsCipherSpec {
			return true
		}
		n := 5 + int(binary.BigEndian.Uint16(b[3:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return false
}

// newerThan12 reports whether the body of a ServerHello chooses TLS 1.3 or a later version (RFC 8446 section 4.2.1).
func newerThan12(b []byte) bool {
	_, at := vector(b, 34, 1)
	if at < 0 || at+5 > len(b) {
		return false
	}
	for at += 5; at+4 <= len(b); {
		if binary.BigEndian.Uint16(b[at:]) == extVersions {
			return true
		}
		at += 4 + int(binary.BigEndian.Uint16(b[at+2:]))
	}
	return false
}

// certificateApp says whose the server's certificate is, the first one in the body of a Certificate message (RFC 5246 section 7.4.2): by the name of the
// subject, or else by the alternative names. ok is false if it is not all there.
func certificateApp(v *Payload, b []byte) (app protocol.ID, ok bool) {
	if len(b) < 6 {
		return 0, false
	}
	n := int(b[3])<<16 | int(binary.BigEndian.Uint16(b[4:]))
	cert := b[6:min(len(b), 6+n)]
	c := derReader{b: cert}
	c.enter(0x30) // Certificate
	c.enter(0x30) // TBSCertificate
	c.skip(0xa0)  // version, optional
	c.skip(0x02)  // serial number
	c.skip(0x30)  // signature algorithm
	issuer := c.take(0x30)
	c.skip(0x30) // validity
	subject := c.take(0x30)
	if c.short {
		return 0, false
	}
	if torName(onlyName(issuer), ".com") && torName(onlyName(subject), ".net") {
		return protocol.Tor, true
	}
	if name := v.Worker.kept.HostName(v.Flow); len(name) > 0 && !isAddress(name) {
		return 0, true // the client said whom it wants
	}
	if app = subjectApp(v, subject); app != 0 {
		return app, true
	}
	c.skip(0x30) // public key
	c.skip(0xa1)
	c.skip(0xa2)
	c.enter(0xa3) // extensions
	c.enter(0x30)
	for len(c.b) > 0 && !c.short {
		e := derReader{b: c.take(0x30)}
		if string(e.take(0x06)) == "\x55\x1d\x11" { // subjectAltName
			e.skip(0x01)
			return altNameApp(v, e.take(0x04)), true
		}
	}
	return 0, !c.short
}

// subjectApp goes through the attributes of a name: common name and organisation.
func subjectApp(v *Payload, name []byte) protocol.ID {
	orgs := organisations()
	r := derReader{b: name}
	for len(r.b) > 0 && !r.short {
		set := derReader{b: r.take(0x31)}
		pair := derReader{b: set.take(0x30)}
		kind := string(pair.take(0x06))
		if kind != "\x55\x04\x03" && kind != "\x55\x04\x0a" && kind != "\x55\x04\x0b" {
			continue
		}
		value := pair.any()
		if id := orgs[string(value)]; id != 0 {
			return id
		}
		if kind == "\x55\x04\x03" {
			if id := certName(v, value); id != 0 {
				return id
			}
		}
	}
	return 0
}

// torName reports whether a name may be one of those that Tor makes up for its connections: www, random characters of Base32, and a fixed end (tor-spec,
// "TLS certificates").
func torName(name []byte, end string) bool {
	n := len(name) - len(end)
	if n < 8 || n > 4+25 || !text.HasPrefix(name, "www.") || string(name[n:]) != end {
		return false
	}
	for _, c := range name[4:n] {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// onlyName returns the common name of a name that has nothing else, or nil.
func onlyName(name []byte) []byte {
	r := derReader{b: name}
	set := derReader{b: r.take(0x31)}
	pair := derReader{b: set.take(0x30)}
	if kind := pair.take(0x06); len(r.b) != 0 || string(kind) != "\x55\x04\x03" {
		return nil
	}
	return pair.any()
}

// altNameApp goes through the names of servers in a subjectAltName (RFC 5280 section 4.2.1.6).
func altNameApp(v *Payload, b []byte) protocol.ID {
	list := derReader{b: b}
	list.enter(0x30)
	for len(list.b) > 0 && !list.short {
		if list.b[0] != 0x82 {
			list.any()
			continue
		}
		if id := certName(v, list.take(0x82)); id != 0 {
			return id
		}
	}
	return 0
}

// certName returns the application of a server's name, which may begin with "*.".
func certName(v *Payload, name []byte) protocol.ID {
	if text.HasPrefix(name, "*.") {
		name = name[2:]
	}
	return v.Worker.Owner(lowerName(v.scratch(), name))
}

// A derReader reads the elements of DER (X.690) one after the other. short is set when one was not what was asked for, or is not all there; what is
// read after that is empty.
type derReader struct {
	b     []byte
	short bool
}

// take returns the content of the next element, which must have a tag.
func (r *derReader) take(tag byte) []byte {
	if r.short || len(r.b) < 2 || r.b[0] != tag {
		r.short = true
		return nil
	}
	return r.any()
}

// any returns the content of the next element.
func (r *derReader) any() []byte {
	n, at := berLength(r.b, 1)
	if r.short || at < 0 || at+n > len(r.b) {
		r.short = true
		return nil
	}
	content := r.b[at : at+n]
	r.b = r.b[at+n:]
	return content
}

// skip leaves the next element out if it has a tag.
func (r *derReader) skip(tag byte) {
	if len(r.b) > 0 && r.b[0] == tag {
		r.take(tag)
	} else if len(r.b) == 0 {
		r.short = true
	}
}

// enter goes on with the content of the next element, as much of it as is there.
func (r *derReader) enter(tag byte) {
	n, at := berLength(r.b, 1)
	if r.short || at < 0 || r.b[0] != tag {
		r.short = true
		return
	}
	r.b = r.b[at:min(len(r.b), at+n)]
}
