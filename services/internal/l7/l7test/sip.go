package l7test

import (
	"fmt"
	"strings"
)

// A SIPMessage is a SIP message of a test.
type SIPMessage struct {
	Start, CallID, Extra, Body string
}

// String returns the message as it is sent.
func (m SIPMessage) String() string {
	text := m.Start + "\r\nVia: SIP/2.0/TCP pc33.example.com\r\n" + m.Extra + m.CallID + "\r\n"
	if m.Body != "" {
		text += "Content-Type: application/sdp\r\n"
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(m.Body)) + m.Body
}

// Invite builds an INVITE of a call with a body of SDP, or none.
func Invite(id, body string) string {
	return SIPMessage{"INVITE sip:bob@example.com SIP/2.0", "Call-ID: " + id, "", body}.String()
}

// SDP builds a session description for an address.
func SDP(addr string, media ...string) string {
	return "v=0\r\no=- 1 1 IN IP4 " + addr + "\r\ns=-\r\nc=IN IP4 " + addr + "\r\nt=0 0\r\n" + strings.Join(media, "\r\n") + "\r\n"
}
