package dissect

import (
	"cmp"
	"encoding/binary"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
)

// inspectSTUN knows STUN by its magic cookie (RFC 8489 section 5), or in its first form (RFC 3489) by attributes that fill the message. Attributes may tell
// whose it is. What comes on the same flow may be RTP or DTLS: then the flow carries that.
func inspectSTUN(v *Payload) Answer {
	b := v.Data
	partly := v.Carrier != 0
	if v.TCP && len(b) >= 22 && int(binary.BigEndian.Uint16(b)) >= 20 && binary.BigEndian.Uint32(b[6:]) == stunCookie {
		b = b[2:] // RFC 4571 framing, as ICE over TCP has it
	}
	if !isSTUN(v, b) {
		if partly {
			return inspectBehindSTUN(v)
		}
		return Answer{}
	}
	a := readSTUN(v, b)
	if a.App != 0 {
		announceCall(v, a.App)
		a.Outcome = Final
		return a
	}
	if x := v.Expected(); x != nil && x.Proto == protocol.STUN {
		return Answer{Outcome: Final, App: x.App}
	}
	a.Outcome = Carrier
	return a
}

const stunCookie = 0x2112a442

// isSTUN reports whether b is a message of STUN.
func isSTUN(v *Payload, b []byte) bool {
	if len(b) < 20 || b[0]&0xc0 != 0 {
		return false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n+20 > len(b) && !v.Cut {
		return false
	}
	if binary.BigEndian.Uint32(b[4:]) == stunCookie {
		return n%4 == 0 || n+20 == len(b) // WhatsApp does not pad
	}
	return !v.TCP && n%4 == 0 && n+20 == len(b) && (n != 0 || v.on(3478)) && stunMethod(binary.BigEndian.Uint16(b)) && stunAttributes(b[20:])
}

// callLife is how long an endpoint is remembered as a party of an application's calls.
const callLife = 2 * time.Minute

// announceCall notes that the flow's client, and the endpoints that it talks about, use STUN for an application: from the same port it will look for its
// peers without saying for what.
func announceCall(v *Payload, app protocol.ID) {
	client := 1 - v.Flow.Server()
	n := 4
	if v.Flow.Flags&flow.V6 != 0 {
		n = 16
	}
	v.expect(expect.Hint, v.Flow.Addr[client][:n], v.Flow.Port[client], protocol.STUN, app, callLife)
}

// watchSTUN notes the peers that the messages of an application's flow name: from the client to them the same call may go on without the server.
func watchSTUN(v *Payload) {
	b := v.Packet
	app := v.App
	if app == 0 || len(b) < 20 || binary.BigEndian.Uint32(b[4:]) != stunCookie || !isSTUN(v, b) {
		return
	}
	cookie := b[4:20]
	for b = b[20:]; len(b) >= 4; {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if kind == stunPeer && 4+n <= len(b) && (n == 8 || n == 20) {
			var addr [16]byte
			for i := range n - 4 {
				addr[i] = b[8+i] ^ cookie[i]
			}
			v.expect(expect.Hint, addr[:n-4], binary.BigEndian.Uint16(b[6:])^stunCookie>>16, protocol.STUN, app, callLife)
		}
		if n = 4 + (n+3)&^3; n > len(b) {
			return
		}
		b = b[n:]
	}
}

// The attributes that are looked at: RFC 8489 section 18.3, RFC 8656, MS-TURN, MS-ICE2, and those of WhatsApp and Zoom as measurements describe them.
const (
	stunPeer         = 0x0012
	stunRealm        = 0x0014
	stunZoomRequest  = 0x0101
	stunZoomAnswer   = 0x0103
	stunWhatsApp     = 0x4000 // to 0x4003
	stunMSVersion    = 0x8008
	stunMSSequence   = 0x8050
	stunMSCandidate  = 0x8054
	stunMSQuality    = 0x8055
	stunOrigin       = 0x802f
	stunMSImplements = 0x8070
	stunMSMultiplex  = 0x8095
)

// readSTUN goes through the attributes of a message for an application, and for a realm, which is the name of a server.
func readSTUN(v *Payload, b []byte) (a Answer) {
	b = b[20:]
	for len(b) >= 4 {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		value := b[4:min(len(b), 4+n)]
		switch kind {
		case stunRealm, stunOrigin:
			name := value
			if i := lastIndexByte(name, '/'); kind == stunOrigin {
				name = name[i+1:]
			}
			if a.Host == nil && len(name) > 0 && hostLabel(name) {
				a.Host = lowerName(v.scratch(), name)
				a.App = callOf(v.Worker.Owner(a.Host))
			}
		case stunWhatsApp, stunWhatsApp + 1, stunWhatsApp + 2, stunWhatsApp + 3:
			a.App = protocol.WhatsAppCall
		case stunMSVersion, stunMSSequence, stunMSCandidate, stunMSQuality, stunMSImplements, stunMSMultiplex:
			a.App = protocol.SkypeCall
		case stunZoomRequest:
			if n == 20 {
				a.App = protocol.Zoom
			}
		case stunZoomAnswer:
			if n == 8 {
				a.App = protocol.Zoom
			}
		}
		if a.App != 0 && a.Host != nil {
			break
		}
		if n = 4 + (n+3)&^3; n > len(b) {
			break
		}
		b = b[n:]
	}
	return a
}

// callApps are how calls of applications are called.
var callApps = onceMap(func(add func(string, string)) {
	for _, c := range [...][2]string{
		{"Telegram", "TelegramVoip"}, {"Facebook", "FacebookVoip"}, {"FacebookMessenger", "FacebookVoip"}, {"Instagram", "FacebookVoip"}, {"WhatsApp", "WhatsAppCall"},
		{"Signal", "SignalVoip"}, {"Viber", "ViberVoip"}, {"Google", "GoogleCall"}, {"Snapchat", "SnapchatCall"}, {"Skype_Teams", "Skype_TeamsCall"},
		{"Teams", "Skype_TeamsCall"}, {"Microsoft", "Skype_TeamsCall"},
	} {
		add(c[0], c[1])
	}
})

// callOf returns what calls of an application are called, or the application.
func callOf(app protocol.ID) protocol.ID {
	if app == 0 {
		return 0
	}
	if id := callApps()[protocol.Name(app)]; id != 0 {
		return id
	}
	return app
}

func lastIndexByte(b []byte, c byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == c {
			return i
		}
	}
	return -1
}

