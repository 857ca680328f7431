package pipeline

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime/debug"

	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
)

// A Panic is a packet that a dissector could not take: a fault of ours, which the packet's bytes help to find.
type Panic struct {
	Cause any
	Flow  string // of the packet, "" if it is not known
	Frame string // the first bytes, in hexadecimal
	Stack string
}

// frameShown is how many bytes of a frame are shown: they may be somebody's secrets, and headers are what it is usually about.
const frameShown = 128

func newPanic(cause any, p *packet.Packet, r *flow.Record) *Panic {
	return &Panic{cause, flowName(r), hex.EncodeToString(p.Data[:min(len(p.Data), frameShown)]), string(debug.Stack())}
}

func (p *Panic) Error() string { return fmt.Sprintf("dissecting a packet panicked: %v", p.Cause) }

// flowName returns protocol and endpoints of a flow.
func flowName(r *flow.Record) string {
	if r == nil {
		return ""
	}
	end := func(i int) netip.AddrPort {
		a := netip.AddrFrom16(r.Addr[i])
		if r.Flags&flow.V6 == 0 {
			a = netip.AddrFrom4([4]byte(r.Addr[i][:4]))
		}
		return netip.AddrPortFrom(a, r.Port[i])
	}
	return fmt.Sprintf("IP protocol %d, %v and %v", r.Proto, end(0), end(1))
}
