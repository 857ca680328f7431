package l7

import (
	"testing"
	"time"

	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// TestMediaOfAnotherWorker: what SDP announced to one worker decides at the first packet that another one sees, as if one had seen both. Control and media that do not
// come by RTP are not meant, nor what was announced long ago.
func TestMediaOfAnotherWorker(t *testing.T) {
	for _, c := range []struct {
		media string
		port  uint16
		after time.Duration
		state State
		app   protocol.ID
	}{
		{"m=audio 4000 RTP/AVP 0", 4000, 0, Final, 0},
		{"m=audio 4000 RTP/SAVP 0", 4000, 0, Final, protocol.SRTP},
		{"m=audio 4000 RTP/AVP 0", 4001, 0, Pending, 0},
		{"m=image 4000 udptl t38", 4000, 0, Pending, 0},
		{"m=audio 4000 RTP/AVP 0", 4000, 2 * time.Hour, Pending, 0},
	} {
		calls := call.NewTable(1 << 16)
		one, other := newLab(Config{Calls: calls}), newLab(Config{Calls: calls})
		one.send(17, 5060, 5060, l7test.Up(l7test.Invite("a@b", l7test.SDP("10.0.0.1", c.media))))
		other.now = one.now + int64(c.after)
		if v := other.send(17, c.port, 6000, l7test.Up(l7test.RTPPacket(1, 7))); v.State != c.state || v.App != c.app || v.State == Final && v.Proto != protocol.RTP {
			t.Errorf("%s, port %d, after %v: %s/%s %v", c.media, c.port, c.after, protocol.Name(v.Proto), protocol.Name(v.App), v.State)
		}
	}
}

// TestSecureMedia: a packet of RTP at an endpoint that SDP announced with a secure profile carries SRTP.
func TestSecureMedia(t *testing.T) {
	for profile, want := range map[string]protocol.ID{"RTP/AVP": 0, "RTP/SAVP": protocol.SRTP, "UDP/TLS/RTP/SAVPF": protocol.SRTP} {
		l := newLab(Config{Bytes: 1 << 20})
		l.send(17, 5060, 5060, l7test.Up(l7test.Invite("a@b", l7test.SDP("10.0.0.1", "m=audio 4000 "+profile+" 0"))))
		if v := l.send(17, 4000, 6000, l7test.Up(l7test.RTPPacket(1, 7))); v.Proto != protocol.RTP || v.App != want || v.State != Final || !v.Is(protocol.RTP) {
			t.Errorf("%s: %s/%s %v", profile, protocol.Name(v.Proto), protocol.Name(v.App), v.State)
		}
	}
}
