// Package protocol is the table of protocols and applications: what each is called, what kind it is, and which number it has.
//
// A row comes from one of three places: table.go for what code refers to and what headers say, ../signature/table for what a signature knows, ../hostname/hosts.txt
// for what is known by the names of its servers. Numbers are for ever, because rings keep them on disk. Each table is put together at first use; nothing changes after.
//
// The package recognises nothing: it says what there is to recognise.
package protocol

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"galvo/services/internal/l7/hostname"
	"galvo/services/internal/spelling"
)

// An ID names a protocol or an application; 0 is none. Names and IDs come from the protocol table.
type ID uint16

// A Layer says where a protocol is at home.
type Layer uint8

// The layers of the protocol table.
const (
	LayerLink        Layer = 2 // straight on the link layer: no flow, the frame is the verdict
	LayerNetwork     Layer = 3 // told by the IP protocol number
	LayerApplication Layer = 7 // recognised from payload
)

// A Protocol is a row of the table: a name that a filter, a statistic or an export can say.
type Protocol struct {
	ID       ID
	Name     string // spelled as network engineers' tools spell it
	Category string // "Web", "Network", "VoIP", ...
	Layer    Layer
	Master   ID       // the family that this protocol belongs to, 0 = none: a flow of PTPv2 is PTP too
	Aliases  []string // other spellings that Lookup takes
	Ports    []string // "udp:53": where the protocol is usually found. Only a guess may use it
}

// Protocols returns the table in order of ID. It must not be changed.
func Protocols() []Protocol { return allRows() }

// allRows joins the rows of the code, of the signatures and of the applications that have names of servers.
var allRows = sync.OnceValue(func() []Protocol {
	rows := slices.Concat(builtin[1:], signatureProtocols(), hostProtocols())
	for _, a := range hostname.Apps() {
		if a.Family != "" {
			setMaster(rows, a.Name, a.Family)
		}
	}
	slices.SortFunc(rows, func(a, b Protocol) int { return cmp.Compare(a.ID, b.ID) })
	return rows
})

// setMaster fills in the family of a row by name.
func setMaster(rows []Protocol, name, family string) {
	at := func(name string) int { return slices.IndexFunc(rows, func(p Protocol) bool { return p.Name == name }) }
	rows[at(name)].Master = rows[at(family)].ID
}

// carriers are what carries protocols whose name says nothing about it: a flow of SMTPS is TLS too.
var carriers = sync.OnceValue(func() []ID {
	m := make([]ID, len(byID()))
	for _, a := range hostname.Apps() {
		if a.Carrier != "" {
			m[a.Number], _ = Lookup(a.Carrier)
		}
	}
	return m
})

// Carrier returns what carries a protocol whose name says nothing about it, or 0.
func Carrier(id ID) ID {
	if m := carriers(); int(id) < len(m) {
		return m[id]
	}
	return 0
}

// byID is the table by number, with nothing where a number is not used.
var byID = sync.OnceValue(func() []Protocol {
	rows := allRows()
	out := make([]Protocol, rows[len(rows)-1].ID+1)
	for _, p := range rows {
		out[p.ID] = p
	}
	return out
})

// rowOf returns the row of id, an empty one if there is none.
func rowOf(id ID) *Protocol {
	rows := byID()
	if int(id) >= len(rows) {
		return &rows[0]
	}
	return &rows[id]
}

// Name returns the name of id, or "" for 0 and for numbers that the table does not have.
func Name(id ID) string { return rowOf(id).Name }

// Category returns the category of id, or "".
func Category(id ID) string { return rowOf(id).Category }

// LayerOf returns where id is at home, or 0.
func LayerOf(id ID) Layer { return rowOf(id).Layer }

// Master returns the family that id belongs to, or 0.
func Master(id ID) ID { return rowOf(id).Master }

// AtPort returns the protocol that is usually found at a port of TCP, or else of UDP; 0 if none is. It is good for a guess only.
func AtPort(port uint16, stream bool) ID {
	key := uint32(port)
	if stream {
		key |= tcpPort
	}
	return portTable()[key]
}

// Lookup finds a protocol by name or alias, whatever the case.
func Lookup(name string) (ID, bool) {
	id, ok := byName()[strings.ToLower(name)]
	return id, ok
}

// Nearest returns at most n names of the table for somebody who mistyped one, the best first. Names that are too far away to be what was meant
// are left out.
func Nearest(name string, n int) []string {
	type guess struct {
		name       string
		far, begin int
	}
	name = strings.ToLower(name)
	best := make(map[ID]guess)
	for known, id := range byName() {
		far := spelling.Distance(name, known)
		if strings.HasPrefix(known, name) && name != "" {
			far = min(far, 1)
		}
		if far > 1+len(name)/3 {
			continue
		}
		begin := spelling.Begin(name, known)
		if g, ok := best[id]; !ok || far < g.far || far == g.far && begin < g.begin {
			best[id] = guess{Name(id), far, begin}
		}
	}
	var list []guess
	for _, g := range best {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.begin, b.begin), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, g := range list[:min(n, len(list))] {
		if g.far > list[0].far+1 {
			break // next to a better one it is not what was meant
		}
		out = append(out, g.name)
	}
	return out
}

// Belongs reports whether a protocol is family, or a member of it.
func Belongs(member, family ID) bool {
	for member != family {
		if member = rowOf(member).Master; member == 0 {
			return false
		}
	}
	return true
}

var byName = sync.OnceValue(func() map[string]ID {
	m := make(map[string]ID, 2*len(Protocols()))
	for _, p := range Protocols() {
		m[strings.ToLower(p.Name)] = p.ID
		for _, a := range p.Aliases {
			m[strings.ToLower(a)] = p.ID
		}
	}
	return m
})

// tcpPort is set in the keys of portTable that are ports of TCP.
const tcpPort = 1 << 16

// portTable maps a port, with tcpPort or without, to the protocol whose row names it.
var portTable = sync.OnceValue(func() map[uint32]ID {
	m := make(map[uint32]ID)
	for _, p := range Protocols() {
		for _, at := range p.Ports {
			l4, number, _ := strings.Cut(at, ":")
			n, _ := strconv.ParseUint(number, 10, 16)
			key := uint32(n)
			if l4 == "tcp" {
				key |= tcpPort
			}
			m[key] = p.ID
		}
	}
	return m
})
