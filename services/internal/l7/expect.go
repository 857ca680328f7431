package l7

import (
	"encoding/binary"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// An expectation is what one flow announces about another that is still to come: SDP the address of an RTP stream, FTP the address of a data
// connection, DNS which application an address belongs to.
type expectation struct {
	addr   [16]byte // IPv4 in the first 4 bytes, or a MAC address in the first 6; the others 0
	port   uint16   // 0 = any flow with this address
	l4     transport
	kind   expectKind
	detail [2]byte // for whoever meets it: an RTP payload type, say
	proto  protocol.ID
	app    protocol.ID
	until  int64 // ns since the epoch; 0 = empty
}

// An expectKind says what an expectation is worth.
type expectKind uint8

const (
	// expectFlow decides: a flow with this endpoint carries proto unless its payload says otherwise.
	expectFlow expectKind = iota + 1
	// expectHint decides nothing by itself: a dissector that asks for it may be content with less evidence.
	expectHint
	// expectServer is which application an address belongs to, by the name that DNS gave it: a guess.
	expectServer
)

// expectWays is how many expectations share a place in the table; the one that ends first makes room.
const expectWays = 4

// An expectTable remembers announcements in memory of fixed size. Where an announcement lies follows from its endpoint alone, so that the same
// packets find the same ones.
type expectTable struct {
	sets [][expectWays]expectation
	used bool // something was written: most flows need not look
}

// expectBytes is what one expectation takes.
const expectBytes = 40

func newExpectTable(bytes int) expectTable {
	n := 1
	for 2*n*expectWays*expectBytes <= bytes {
		n *= 2
	}
	return expectTable{sets: make([][expectWays]expectation, n)}
}

func (t *expectTable) set(addr *[16]byte, port uint16) *[expectWays]expectation {
	h := binary.LittleEndian.Uint64(addr[:8])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(addr[8:])*0xc2b2ae3d27d4eb4f ^ uint64(port)*0x165667b19e3779f9
	h ^= h >> 29
	return &t.sets[h*0xbf58476d1ce4e5b9>>32&uint64(len(t.sets)-1)]
}

// put remembers x, in place of one about the same endpoint, or of the one that ends first.
func (t *expectTable) put(x expectation) {
	set := t.set(&x.addr, x.port)
	at := 0
	for i := range set {
		if o := &set[i]; o.addr == x.addr && o.port == x.port && o.l4 == x.l4 && o.kind == x.kind {
			at = i
			break
		}
		if set[i].until < set[at].until {
			at = i
		}
	}
	set[at] = x
	t.used = true
}

// find returns what was announced about an endpoint and holds at now, or nil.
func (t *expectTable) find(addr *[16]byte, port uint16, l4 signature.Transport, now int64) *expectation {
	if !t.used {
		return nil
	}
	set := t.set(addr, port)
	for i := range set {
		if x := &set[i]; x.until > now && x.addr == *addr && x.port == port && x.l4&l4 != 0 {
			return x
		}
	}
	return nil
}

// announce remembers x about an address, of IPv4 or IPv6, or of a MAC; x.until says for how long. What is not an address is left out.
func (t *expectTable) announce(addr []byte, x expectation) {
	if copy(x.addr[:], addr); len(addr) < 4 || x.addr == [16]byte{} {
		return
	}
	t.put(x)
}

// empty reports whether nothing was ever announced.
func (t *expectTable) empty() bool { return !t.used }
