package l7

import (
	"testing"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
)

// A desk is a worker with one flow, of which it keeps what dissectors want to keep.
type desk struct {
	worker worker
	store  store
	slot   uint16
	flow   flow.Record
	notes  [4]byte
	view   payload
}

func newDesk() *desk {
	d := &desk{store: newStore(1 << 17)}
	d.worker.open(protocol.BuiltinHosts(), nil, d, 1<<14)
	return d
}

// show makes a payload that begins a new flow, to a port.
func (d *desk) show(data []byte, cut, stream bool, nth uint8, port uint16) *payload {
	d.store.release(d.slot, d.flow.ID)
	d.flow = flow.Record{Addr: [2][16]byte{{10, 0, 0, 1}, {10, 0, 0, 2}}, Port: [2]uint16{1, port}, Flags: flow.Server1, ID: d.flow.ID + 1}
	d.notes = [4]byte{}
	d.view = payload{
		worker: &d.worker, flow: &d.flow, notes: &d.notes, data: data, packet: data, cut: cut, tcp: stream, nth: nth, src: 1, dst: port, begun: nth%2 == 1, now: 1e18,
	}
	return &d.view
}

func (d *desk) slotOf(*payload) *slot { return d.store.at(d.slot, d.flow.ID) }

func (d *desk) takeSlot(*payload) *slot {
	d.slot, _ = d.store.take(d.flow.ID)
	return d.store.at(d.slot, d.flow.ID)
}

func (d *desk) hostName(*flow.Record) []byte { return nil }

// TestExpected: what was announced about either endpoint of a flow is met, and what was announced about others is not.
func TestExpected(t *testing.T) {
	d := newDesk()
	v := d.show([]byte("x"), false, false, 1, 2)
	announce := func(addr []byte, port uint16) { v.expect(expectHint, addr, port, protocol.RTP, 0, time.Minute) }
	announce([]byte{10, 0, 0, 2}, 3)
	announce([]byte{10, 0, 0, 9}, 2)
	if x := v.expected(); x != nil {
		t.Errorf("expected %+v: no endpoint of the flow", x)
	}
	for i, port := range []uint16{1, 2} {
		announce([]byte{10, 0, 0, byte(i + 1)}, port)
		if x := v.expected(); x == nil || x.proto != protocol.RTP {
			t.Errorf("endpoint %d: expected %+v", i, x)
		}
		v = d.show([]byte("x"), false, false, 1, 2)
		d.worker.expected = newExpectTable(1 << 14)
	}
	announce([]byte{10, 0, 0, 2}, 2)
	if v.tcp = true; v.expected() != nil {
		t.Error("expected over TCP what was announced of UDP")
	}
}
