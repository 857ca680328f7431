package call

import (
	"sync"
	"sync/atomic"
	"testing"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/l7test"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "0a000001", "255.255.255.255": "ffffffff", "::": "", "::1": "00000000000000000000000000000001", "2001:db8::7": "20010db8000000000000000000000007",
		"1:2:3:4:5:6:7:8": "00010002000300040005000600070008", "1::": "0001", "::ffff:10.0.0.1": "00000000000000000000ffff0a000001", "fe80::a:b": "fe80000000000000000000000 00a000b",
	} {
		a, ok := parseAddress([]byte(text))
		var b [16]byte
		copy(b[:], l7test.Unhex(want))
		if !ok || a != b {
			t.Errorf("%s = %x, %v", text, a, ok)
		}
	}
	for _, text := range []string{"", "10.0.0", "10.0.0.0.1", "10.0.0.256", "host", ":", ":::", "1::2::3", "1:2:3:4:5:6:7:8:9", "12345::", "1:2:3:4:5:6:7:", "::g", "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4:5"} {
		if a, ok := parseAddress([]byte(text)); ok {
			t.Errorf("%q = %x", text, a)
		}
	}
}

// TestSharedCalls: workers add and look up at once, and nobody sees half an entry.
func TestSharedCalls(t *testing.T) {
	c := NewTable(1) // one set
	var stop atomic.Bool
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := uint64(1); !stop.Load(); i++ {
				port := uint16(i%8)*2 + uint16(w)
				c.add(&medium{addr: [16]byte{10, 0, 0, byte(port)}, port: port}, &[flow.CallIDs]uint64{uint64(port) + 1}, int64(i))
			}
		})
	}
	found := 0
	for n := 0; n < 200000 || found == 0; n++ {
		var call flow.Call
		port := uint16(n % 16)
		if c.Find(&[16]byte{10, 0, 0, byte(port)}, port, 0, 1, &call) {
			if found++; call.IDs[0] != uint64(port)+1 || call.IDs[1] != 0 && call.IDs[1] != call.IDs[0] {
				t.Errorf("endpoint %d has %v", port, call.IDs)
			}
		}
	}
	stop.Store(true)
	writers.Wait()
}
