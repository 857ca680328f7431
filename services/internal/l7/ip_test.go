package l7

import (
	"strings"
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// TestSCTP: the first data with a payload protocol identifier names the association; without data it is SCTP, and stays so at the end.
func TestSCTP(t *testing.T) {
	head := l7test.Unhex("0b59 0b59 00000001 00000000")
	data := func(ppid, user string) string {
		n := 16 + len(user)
		return "\x00\x03" + l7test.U16(n) + l7test.Unhex("00000001 0001 0000") + ppid + user + "\x00\x00\x00"[:(4-n%4)%4]
	}
	m3ua := l7test.Unhex("01 00 0301 00000008")
	for _, c := range []struct {
		what    string
		packets []string
		app     string
		dpi     int
	}{
		{"init only", []string{head + l7test.Unhex("01000014 00000001 00010000 0001 0001 00000001")}, "", 1},
		{"S1AP behind the handshake", []string{head + l7test.Unhex("01000014 00000001 00010000 0001 0001 00000001"), head + l7test.Unhex("0a000008 00000000"), head + data("\x00\x00\x00\x12", "abc")}, "S1AP", 3},
		{"NGAP bundled with an acknowledgement", []string{head + l7test.Unhex("03000010 00000001 00010000 00000000") + data("\x00\x00\x00\x3c", "abcde")}, "NGAP", 1},
		{"M3UA without identifier", []string{head + data("\x00\x00\x00\x00", m3ua)}, "M3UA", 1},
		{"no identifier, and no M3UA", []string{head + data("\x00\x00\x00\x00", m3ua[1:])}, "", 1},
		{"Diameter", []string{head + data("\x00\x00\x00\x2e", "abcd")}, "Diameter", 1},
		{"interleaved data", []string{head + l7test.Unhex("40 03 0015 00000001 0001 0000 00000000 0000001b 61 000000")}, "X2AP", 1},
		{"an identifier that nobody has", []string{head + data("\x77\x00\x00\x00", m3ua)}, "", 1},
	} {
		l := newLab(Config{})
		for _, p := range c.packets {
			l.send(protoSCTP, 0, 0, l7test.Up(p))
		}
		v := l.engine.Finish(l.last)
		if protocol.Name(v.Proto) != "SCTP" || protocol.Name(v.App) != c.app || v.State != Final || DPIPackets(l.last) != c.dpi {
			t.Errorf("%s: %s/%s %v after %d", c.what, protocol.Name(v.Proto), protocol.Name(v.App), v.State, DPIPackets(l.last))
		}
		for _, p := range c.packets {
			for n := range len(p) {
				newLab(Config{}).send(protoSCTP, 0, 0, l7test.Up(p[:n]))
			}
		}
	}
}

// TestIPHead: a flow of an IP protocol is named by the first packet that has the protocol's header, and given up without one.
func TestIPHead(t *testing.T) {
	const nhrp = 54
	head, number := strings.Repeat("\x00", 16)+"\x01\x01\x00\x00", strings.Repeat("\x00", 16)+"\x01\x00\x00\x00"
	l := newLab(Config{})
	if v := l.send(nhrp, 0, 0, l7test.Up(number)); v.State != Pending {
		t.Errorf("by its number it is %s %v, want pending", protocol.Name(v.Proto), v.State)
	}
	if v := l.send(nhrp, 0, 0, l7test.Up(head)); v.State != Final || protocol.Name(v.Proto) != "NHRP" || DPIPackets(l.last) != 2 {
		t.Errorf("by its header it is %s %v after %d packets, want NHRP", protocol.Name(v.Proto), v.State, DPIPackets(l.last))
	}
	l = newLab(Config{})
	for range 40 {
		l.send(nhrp, 0, 0, l7test.Up(number))
	}
	if v := VerdictOf(l.last); v.State != Unknown {
		t.Errorf("after 40 packets without the header it is %v, want unknown", v.State)
	}
}
