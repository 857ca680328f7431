package l7

import "galvo/services/internal/flow"

// CallRoom is for how many packets what Inspect attached to a packet stays valid.
const CallRoom = 512

// A caller keeps what an engine knows about the calls of its flows.
type caller struct {
	calls    *Calls
	streams  [][callWays]sipStream // of SIP over TCP, by flow and direction
	message  sipStream             // the datagram that is being read
	room     [CallRoom]flow.Call
	next     int
	now      *flow.Call // of the packet that was followed last, until it is asked for
	expected *expectTable
}

func newCaller(shared *Calls, expected *expectTable, bytes int) caller {
	if shared == nil {
		bytes /= 2
		shared = NewCalls(bytes)
	}
	n := 1
	for 2*n*callWays*sipStreamBytes <= bytes {
		n *= 2
	}
	return caller{calls: shared, expected: expected, streams: make([][callWays]sipStream, n)}
}

// take returns room for what is known about a packet's calls. It is valid for CallRoom packets.
func (c *caller) take() *flow.Call {
	c.next = (c.next + 1) % len(c.room)
	call := &c.room[c.next]
	*call = flow.Call{}
	return call
}

// table returns what the workers of a source share.
func (c *caller) table() *Calls { return c.calls }

// followed reports whether a packet was followed since told was asked.
func (c *caller) followed() bool { return c.now != nil }

// told returns what was found out about the packet that was followed, once; nil if none was.
func (c *caller) told() *flow.Call {
	call := c.now
	c.now = nil
	return call
}

// begin begins to follow a packet.
func (c *caller) begin(now int64, datagram bool) callSink {
	c.now = c.take()
	return callSink{c.now, c.calls, c.expected, now, datagram}
}

// datagram follows a datagram of SIP; dir is the endpoint of its flow that sent it.
func (c *caller) datagram(dir uint8, b []byte, now int64) {
	to := c.begin(now, true)
	s := &c.message
	*s = sipStream{key: uint64(dir)}
	s.read(b, &to)
	if s.phase == inBody {
		s.end(&to)
	}
}

// first follows a packet that ends the beginning of a direction of a flow: b is the stream from its first byte on, at a sequence number. Packets before this one
// wait for the first message. It does nothing and returns false if the direction was followed before.
func (c *caller) first(flow uint64, dir uint8, seq uint32, b []byte, now int64) bool {
	s := c.stream(flow, dir, now)
	if s.open {
		return false
	}
	to := c.begin(now, false)
	s.segment(seq, b, &to)
	s.resolve(&sipSpan{number: 1}, &to)
	return true
}

// segment follows a segment of a direction of a flow of SIP over TCP.
func (c *caller) segment(flow uint64, dir uint8, seq uint32, b []byte, now int64) {
	to := c.begin(now, false)
	c.stream(flow, dir, now).segment(seq, b, &to)
}

// stream returns the state of a flow's direction. If there was none it is a new one, in place of the one that was used longest ago.
func (c *caller) stream(id uint64, dir uint8, now int64) *sipStream {
	key := id<<1 | uint64(dir)
	set := &c.streams[key*0x9e3779b97f4a7c15>>32&uint64(len(c.streams)-1)]
	at := 0
	for i := range set {
		if set[i].key == key {
			set[i].seen = now
			return &set[i]
		}
		if set[i].seen < set[at].seen {
			at = i
		}
	}
	s := &set[at]
	*s = sipStream{key: key, seen: now}
	return s
}
