package l7

import (
	"cmp"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/call"
	"galvo/services/internal/l7/protocol"
)

// A Config says how long the engine tries and how much memory it may use. What is zero takes its default.
type Config struct {
	Bytes          int             // memory of the side buffers and host names; default 32 MB, fixed at New
	PayloadPackets int             // gives up after so many packets with payload in one direction; default 12
	Packets        int             // or after so many packets of the flow at all; default 32
	PayloadBytes   int             // or after so many bytes of payload; default 8192
	Window         time.Duration   // or so long after the first packet with payload, by the packets' time; default 5 s
	Guess          bool            // name what was given up by its port or address, as Guessed; default no
	Hosts          *protocol.Hosts // which application a server's name belongs to; default BuiltinHosts
	Calls          *call.Table     // what the workers of a source share about calls; default a table of its own, out of Bytes
}

func (c Config) withDefaults() Config {
	c.Bytes = cmp.Or(c.Bytes, 32_000_000)
	c.PayloadPackets = min(cmp.Or(c.PayloadPackets, 12), 255)
	c.Packets = min(cmp.Or(c.Packets, 32), 255)
	c.PayloadBytes = min(cmp.Or(c.PayloadBytes, 8192), 65535)
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Hosts = cmp.Or(c.Hosts, protocol.BuiltinHosts())
	return c
}

// inTime notes the first packet with payload, and reports whether now is within the window after it.
func (e *Engine) inTime(r *flow.Record, now int64) bool {
	s := &r.L7
	since := min(max(now-r.First, 0)/tick, 65535)
	if s[6]|s[7] == 0 {
		put16(s, 14, uint16(since))
		return true
	}
	return (since-int64(get16(s, 14)))*tick <= int64(e.config.Window)
}

// exhausted reports whether the flow has had its chance.
func (e *Engine) exhausted(s *state) bool {
	most := e.config.PayloadPackets
	return int(s[6]) >= most || int(s[7]) >= most || int(s[8]) >= e.config.Packets || int(get16(s, 10)) >= e.config.PayloadBytes
}
