package l7

import (
	"testing"
)

// FuzzEngine plays packets with any payloads on few flows, lost, cut off and out of order, and checks what never may happen: a verdict that is taken back, and
// a store that loses its books.
func FuzzEngine(f *testing.F) {
	for _, c := range conversations() {
		var script []byte
		for _, p := range c.packets {
			script = append(script, byte(len(p.payload)), byte(len(p.payload)>>8), 0)
			script = append(script, p.payload...)
		}
		f.Add(script, c.proto == 6, c.b)
	}
	f.Fuzz(func(t *testing.T, script []byte, stream bool, port uint16) {
		l := newLab(Config{Bytes: 4 * slotSize})
		proto := byte(17)
		if stream {
			proto = 6
		}
		seen := make(map[uint64]Verdict)
		for len(script) >= 3 {
			n, how := int(script[0])|int(script[1])<<8, script[2]
			script = script[3:]
			n = min(n, len(script), 1400)
			s := packetSpec{payload: string(script[:n]), back: how&1 != 0, flags: how & 2}
			if how&4 != 0 {
				s.skip = uint32(how)
			}
			if how&8 != 0 {
				s.seq = uint32(how) << 20
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
	if err := l.engine.store.check(); err != nil {
		t.Fatal(err)
	}
}
