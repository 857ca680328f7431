// Package call follows calls: it reads the messages of SIP (RFC 3261) through segments and datagrams, tells which calls a packet belongs to, and remembers where SDP
// (RFC 8866) said that their media go.
//
// A Follower belongs to one worker. The Table is shared by the workers of a source, because a call and its media often go between different addresses; it has fixed
// size, and its readers take no lock. The package is handed bytes, their place in a flow and their time: it knows no packets.
package call

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/text"
)

// A Table is what calls said about their media: which endpoints receive them, and what their payload types mean. The workers of a source share it, because
// a call and its media often go between different addresses. It has fixed size; the endpoint that is forgotten first makes room. Readers take no lock.
type Table struct {
	mu      sync.Mutex // among writers
	sets    [][ways]entry
	tags    []atomic.Uint64 // of each set: 16 bits of the hash of each of its endpoints. Most datagrams are of no call, and need not look at four endpoints to know it
	over    [][ways]ending
	changes atomic.Uint32 // counts what was added; 0 = nothing was ever
}

const (
	ways      = 4
	words     = 16
	kinds     = 8                // payload types that are kept of an endpoint
	mediaLife = 4 * time.Hour    // after the last message that names an endpoint
	linger    = 32 * time.Second // how long media goes on after the end of a call: 64 T1 of RFC 3261 section 17
)

// Version returns what changes whenever an endpoint is added; 0 if none ever was.
func (c *Table) Version() uint32 { return c.changes.Load() }

// An entry is an endpoint of a call. Its words are address (2), port with the number of payload types and the profile, end of life, identifiers (4), payload
// types with the hashes of their names (8). The version is odd while they are written.
type entry struct {
	version atomic.Uint64
	word    [words]atomic.Uint64
}

// An ending is a call that is over, by its first identifier, and since when.
type ending struct{ id, since atomic.Uint64 }

// entryBytes is what an entry takes, with its tag and its part of the ends.
const entryBytes = 8*(words+1) + 2 + 16

// NewTable returns a table of at most so many bytes.
func NewTable(bytes int) *Table {
	n := 1
	for 2*n*ways*entryBytes <= bytes {
		n *= 2
	}
	return &Table{sets: make([][ways]entry, n), tags: make([]atomic.Uint64, n), over: make([][ways]ending, n)}
}

// A medium is an endpoint that receives media, as SDP describes it.
type medium struct {
	addr  [16]byte // IPv4 in the first 4 bytes, the others 0
	port  uint16
	types [kinds]uint64 // payload type in the high half, hash of its name in the low
	n     uint8
	use   Use
}

// A Use is what an endpoint is for.
type Use uint8

const (
	Other     Use = iota // control, or a medium that does not come by RTP
	RTP                  // RTP
	SecureRTP            // SRTP (RFC 3711)
)

// place returns the set that an endpoint belongs in, and its tag.
func (c *Table) place(addr *[16]byte, port uint16) (set int, tag uint16) {
	h := binary.LittleEndian.Uint64(addr[:8])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(addr[8:])*0xc2b2ae3d27d4eb4f ^ uint64(port)*0x165667b19e3779f9
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return int(h >> 32 & uint64(len(c.sets)-1)), uint16(h>>16) | 1 // 0 is the tag of what is empty
}

// add notes an endpoint of the call that ids name, from now on. The same endpoint of calls that are over is forgotten.
func (c *Table) add(m *medium, ids *[flow.CallIDs]uint64, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reopen(ids[0])
	lo, hi := binary.LittleEndian.Uint64(m.addr[:8]), binary.LittleEndian.Uint64(m.addr[8:])
	n, tag := c.place(&m.addr, m.port)
	set := &c.sets[n]
	at := 0
	for i := range set {
		e := &set[i]
		if e.word[0].Load() == lo && e.word[1].Load() == hi && uint16(e.word[2].Load()) == m.port {
			if e.word[4].Load() == ids[0] {
				at = i
				break
			}
			if c.endOf(e.word[4].Load()) != 0 {
				e.word[3].Store(0)
			}
		}
		if e.word[3].Load() < set[at].word[3].Load() {
			at = i
		}
	}
	e := &set[at]
	e.version.Add(1)
	e.word[0].Store(lo)
	e.word[1].Store(hi)
	e.word[2].Store(uint64(m.port) | uint64(m.n)<<16 | uint64(m.use)<<24)
	e.word[3].Store(uint64(now + int64(mediaLife)))
	for i := range 4 {
		e.word[4+i].Store(ids[i])
	}
	for i := range m.types {
		e.word[8+i].Store(m.types[i])
	}
	e.version.Add(1)
	c.tags[n].Store(c.tags[n].Load()&^(math.MaxUint16<<(16*at)) | uint64(tag)<<(16*at))
	if c.changes.Add(1) == 0 {
		c.changes.Add(1)
	}
}