// inspectBehindSTUN looks for what a flow that began with STUN is for.
func inspectBehindSTUN(v *Payload) Answer {
	hint := v.memory()
	switch {
	case hint == nil, isRTCP(v.Data, v.Cut):
	case v.Data[0] >= tlsCipherSpec && v.Data[0] <= 25:
		if a := inspectDTLS(v); a.Outcome == Final {
			return Answer{Outcome: Final, App: cmp.Or(a.App, protocol.DTLS), Host: a.Host}
		}
	case isRTP(v.Data):
		if a := rtpStream(v, hint); a.Outcome == Final {
			return Answer{Outcome: Final, App: protocol.RTP}
		}
	}
	return Answer{Outcome: Weak}
}

// stunMethod reports whether a message type is one of RFC 3489: binding and shared secret, or Zoom's answer.
func stunMethod(t uint16) bool { return t&^0x0110 == 1 || t&^0x0110 == 2 }

// stunAttributes reports whether b is a list of attributes of RFC 3489 to its end.
func stunAttributes(b []byte) bool {
	for len(b) >= 4 {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		n = (n + 3) &^ 3
		if kind == 0 || kind > 0x30 && kind < 0x8000 && kind != stunZoomRequest && kind != stunZoomAnswer || 4+n > len(b) {
			return false
		}
		b = b[4+n:]
	}
	return len(b) == 0
}
