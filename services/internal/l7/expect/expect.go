// Package expect remembers what flows announce about others that are still to come, in memory of fixed size: where media will go, which addresses a server has.
//
// A table belongs to one worker, and knows endpoints and times only. What it is told about calls, which go between different addresses, another worker may see: that
// is for package call.
package expect

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// An Endpoint is what one flow announces about another that is still to come: SDP the address of an RTP stream, FTP the address of a data
// connection, DNS which application an address belongs to.
type Endpoint struct {
	addr  [16]byte // IPv4 in the first 4 bytes, or a MAC address in the first 6; the others 0
	Port  uint16   // 0 = any flow with this address
	L4    signature.Transport
	Kind  Kind
	Proto protocol.ID
	App   protocol.ID
	Until int64 // ns since the epoch; 0 = empty
}

// A Kind says what an announcement is worth.
type Kind uint8

const (
	// Flow decides: a flow with this endpoint carries Proto unless its payload says otherwise.
	Flow Kind = iota + 1
	// Hint decides nothing by itself: a dissector that asks for it may be content with less evidence.
	Hint
	// Server is which application an address belongs to, by the name that DNS gave it: a guess.
	Server
)

// ways is how many announcements share a place in the table; the one that ends first makes room.
const ways = 4

// A Table remembers announcements in memory of fixed size. Where an announcement lies follows from its endpoint alone, so that the same
// packets find the same ones.
type Table struct {
	sets [][ways]Endpoint
	used bool // something was written: most flows need not look
}

// endpointBytes is what one announcement takes.
const endpointBytes = 32

// NewTable returns a table of at most so many bytes.
func NewTable(bytes int) Table {
	n := 1
	for 2*n*ways*endpointBytes <= bytes {
		n *= 2
	}
	return Table{sets: make([][ways]Endpoint, n)}
}

func (t *Table) set(addr *[16]byte, port uint16) *[ways]Endpoint {
	h := binary.LittleEndian.Uint64(addr[:8])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(addr[8:])*0xc2b2ae3d27d4eb4f ^ uint64(port)*0x165667b19e3779f9
	h ^= h >> 29
	return &t.sets[h*0xbf58476d1ce4e5b9>>32&uint64(len(t.sets)-1)]
}

// put remembers x, in place of one about the same endpoint, or of the one that ends first.
func (t *Table) put(x Endpoint) {
	set := t.set(&x.addr, x.Port)
	at := 0
	for i := range set {
		if o := &set[i]; o.addr == x.addr && o.Port == x.Port && o.L4 == x.L4 && o.Kind == x.Kind {
			at = i
			break
		}
		if set[i].Until < set[at].Until {
			at = i
		}
	}
	set[at] = x
	t.used = true
}

// Find returns what was announced about an endpoint and holds at now, or nil.
func (t *Table) Find(addr *[16]byte, port uint16, l4 signature.Transport, now int64) *Endpoint {
	if !t.used {
		return nil
	}
	set := t.set(addr, port)
	for i := range set {
		if x := &set[i]; x.Until > now && x.addr == *addr && x.Port == port && x.L4&l4 != 0 {
			return x
		}
	}
	return nil
}

// Announce remembers x about an address, of IPv4 or IPv6, or of a MAC; x.until says for how long. What is not an address is left out.
func (t *Table) Announce(addr []byte, x Endpoint) {
	if copy(x.addr[:], addr); len(addr) < 4 || x.addr == [16]byte{} {
		return
	}
	t.put(x)
}

// Empty reports whether nothing was ever announced.
func (t *Table) Empty() bool { return !t.used }
