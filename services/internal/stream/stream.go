// Package stream remembers the last bytes of TCP streams, so that what is looked for in a payload is also found where it began in an earlier packet.
//
// It is no reassembly: of each stretch of a stream that is known without a hole it keeps the first and the last bytes, flow.StreamReach of them, and for each packet
// it says which of its bytes are new and what touches them (flow.Stream). Bytes that come again count once, the first ones. A segment that comes ahead of a hole
// begins a stretch of its own, and the segment that fills the hole joins the two; so it does not matter in which order segments come.
//
// A Store belongs to one worker, which sees all packets of a connection. Its memory is fixed by New; where it runs out the stream that had no packet for long makes
// room, and the next packet of that one says so. What Follow hands out is copied, and valid until the next Begin.
package stream

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"galvo/services/internal/flow"
	"galvo/services/internal/hugepage"
	"galvo/services/internal/packet"
)

// Counters count since New.
type Counters struct {
	Streams   int    // that are kept; each direction of a connection is one
	Evicted   uint64 // streams that made room
	Forgotten uint64 // packets of which what touches them was not kept for want of memory (flow.Stream.Forgotten)
}

// batch is how many packets there are between two Begins at most.
const batch = 256

// A Store has the streams of one worker.
type Store struct {
	sides   []side
	ends    []ends
	index   []uint32 // open addressing by key, at most half full: number of a side + 1, 0 = free
	free    []uint32 // numbers of ends
	idle    []uint32 // numbers of sides
	fresh   uint32   // sides, and ends, from here on were never used
	another uint32   // likewise of ends
	hand    uint32   // next side that is looked at for one to make room
	count   Counters

	facts []flow.Stream // of the packets since Begin
	nth   int
	arena []byte // what they point to

	taken atomic.Uint64 // bytes that were ever used
}

// unit is what a stream takes.
const unit = int(unsafe.Sizeof(side{})+unsafe.Sizeof(ends{})) + 4*(4+1+1)

// fixed is what a Store takes beside.
const fixed = batch * (2*room + int(unsafe.Sizeof(flow.Stream{})))

// New makes a store in so many bytes. With too few it keeps nothing. Memory that is not used takes no place.
func New(bytes int) *Store {
	n := max(0, bytes-fixed) / unit
	slots := 1
	for slots < 2*n {
		slots *= 2
	}
	return &Store{
		sides: hugepage.Make[side](n), ends: hugepage.Make[ends](n), index: hugepage.Make[uint32](slots),
		free: make([]uint32, 0, n), idle: make([]uint32, 0, n),
		facts: make([]flow.Stream, batch), arena: make([]byte, 0, batch*2*room),
	}
}

// Counters returns what happened so far.
func (s *Store) Counters() Counters { return s.count }

// Begin starts a batch of at most 256 packets: what was handed out before it may be used again.
func (s *Store) Begin() {
	s.nth, s.arena = 0, s.arena[:0]
	s.taken.Store(uint64(fixed + int(s.fresh)*unit))
}

// Taken returns about how many bytes the streams take so far. It may be called from any goroutine.
func (s *Store) Taken() uint64 { return s.taken.Load() }

// The TCP flags that matter here.
const (
	syn = 2
	rst = 4
)

// Follow takes the next packet of the worker, and sets ref.Stream if it is a segment of TCP with payload. p is decoded down to its innermost headers, whose flow
// ref names. reach is how far anybody looks, flow.StreamReach at most: no more than that is kept from now on.
//
// Later fragments of a datagram and what a reset says (RFC 9293 section 3.5.3) are no part of a stream.
func (s *Store) Follow(p *packet.Packet, ref *flow.Ref, reach int) {
	if p.Layers&(packet.TCP|packet.LaterFragment) != packet.TCP || p.TCPBits&rst != 0 || s.nth == len(s.facts) {
		return
	}
	data, seq := p.L7(), uint32(0)
	if len(data) > 0 || p.TCPBits&syn != 0 {
		seq = binary.BigEndian.Uint32(p.Data[p.L4+4:])
	}
	if p.TCPBits&syn != 0 {
		seq++
		if sd := s.find(ref); sd != nil {
			s.open(sd, seq)
		}
	}
	if len(data) == 0 {
		return
	}
	f := &s.facts[s.nth]
	s.nth++
	*f = flow.Stream{New: len(data)}
	ref.Stream = f
	if sd := s.side(ref, f); sd != nil {
		s.add(sd, f, seq, data, min(reach, flow.StreamReach))
	}
	if f.Forgotten {
		s.count.Forgotten++
	}
}

