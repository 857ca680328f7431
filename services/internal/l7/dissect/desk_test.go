package dissect

import (
	"testing"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
)

// A desk is a worker with one flow, of which it keeps what dissectors want to keep.
type desk struct {
	worker Worker
	store  store.Store
	slot   uint16
	flow   flow.Record
	notes  [4]byte
	view   Payload
}

func newDesk() *desk {
	d := &desk{store: store.New(1 << 17)}
	d.worker.Open(protocol.BuiltinHosts(), nil, d, 1<<14)
	return d
}

// show makes a payload that begins a new flow, to a port.
func (d *desk) show(data []byte, cut, stream bool, nth uint8, port uint16) *Payload {
	d.store.Release(d.slot, d.flow.ID)
	d.flow = flow.Record{Addr: [2][16]byte{{10, 0, 0, 1}, {10, 0, 0, 2}}, Port: [2]uint16{1, port}, Flags: flow.Server1, ID: d.flow.ID + 1}
	d.notes = [4]byte{}
	d.view = Payload{
		Worker: &d.worker, Flow: &d.flow, Notes: &d.notes, Data: data, Packet: data, Cut: cut, TCP: stream, Nth: nth, Src: 1, Dst: port, Begun: nth%2 == 1, Now: 1e18,
	}
	return &d.view
}

func (d *desk) Kept(*Payload) *store.Slot { return d.store.At(d.slot, d.flow.ID) }

func (d *desk) Keep(*Payload) *store.Slot {
	d.slot, _ = d.store.Take(d.flow.ID)
	return d.store.At(d.slot, d.flow.ID)
}

func (d *desk) HostName(*flow.Record) []byte { return nil }

// TestExpected: what was announced about either endpoint of a flow is met, and what was announced about others is not.
func TestExpected(t *testing.T) {
	d := newDesk()
	v := d.show([]byte("x"), false, false, 1, 2)
	announce := func(addr []byte, port uint16) { v.expect(expect.Hint, addr, port, protocol.RTP, 0, time.Minute) }
	announce([]byte{10, 0, 0, 2}, 3)
	announce([]byte{10, 0, 0, 9}, 2)
	if x := v.Expected(); x != nil {
		t.Errorf("expected %+v: no endpoint of the flow", x)
	}
	for i, port := range []uint16{1, 2} {
		announce([]byte{10, 0, 0, byte(i + 1)}, port)
		if x := v.Expected(); x == nil || x.Proto != protocol.RTP {
			t.Errorf("endpoint %d: expected %+v", i, x)
		}
		v = d.show([]byte("x"), false, false, 1, 2)
		d.worker.Expected = expect.NewTable(1 << 14)
	}
	announce([]byte{10, 0, 0, 2}, 2)
	if v.TCP = true; v.Expected() != nil {
		t.Error("expected over TCP what was announced of UDP")
	}
}
