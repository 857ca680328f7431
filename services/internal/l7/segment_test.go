package l7

import (
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// TestSmallSegments plays every TCP signature's sample, and every conversation over TCP, with the first bytes of each side's first message apart: what is written in
// pieces is the same.
func TestSmallSegments(t *testing.T) {
	table := protocol.Signatures()
	for i := range table.Rows {
		s := &table.Rows[i]
		sample := string(s.Samples[0])
		if s.L4&signature.TCP == 0 || s.Both {
			continue
		}
		port := uint16(40001)
		if len(s.Ports) > 0 {
			port = s.Ports[0]
		}
		whole := newLab(Config{})
		whole.send(6, 40000, port, l7test.SYN)
		want := whole.send(6, 40000, port, l7test.Up(sample))
		for _, first := range []int{1, 2, 4, 8, 12} {
			if first >= len(sample) {
				break
			}
			l := newLab(Config{})
			l.send(6, 40000, port, l7test.SYN)
			l.send(6, 40000, port, l7test.Up(sample[:first]))
			if got := l.send(6, 40000, port, l7test.Up(sample[first:])); !got.Is(want.Proto) {
				t.Errorf("%s: behind its first %d bytes %.40q is %s %v, and in one piece %s", protocol.Name(protocol.ID(s.Proto)), first, sample, protocol.Name(got.Proto), got.State, protocol.Name(want.Proto))
			}
		}
	}
	for _, c := range l7test.Conversations() {
		if c.Proto != 6 || len(c.Packets) == 0 || c.Packets[0].Flags != 2 || c.Want == protocol.Threema { // that is known by the lengths of what is written
			continue
		}
		for _, first := range []int{1, 4, 10} {
			l := newLab(Config{})
			var seen [2]bool
			var got Verdict
			for _, p := range c.Packets {
				side := 0
				if p.Back {
					side = 1
				}
				if n := len(p.Payload); n > first && !seen[side] {
					seen[side] = true
					head := p
					head.Payload, p.Payload = p.Payload[:first], p.Payload[first:]
					l.send(c.Proto, c.A, c.B, head)
				}
				got = l.send(c.Proto, c.A, c.B, p)
			}
			if !got.Is(c.Want) {
				t.Errorf("%s, the first %d bytes apart: %s %v; want %s", c.What, first, protocol.Name(got.Proto), got.State, protocol.Name(c.Want))
			}
		}
	}
}
