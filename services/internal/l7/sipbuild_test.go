package l7

import (
	"fmt"
	"strings"
)

// A sipSpec is a SIP message of a test.
type sipSpec struct {
	start, id, extra, body string
}

func (m sipSpec) String() string {
	text := m.start + "\r\nVia: SIP/2.0/TCP pc33.example.com\r\n" + m.extra + m.id + "\r\n"
	if m.body != "" {
		text += "Content-Type: application/sdp\r\n"
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(m.body)) + m.body
}

func invite(id, body string) string {
	return sipSpec{"INVITE sip:bob@example.com SIP/2.0", "Call-ID: " + id, "", body}.String()
}

func sdpBody(addr string, media ...string) string {
	return "v=0\r\no=- 1 1 IN IP4 " + addr + "\r\ns=-\r\nc=IN IP4 " + addr + "\r\nt=0 0\r\n" + strings.Join(media, "\r\n") + "\r\n"
}
