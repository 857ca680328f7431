package filter

import "galvo/services/internal/packet"

// An Env is what an expression is compiled against beside the language itself. The zero value is that of a savefile without configuration:
// any interface id may occur, there are no links, groups or countries.
type Env struct {
	Ports     []Port  // for links, and live to know which interfaces there are; the port id of a frame is its Iface + 1
	Groups    []Group // in order: the first one that matches wins
	Country   CountryTable
	Live      bool        // interface and badCRC are checked against Ports
	Syntax    bool        // for a check without configuration: every group, link and country is taken as it is, and matches nothing
	Guesses   bool        // a verdict that was guessed by port counts; else such a flow is unknown
	Tunnels   TunnelView  // which headers the operands look at
	SCTP      bool        // port operands take SCTP too
	Fragments FragmentUse // whether later fragments of a datagram have the ports of the first one
}

// A Port is a port of the device.
type Port struct {
	ID     int // from 1
	Name   string
	Link   int  // number of the link that the port belongs to, 0 = none
	CanFCS bool // the port receives frames with a wrong FCS and tells them
}

// A Group gives a name to traffic: what has one of the values of every list that is not empty.
type Group struct {
	Name                           string
	Interfaces, Links, VLANs, MPLS []int
}

// A CountryTable tells the ISO 3166 code of an address. country.Table is one.
type CountryTable interface {
	Lookup4(addr uint32) (code [2]byte, ok bool)
	Lookup6(hi, lo uint64) (code [2]byte, ok bool)
	Codes() []string // all that Lookup4 and Lookup6 tell
}

// A TunnelView says which headers of a tunnelled packet the operands look at.
type TunnelView uint8

// The views.
const (
	OuterHeaders TunnelView = iota // what the wire carries
	InnerHeaders                   // the innermost headers
	AnyHeaders                     // == holds if it holds for the headers of any level; != is the complement
)

// TunnelViews are the views by the names that the setting has.
var TunnelViews = map[string]TunnelView{"outer": OuterHeaders, "inner": InnerHeaders, "any": AnyHeaders}

// FragmentUse says how later fragments meet operands that look at ports.
type FragmentUse uint8

// The uses.
const (
	WholeDatagrams FragmentUse = iota // later fragments have the ports of the first one, if it was seen
	OwnHeaders                        // later fragments have no ports
)

// FragmentUses are the uses by the names that the setting has.
var FragmentUses = map[string]FragmentUse{"first": WholeDatagrams, "none": OwnHeaders}

// portID returns the port id of a frame: its place in the source's interface table, from 1.
func portID(p *packet.Packet) uint32 { return uint32(p.Iface) + 1 }

// link returns the ids of the ports of a link.
func (e *Env) link(number int) (ids []int) {
	for _, p := range e.Ports {
		if p.Link == number && number != 0 {
			ids = append(ids, p.ID)
		}
	}
	return ids
}
