package l7

import (
	"testing"

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
		whole.send(6, 40000, port, syn)
		want := whole.send(6, 40000, port, up(sample))
		for _, first := range []int{1, 2, 4, 8, 12} {
			if first >= len(sample) {
				break
			}
			l := newLab(Config{})
			l.send(6, 40000, port, syn)
			l.send(6, 40000, port, up(sample[:first]))
			if got := l.send(6, 40000, port, up(sample[first:])); !got.Is(want.Proto) {
				t.Errorf("%s: behind its first %d bytes %.40q is %s %v, and in one piece %s", protocol.Name(protocol.ID(s.Proto)), first, sample, protocol.Name(got.Proto), got.State, protocol.Name(want.Proto))
			}
		}
	}
	for _, c := range conversations() {
		if c.proto != 6 || len(c.packets) == 0 || c.packets[0].flags != 2 || c.want == protocol.Threema { // that is known by the lengths of what is written
			continue
		}
		for _, first := range []int{1, 4, 10} {
			l := newLab(Config{})
			var seen [2]bool
			var got Verdict
			for _, p := range c.packets {
				side := 0
				if p.back {
					side = 1
				}
				if n := len(p.payload); n > first && !seen[side] {
					seen[side] = true
					head := p
					head.payload, p.payload = p.payload[:first], p.payload[first:]
					l.send(c.proto, c.a, c.b, head)
				}
				got = l.send(c.proto, c.a, c.b, p)
			}
			if !got.Is(c.want) {
				t.Errorf("%s, the first %d bytes apart: %s %v; want %s", c.what, first, protocol.Name(got.Proto), got.State, protocol.Name(c.want))
			}
		}
	}
}
