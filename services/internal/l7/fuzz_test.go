package l7

import (
	"testing"

	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/store"
)

// FuzzEngine plays packets with any payloads on few flows, lost, cut off and out of order, and checks what never may happen: a verdict that is taken back, and
// a store that loses its books.
func FuzzEngine(f *testing.F) {
	for _, c := range l7test.Conversations() {
		var script []byte
		for _, p := range c.Packets {
			script = append(script, byte(len(p.Payload)), byte(len(p.Payload)>>8), 0)
			script = append(script, p.Payload...)
		}
		f.Add(script, c.Proto == 6, c.B)
	}
	f.Fuzz(func(t *testing.T, script []byte, stream bool, port uint16) {
		l := newLab(Config{Bytes: 4 * store.SlotSize})
		proto := byte(17)
		if stream {
			proto = 6
		}
		seen := make(map[uint64]Verdict)
		for len(script) >= 3 {
			n, how := int(script[0])|int(script[1])<<8, script[2]
			script = script[3:]
			n = min(n, len(script), 1400)
			s := l7test.Packet{Payload: string(script[:n]), Back: how&1 != 0, Flags: how & 2}
			if how&4 != 0 {
				s.Skip = uint32(how)
			}
			if how&8 != 0 {
				s.Seq = uint32(how) << 20
			}
			l.snap = int(how&0x30) * 20
			script = script[n:]
			v := l.send(proto, 1000+uint16(how>>6), port, s)
			if l.last == nil {
				continue
			}
			old := seen[l.last.ID]
			if old.Proto != 0 && !v.Is(old.Proto) || old.State == Final && v != old || old.State == Unknown && v != old {
				t.Fatalf("%v became %v", old, v)
			}
			seen[l.last.ID] = v
			l.engine.HostName(l.last)
		}
		for r := range l.table.All() {
			l.engine.Finish(r)
			l.engine.End(r)
		}
		l.checkStore(t)
	})
}

// checkStore checks that all slots and blocks are back, each once.
func (l *lab) checkStore(t *testing.T) {
	t.Helper()
	l.engine.Begin()
	if err := l.engine.store.Check(); err != nil {
		t.Fatal(err)
	}
}
