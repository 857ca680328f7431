package flow

import (
	"encoding/binary"
	"testing"

	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// FuzzFind takes a run of frames, each after its length and the seconds since the one before, in a table without spare room. Every flow must
// have the addresses of the packet that it was found for.
func FuzzFind(f *testing.F) {
	for seed := range uint64(20) {
		var run []byte
		for _, frame := range packettest.Mix(seed, 30, 400) {
			run = append(run, byte(min(len(frame), 250)), byte(seed))
			run = append(run, frame[:min(len(frame), 250)]...)
		}
		f.Add(run)
	}
	f.Fuzz(func(t *testing.T, run []byte) {
		table := New(Config{Flows: 1024, Fragments: 8})
		var now int64
		for len(run) >= 2 {
			n := min(int(run[0]), len(run)-2)
			now += int64(run[1]) * 1e9
			p := &packet.Packet{Frame: packet.Frame{Data: run[2 : 2+n], Len: uint32(n), Time: now}}
			run = run[2+n:]
			p.Decode(packet.LinkEthernet)
			table.Begin()
			ref := table.Find(p)
			checkSender(t, ref.Outer, ref.OuterFrom, p)
			if table.Innermost(p) != p {
				checkSender(t, ref.Flow, ref.From, table.Innermost(p))
			}
		}
	})
}

func checkSender(t *testing.T, r *Record, from Endpoint, p *packet.Packet) {
	if r == nil {
		return
	}
	var want uint32
	if p.Layers&packet.IPv4 != 0 {
		want = p.Src4()
	} else {
		hi, _ := p.Src6()
		want = uint32(hi >> 32)
	}
	if got := binary.BigEndian.Uint32(r.Addr[from][:]); got != want || r.Flags&Ended != 0 {
		t.Fatalf("a packet from %#x has the flow %+v", want, r)
	}
}
