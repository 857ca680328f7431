package call

import (
	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
)

// Room is for how many packets what was told about a packet stays valid.
const Room = 512

// A Follower keeps what a worker knows about the calls of its flows.
type Follower struct {
	calls    *Table
	streams  [][ways]stream // of SIP over TCP, by flow and direction
	message  stream         // the datagram that is being read
	room     [Room]flow.Call
	next     int
	now      *flow.Call // of the packet that was followed last, until it is asked for
	expected *expect.Table
}

// NewFollower returns a follower of at most so many bytes that shares a table with others, or has one of its own if shared is nil. Endpoints of media are announced to
// expected too.
func NewFollower(shared *Table, expected *expect.Table, bytes int) Follower {
	if shared == nil {
		bytes /= 2
		shared = NewTable(bytes)
	}
	n := 1
	for 2*n*ways*streamBytes <= bytes {
		n *= 2
	}
	return Follower{calls: shared, expected: expected, streams: make([][ways]stream, n)}
}

// Take returns room for what is known about a packet's calls. It is valid for Room packets.
func (c *Follower) Take() *flow.Call {
	c.next = (c.next + 1) % len(c.room)
	call := &c.room[c.next]
	*call = flow.Call{}
	return call
}

// Table returns what the workers of a source share.
func (c *Follower) Table() *Table { return c.calls }

// Followed reports whether a packet was followed since Told was asked.
func (c *Follower) Followed() bool { return c.now != nil }

// Told returns what was found out about the packet that was followed, once; nil if none was.
func (c *Follower) Told() *flow.Call {
	call := c.now
	c.now = nil
	return call
}

// begin begins to follow a packet.
func (c *Follower) begin(now int64, datagram bool) sink {
	c.now = c.Take()
	return sink{c.now, c.calls, c.expected, now, datagram}
}

// Datagram follows a datagram of SIP; dir is the endpoint of its flow that sent it.
func (c *Follower) Datagram(dir uint8, b []byte, now int64) {
	to := c.begin(now, true)
	s := &c.message
	*s = stream{key: uint64(dir)}
	s.read(b, &to)
	if s.phase == inBody {
		s.end(&to)
	}
}

// First follows a packet that ends the beginning of a direction of a flow: b is the stream from its first byte on, at a sequence number. Packets before this one
// wait for the first message. It does nothing and returns false if the direction was followed before.
func (c *Follower) First(flow uint64, dir uint8, seq uint32, b []byte, now int64) bool {
	s := c.stream(flow, dir, now)
	if s.open {
		return false
	}
	to := c.begin(now, false)
	s.segment(seq, b, &to)
	s.resolve(&span{number: 1}, &to)
	return true
}

// Segment follows a segment of a direction of a flow of SIP over TCP.
func (c *Follower) Segment(flow uint64, dir uint8, seq uint32, b []byte, now int64) {
	to := c.begin(now, false)
	c.stream(flow, dir, now).segment(seq, b, &to)
}

// stream returns the state of a flow's direction. If there was none it is a new one, in place of the one that was used longest ago.
func (c *Follower) stream(id uint64, dir uint8, now int64) *stream {
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
	*s = stream{key: key, seen: now}
	return s
}
