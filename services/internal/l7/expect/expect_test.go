package expect

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

func TestTable(t *testing.T) {
	if n := unsafe.Sizeof(Endpoint{}); n > endpointBytes {
		t.Errorf("an expectation has %d bytes, not %d", n, endpointBytes)
	}
	table, now := NewTable(1<<14), int64(1e18)
	announce := func(addr []byte, port uint16) {
		table.Announce(addr, Endpoint{Port: port, L4: signature.UDP, Kind: Flow, Proto: protocol.RTP, Until: now + int64(time.Minute)})
	}
	here := [16]byte{10, 0, 0, 2}
	if x := table.Find(&here, 2, signature.UDP, now); x != nil || !table.Empty() {
		t.Errorf("found %+v before anything was announced", x)
	}
	announce([]byte{0, 0, 0, 0}, 2)
	if !table.Empty() {
		t.Error("something was announced about no address")
	}
	announce(here[:4], 2)
	for _, c := range []struct {
		what  string
		port  uint16
		l4    signature.Transport
		after time.Duration
		found bool
	}{
		{"the endpoint", 2, signature.UDP, 0, true},
		{"one of both transports", 2, signature.UDP | signature.TCP, 0, true},
		{"another port", 3, signature.UDP, 0, false},
		{"over TCP", 2, signature.TCP, 0, false},
		{"after its time", 2, signature.UDP, time.Hour, false},
	} {
		x := table.Find(&here, c.port, c.l4, now+int64(c.after))
		if (x != nil) != c.found || x != nil && (x.Proto != protocol.RTP) {
			t.Errorf("%s: %+v", c.what, x)
		}
	}
	for i := range 10 * len(table.sets) * ways { // the latest that was announced is there whatever came before
		addr := binary.BigEndian.AppendUint32(nil, uint32(i+1))
		now++
		announce(addr, 9)
		key := [16]byte(append(addr, make([]byte, 12)...))
		if table.Find(&key, 9, signature.UDP, now) == nil {
			t.Fatalf("announcement %d is lost", i)
		}
	}
}
