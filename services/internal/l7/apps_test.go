package l7

import (
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// TestSecured: what is another protocol inside TLS is that protocol, and TLS.
func TestSecured(t *testing.T) {
	if v := (Verdict{Proto: protocol.SMTPS, State: Final}); !v.Is(protocol.SMTP) || !v.Is(protocol.TLS) || v.Is(protocol.IMAP) {
		t.Error("SMTPS is SMTP and TLS")
	}
}

// TestCallGoesOn has a client that tells a server whose call it is, and then looks for a peer from the same port, and for one that the server named.
func TestCallGoesOn(t *testing.T) {
	l := newLab(Config{})
	l.send(17, 40000, 3478, l7test.Up(l7test.STUNRequest("\x00\x14\x00\x0ctelegram.org")))
	l.send(17, 40000, 3478, l7test.Up(l7test.STUNRequest("\x00\x12\x00\x08\x00\x01"+l7test.U16(5000^0x2112)+"\x2b\x12\xa4\x40"))) // 10.0.0.2:5000
	for _, ports := range [2][2]uint16{{40000, 41000}, {42000, 5000}} {
		if v := l.send(17, ports[0], ports[1], l7test.Up(l7test.STUNRequest(""))); protocol.Name(v.App) != "TelegramVoip" || v.State != Final {
			t.Errorf("port %d to %d: %s %v", ports[0], ports[1], protocol.Name(v.App), v.State)
		}
	}
	if v := l.send(17, 43000, 44000, l7test.Up(l7test.STUNRequest(""))); v.App != 0 {
		t.Errorf("another call: %s", protocol.Name(v.App))
	}
}

// TestGuessByAddress has DNS tell whose an address is, and a flow to it that says nothing.
func TestGuessByAddress(t *testing.T) {
	l := newLab(Config{Guess: true})
	answer := "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03www\x07spotify\x03com\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x02"
	l.send(17, 40000, 53, l7test.Down(answer))
	var v Verdict
	for range 12 {
		v = l.send(6, 40000, 7000, l7test.Up("????"))
	}
	if protocol.Name(v.Proto) != "Spotify" || v.State != Guessed {
		t.Errorf("%s %v", protocol.Name(v.Proto), v.State)
	}
}
