package l7

import (
	"sync"

	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/header"
	"galvo/services/internal/l7/protocol"
)

// A Way is a manner in which a protocol is recognised.
type Way uint8

// The ways, in the order in which they are tried.
const (
	ByLink       Way = 1 << iota // by the link layer's type field
	ByIPProtocol                 // by the IP protocol number
	BySignature                  // by a row of the signature table
	ByDissector                  // by code that reads the payload
	ByHost                       // by the server's name
	ByPort                       // guessed by the port
)

// wayNames are how exports spell the ways.
var wayNames = [...]string{"link", "ip protocol", "signature", "dissector", "host name", "port guess"}

// Strings returns the names of the ways in w.
func (w Way) Strings() []string {
	out := []string{}
	for i, name := range wayNames {
		if w&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// Ways returns how a protocol of the table is recognised.
func Ways(id protocol.ID) Way { return waysByID()[id] }

var waysByID = sync.OnceValue(func() map[protocol.ID]Way {
	m := make(map[protocol.ID]Way)
	for field, id := range header.All() {
		switch field {
		case header.IPProtocol:
			m[id] |= ByIPProtocol
		case header.PPID:
			m[id] |= ByDissector
		default:
			m[id] |= ByLink
		}
	}
	for _, s := range protocol.Signatures().Rows {
		m[protocol.ID(s.Proto)] |= BySignature
	}
	for _, d := range dissect.Dissectors() {
		m[d.Proto] |= ByDissector
	}
	for id := range protocol.BuiltinHosts().Applications() {
		m[protocol.ID(id)] |= ByHost
	}
	for _, p := range protocol.Protocols() {
		switch {
		case p.Layer == protocol.LayerLink:
			m[p.ID] |= ByLink
		case m[p.ID] == 0:
			m[p.ID] = ByDissector // one that names several
		}
		if len(p.Ports) > 0 {
			m[p.ID] |= ByPort
		}
	}
	return m
})