// tagged returns the set of an endpoint, and which of its entries may be the endpoint's: bit 15 of 16 bits each.
func (c *Table) tagged(addr *[16]byte, port uint16) (set *[ways]entry, which uint64) {
	const ones = 0x0001000100010001
	n, tag := c.place(addr, port)
	x := c.tags[n].Load() ^ uint64(tag)*ones
	return &c.sets[n], (x - ones) &^ x & (ones << 15)
}

// May reports whether an endpoint may be one of a call. Most are not.
func (c *Table) May(addr *[16]byte, port uint16) bool {
	_, which := c.tagged(addr, port)
	return which != 0
}

// of reports whether an entry is an endpoint's and lives longer than until a time, and returns its version: what is read of it then holds if it has that version after,
// because it may be given to another endpoint meanwhile.
func (e *entry) of(addr *[16]byte, port uint16, after int64) (version uint64, is bool) {
	version = e.version.Load()
	return version, version&1 == 0 && e.word[0].Load() == binary.LittleEndian.Uint64(addr[:8]) && e.word[1].Load() == binary.LittleEndian.Uint64(addr[8:]) &&
		uint16(e.word[2].Load()) == port && int64(e.word[3].Load()) > after
}

// Find adds the calls of an endpoint to into, and the name that the endpoint gave a payload type if into has none. It reports whether there are any.
func (c *Table) Find(addr *[16]byte, port uint16, kind uint8, now int64, into *flow.Call) bool {
	found := false
	for set, which := c.tagged(addr, port); which != 0; which &= which - 1 {
		e := &set[bits.TrailingZeros64(which)/16%ways]
		version, is := e.of(addr, port, now)
		if !is {
			continue
		}
		var ids [4]uint64
		for k := range ids {
			ids[k] = e.word[4+k].Load()
		}
		name := uint32(0)
		for k := range min(int(e.word[2].Load()>>16&0xff), kinds) {
			if t := e.word[8+k].Load(); uint8(t>>32) == kind {
				name = uint32(t)
			}
		}
		if e.version.Load() != version {
			continue
		}
		if end := c.endOf(ids[0]); end != 0 && now-int64(end) > int64(linger) {
			continue
		}
		found = true
		for _, id := range ids {
			into.Add(id)
		}
		if into.Codec == 0 {
			into.Codec = name
		}
	}
	return found
}

// Use returns what an endpoint is for, if a message named it not longer than sdpLife ago.
func (c *Table) Use(addr *[16]byte, port uint16, now int64) Use {
	for set, which := c.tagged(addr, port); which != 0; which &= which - 1 {
		e := &set[bits.TrailingZeros64(which)/16%ways]
		version, is := e.of(addr, port, now+int64(mediaLife-sdpLife))
		if use := Use(e.word[2].Load() >> 24); is && use != Other && e.version.Load() == version {
			return use
		}
	}
	return Other
}

func (c *Table) ends(id uint64) *[ways]ending {
	return &c.over[id*0x9e3779b97f4a7c15>>32&uint64(len(c.over)-1)]
}

// endOf returns when a call ended, 0 if it goes on or nothing is known of it.
func (c *Table) endOf(id uint64) uint64 {
	set := c.ends(id)
	for i := range set {
		if set[i].id.Load() == id {
			return set[i].since.Load()
		}
	}
	return 0
}

// end notes that a call is over.
func (c *Table) end(id uint64, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.ends(id)
	at := 0
	for i := range set {
		if set[i].id.Load() == id {
			at = i
			break
		}
		if set[i].since.Load() < set[at].since.Load() {
			at = i
		}
	}
	set[at].id.Store(id)
	set[at].since.Store(uint64(now))
}

func (c *Table) reopen(id uint64) {
	set := c.ends(id)
	for i := range set {
		if set[i].id.Load() == id {
			set[i].since.Store(0)
			set[i].id.Store(0)
		}
	}
}

// ID returns what stands for an identifier of a call in flow.Call: a hash of its text.
func ID(text []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range text {
		h = (h ^ uint64(b)) * 1099511628211
	}
	if h ^= h >> 32; h == 0 {
		return 1
	}
	return h
}

// CodecID returns what stands for an encoding name of an RTP payload type in flow.Call: a hash of its text, whatever the case.
func CodecID(name []byte) uint32 {
	h := uint32(2166136261)
	for _, b := range name {
		h = (h ^ uint32(text.Lower(b))) * 16777619
	}
	if h == 0 {
		return 1
	}
	return h
}