// key names a direction of a flow. Ids begin at 1.
func key(ref *flow.Ref) uint64 { return ref.Flow.ID<<1 | uint64(ref.From&1) }

// side returns the side of a packet's sender, made if need be; nil if there is no room at all.
func (s *Store) side(ref *flow.Ref, f *flow.Stream) *side {
	if ref.Flow == nil {
		f.Forgotten = true
		return nil
	}
	if sd := s.find(ref); sd != nil {
		sd.used = true
		return sd
	}
	kept := &ref.Flow.Streamed[ref.From&1]
	f.Forgotten = *kept
	*kept = true
	return s.make(key(ref))
}

// find returns the side of a packet's sender, or nil.
func (s *Store) find(ref *flow.Ref) *side {
	if ref.Flow == nil || len(s.sides) == 0 {
		return nil
	}
	if i := s.index[s.slot(key(ref))]; i != 0 {
		return &s.sides[i-1]
	}
	return nil
}

// slot returns the place of a key in the index, or the free one where it belongs.
func (s *Store) slot(key uint64) int {
	mask := len(s.index) - 1
	for at := home(key) & mask; ; at = (at + 1) & mask {
		if i := s.index[at]; i == 0 || s.sides[i-1].key == key {
			return at
		}
	}
}

func home(key uint64) int { return int(key * 0x9e3779b97f4a7c15 >> 32) }

// make begins a side.
func (s *Store) make(key uint64) *side {
	if len(s.sides) == 0 {
		return nil
	}
	if len(s.idle) == 0 && int(s.fresh) == len(s.sides) {
		s.evict(nil)
	}
	i := s.fresh
	if n := len(s.idle); n > 0 {
		i, s.idle = s.idle[n-1], s.idle[:n-1]
	} else {
		s.fresh++
	}
	sd := &s.sides[i]
	*sd = side{key: key}
	s.index[s.slot(key)] = i + 1
	s.count.Streams++
	return sd
}

// evict lets go of a side that had no packet since the hand came by last, but not of keep. It does nothing if there is no other one.
func (s *Store) evict(keep *side) {
	for range 2*s.fresh + 1 {
		sd := &s.sides[s.hand]
		s.hand++
		if int(s.hand) == int(s.fresh) {
			s.hand = 0
		}
		switch {
		case sd.key == 0 || sd == keep:
		case sd.used:
			sd.used = false
		default:
			s.count.Evicted++
			s.remove(sd)
			return
		}
	}
}

// remove takes a side out of the index, and moves up those that were pushed on by it.
func (s *Store) remove(sd *side) {
	s.clear(sd)
	mask := len(s.index) - 1
	at := s.slot(sd.key)
	s.idle = append(s.idle, s.index[at]-1)
	for next := (at + 1) & mask; s.index[next] != 0; next = (next + 1) & mask {
		if want := home(s.sides[s.index[next]-1].key) & mask; (next-want)&mask >= (next-at)&mask {
			s.index[at] = s.index[next]
			at = next
		}
	}
	s.index[at] = 0
	sd.key = 0
	s.count.Streams--
}

// clear forgets all stretches of a side.
func (s *Store) clear(sd *side) {
	for _, st := range sd.runs[:sd.n] {
		s.free = append(s.free, st.at)
	}
	sd.n, sd.dropped = 0, false
}

// take returns the number of free ends for a side. If that has all there are, it gives its first ones.
func (s *Store) take(sd *side) uint32 {
	if len(s.free) == 0 && int(s.another) == len(s.ends) {
		if s.evict(sd); len(s.free) == 0 {
			sd.dropped = true
			s.cut(sd, 0, 1)
		}
	}
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.another++
	return s.another - 1
}

// copied puts bytes where they stay until the next Begin.
func (s *Store) copied(b []byte) []byte {
	from := len(s.arena)
	s.arena = append(s.arena, b...)
	return s.arena[from:len(s.arena):len(s.arena)]
}
