package pipeline

import (
	"context"
	"io"
	"net/netip"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/packet/packettest"
)

// ports counts later fragments whose ports are known, and packets with a flow.
type ports struct{ later, flows int }

func (s *ports) Process(b *Batch) {
	for i := range b.Packets {
		if p := &b.Packets[i]; p.Layers&packet.LaterFragment != 0 && p.Ports() {
			s.later++
		}
		if b.Meta[i].Flow != nil || b.Meta[i].Outer != nil {
			s.flows++
		}
	}
}

// TestJoiner finds the ports of later fragments without flows, as many as with them.
func TestJoiner(t *testing.T) {
	var datagram []packet.Frame
	for _, offset := range []int{0, 24} {
		data := packettest.Ethernet(0x0800, packettest.IPFragment(17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 7, uint16(0x2000|offset/8), packettest.UDP(1000, 443, make([]byte, 16))))
		datagram = append(datagram, packet.Frame{Data: data, Len: uint32(len(data)), Iface: 1})
	}
	var with, without ports
	for _, w := range []*Worker{
		{Flows: flow.New(flow.Config{Flows: 1024}), Stages: []Stage{&with}},
		{Joiner: flow.NewJoiner(flow.Config{}), Stages: []Stage{&without}},
	} {
		w.Source = &loop{datagram, 3, io.EOF}
		if err := w.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if without.later != with.later || without.later != 3 || without.flows != 0 || with.flows == 0 {
		t.Errorf("%+v with flows, %+v without", with, without)
	}
}
