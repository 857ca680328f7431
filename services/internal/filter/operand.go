package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// A test is a compiled expression.
type test func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result

// An operand is a row of the language: what a comparison may say, what it means, how it is evaluated.
type operand struct {
	name       string
	aliases    []string
	subject    string    // heading in LANGUAGE.md
	values     string    // what may be compared with it
	example    string    // an expression
	meaning    string    // when == holds
	is         string    // "==" in words, before the values
	isNot      string    // "!=" in words
	facts      [2]string // instead of both, where the values are 0 and 1: what == 0 and == 1 say
	oracle     string    // the display filter of tshark that selects the same frames
	prune      pruning   // how an index of a ring can use it
	cost       cost      // of one evaluation
	needs      demand    // beside the packet
	frame      bool      // of the frame or its flow, whatever headers the tunnel view names
	innermost  bool      // of the payload that the verdict is about: where the tunnel view is the outermost headers, too, it looks at the innermost ones
	configured bool      // the configuration's tables decide
	ordered    bool      // < <= > >= and ranges have a meaning
	ofFlow     string    // the operand of which == holds for every packet of a flow if == of this one holds for one; "" = none
	whole      bool      // a comma in quotes belongs to the value
	opaque     bool      // the value is one text to the next blank; commas belong to it even without quotes
	read       reader    // parses one item of the value list
	keys       keysFunc  // what a packet must have one of for == to hold; nil if nothing that a Set looks up

	// One of the two evaluates ==; the complement is made from it.
	header func(s *set, env *Env) func(p *packet.Packet) bool
	flow   func(s *set, env *Env) test
}

// A reader parses an item and adds it to c.set.
type reader func(c *checker, it item) *Error

// cost orders the members of a conjunction.
type cost uint8

const (
	cheap   cost = iota // a compare in the headers
	scan                // a walk over lists of bytes
	deep                // a search in the payload
	deepest             // likewise, and in what is around it
)

// A demand is a set of things that an operand looks at beside the packet.
type demand uint8

const (
	needsFlow demand = 1 << iota // the record, or anything else that flow.Ref names
	needsL7                      // the verdict, and with it the flow
	needsFCS
	needsCalls   // what l7 attaches to the packet, which is in no index
	needsStreams // what came before in the packet's TCP stream, which nobody keeps unless asked
)

// A pruning says how an index over blocks of packets can rule blocks out. A complement, and what may be unknown, never rules one out.
type pruning struct {
	by   pruneBy
	keys string // the key set or ordered field of the index: "address", "port", ...
}

// A pruneBy is a way to rule out blocks.
type pruneBy uint8

// The ways.
const (
	byNothing pruneBy = iota // every block may match
	byKey                    // the values are keys: a block without any of them cannot match
	byRange                  // the values are ranges of keys: only an exact index rules blocks out
)

func (b pruneBy) String() string { return [...]string{"none", "key set", "range"}[b] }

// table returns the operands, in the order of LANGUAGE.md.
var table = sync.OnceValue(func() []*operand {
	var all []*operand
	for _, rows := range [][]operand{addressOperands, portOperands, linkOperands, ipOperands, transportOperands, applicationOperands, industrialOperands, placeOperands} {
		for i := range rows {
			all = append(all, &rows[i])
		}
	}
	return all
})

var byName = sync.OnceValue(func() map[string]*operand {
	m := make(map[string]*operand)
	for _, o := range table() {
		for _, name := range append([]string{o.name}, o.aliases...) {
			m[strings.ToLower(name)] = o
		}
	}
	return m
})

func lookup(name string) *operand { return byName()[strings.ToLower(name)] }

// operandNames returns the names of all operands, without aliases, in the order of LANGUAGE.md.
func operandNames() []string {
	var names []string
	for _, o := range table() {
		names = append(names, o.name)
	}
	return names
}

// foreign maps what users of other languages write to what they mean here.
var foreign = map[string]string{
	"ip.addr": "ip", "ip.src": "srcip", "ip.dst": "dstip", "ipv6.addr": "ip", "ipv6.src": "srcip", "ipv6.dst": "dstip", "host": "ip", "net": "ip", "ipv6": "ip", "ipv4": "ip",
	"eth.addr": "mac", "eth.src": "srcmac", "eth.dst": "dstmac", "ether": "mac", "eth.type": "ethertype", "ip.proto": "l4Protocol", "proto": "l4Protocol", "protocol": "l7Protocol",
	"tcp.port": "port", "udp.port": "port", "tcp.srcport": "srcport", "tcp.dstport": "dstport", "udp.srcport": "srcport", "udp.dstport": "dstport", "ports": "portrange",
	"vlan.id": "vlan", "vlan.priority": "qosVlanPcp", "mpls.label": "mpls", "mpls.exp": "qosMplsTc", "ip.dsfield.dscp": "qosIpDscp", "dscp": "qosIpDscp",
	"frame.len": "len", "length": "len", "ip.ttl": "ttl", "icmp.type": "icmpType", "icmpv6.type": "icmpv6Type", "tcp.flags": "tcpFlags", "flags": "tcpFlags",
	"sip.call-id": "callId", "rtp.p_type": "rtpPayloadType", "frame.interface_id": "interface", "iface": "interface", "slow.subtype": "slowSubtype",
	"country": "countryCode", "src": "srcip", "dst": "dstip", "payload": "regexp", "vxlan.vni": "vni", "gre.key": "greKey", "pn_rt.frame_id": "profinetFrameId",
}

// unknownOperand says what was probably meant by a name at pos that is none of an operand: what other languages call so, or a value that stands alone.
func unknownOperand(name string, pos int) *Error {
	near := nearest(name, operandNames(), 3)
	if known, ok := foreign[strings.ToLower(name)]; ok {
		near = []string{known}
	} else if id, ok := protocol.Lookup(name); ok {
		near = []string{"l7Protocol == " + protocol.Name(id)}
	} else if _, spelled, ok := (&numbers{names: ipProtocols}).named(name); ok {
		near = []string{"l4Protocol == " + spelled}
	} else if _, err := netip.ParseAddr(name); err == nil {
		near = []string{"ip == " + name}
	} else if _, err := strconv.ParseUint(name, 10, 16); err == nil {
		near = []string{"port == " + name}
	}
	return &Error{Pos: pos, Len: len(name), Message: fmt.Sprintf("unknown operand %q%s", short(name), didYouMean(near)), Expected: near}
}
