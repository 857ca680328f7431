// Package rule says what a ring keeps of each packet.
package rule

import (
	"fmt"
	"math/bits"

	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A Rule says what a ring keeps of the packets that it matches. Of a ring's rules the first one that matches counts; what none matches is kept in full.
// While the verdict of a packet's flow is pending a rule that depends on it does not match, negated or not.
type Rule struct {
	Filter *filter.Filter
	Negate bool   // it matches where the filter says no
	Calls  *Calls // not nil: it matches also what belongs to a call of which a packet matched Filter. Rings that are opened one after the other may share it
	Action Action
	Bytes  int // for Snap: how many bytes of a packet are kept, 1 to 65535
}

// An Action is what is kept of a packet.
type Action uint8

// The actions.
const (
	Keep        Action = iota // all of it
	Snap                      // the first bytes
	SnapLink                  // up to the end of the link layer, with its tags and labels
	SnapNetwork               // up to the end of the IP header, with its options and extension headers, or of ARP; else as SnapLink
	SnapHeaders               // up to the end of the TCP, UDP or other layer-4 header; else as SnapNetwork
	Discard                   // nothing: the packet is not recorded
)

// maxRules is what a filter.Set takes.
const maxRules = filter.MaxSet

// Set are a ring's rules for one worker.
type Set struct {
	list   []Rule
	set    *filter.Set
	negate uint64
	all    uint64
	calls  uint64 // rules with Calls
	reach  int    // how far the filters look into TCP streams, in bytes
}

// Check says what is wrong with rules.
func Check(list []Rule) error {
	if len(list) > maxRules {
		return fmt.Errorf("a ring has at most %d rules, not %d", maxRules, len(list))
	}
	for i, r := range list {
		switch {
		case r.Filter == nil:
			return fmt.Errorf("rule %d has no filter", i+1)
		case r.Action > Discard:
			return fmt.Errorf("rule %d has the unknown action %d", i+1, r.Action)
		case r.Action == Snap && (r.Bytes < 1 || r.Bytes > 65535):
			return fmt.Errorf("rule %d keeps %d bytes; it is 1 to 65535", i+1, r.Bytes)
		}
	}
	return nil
}

// NewSet makes the rules of one worker; nil if there are none.
func NewSet(list []Rule) *Set {
	if len(list) == 0 {
		return nil
	}
	r := &Set{list: list, all: 1<<(len(list)-1)<<1 - 1}
	var filters []*filter.Filter
	for i, one := range list {
		filters = append(filters, one.Filter)
		r.reach = max(r.reach, one.Filter.StreamReach())
		if one.Negate {
			r.negate |= 1 << i
		}
		if one.Calls != nil {
			r.calls |= 1 << i
		}
	}
	r.set = filter.NewSet(filters)
	return r
}

// StreamReach returns how far the rules look into TCP streams, in bytes. It may be called on nil.
func (r *Set) StreamReach() int {
	if r == nil {
		return 0
	}
	return r.reach
}

// maxCaptured is how much of a packet is kept without a rule: the largest one that libpcap reads.
const maxCaptured = 262144

// Keep returns how many bytes of a packet are kept, or -1 if it is discarded. It may be called on nil.
func (r *Set) Keep(p *packet.Packet, m *pipeline.Meta) int {
	n := min(len(p.Data), maxCaptured)
	if r == nil {
		return n
	}
	yes, unknown := r.set.Match(p, &m.Ref, m.L7)
	if r.calls != 0 && m.Call != nil {
		yes |= r.follow(m.Call, yes, p.Time)
		unknown &^= yes
	}
	match := (yes&^r.negate | r.negate&^yes&^unknown) & r.all
	if match == 0 {
		return n
	}
	rule := &r.list[bits.TrailingZeros64(match)]
	switch rule.Action {
	case Discard:
		return -1
	case Snap:
		return min(n, rule.Bytes)
	case SnapLink:
		return min(n, linkEnd(p))
	case SnapNetwork:
		return min(n, networkEnd(p))
	case SnapHeaders:
		return min(n, headersEnd(p))
	}
	return n
}

// follow returns the rules that a packet matches by its calls. yes are those whose filters it matches: they are for its calls from now on.
func (r *Set) follow(call *flow.Call, yes uint64, now int64) (by uint64) {
	for left := r.calls; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		if yes>>i&1 != 0 {
			r.list[i].Calls.add(call, now)
		} else if r.list[i].Calls.has(call, now) {
			by |= 1 << i
		}
	}
	return by
}

// linkEnd returns where the link layer ends; a frame whose link layer is not known is kept.
func linkEnd(p *packet.Packet) int {
	if p.L2End == 0 && p.Layers&(packet.IPv4|packet.IPv6) == 0 {
		return len(p.Data)
	}
	return int(p.L2End)
}

func networkEnd(p *packet.Packet) int {
	if h := p.L2Payload(); p.Layers&packet.ARP != 0 && len(h) >= 8 {
		return int(p.L2End) + 8 + 2*(int(h[4])+int(h[5])) // RFC 826: all of it is header
	}
	if p.Layers&packet.IP == 0 || p.L4 <= p.L3 {
		return linkEnd(p)
	}
	return int(p.L4)
}

func headersEnd(p *packet.Packet) int {
	end := networkEnd(p)
	if end > int(p.L3) && end == int(p.L4) && p.Layers&packet.LaterFragment == 0 {
		end += headerSize(p)
	}
	return end
}

// Protocols whose headers the decoder does not look into (RFC 4340 and 3828).
const (
	protoDCCP    = 33
	protoUDPLite = 136
)

// headerSize is that of the layer-4 header: with the options of TCP, whose data offset may make no sense, of GRE and DCCP, the fixed part of others, and 0 where
// there is no such header.
func headerSize(p *packet.Packet) int {
	words := func(at int, shift byte) int { // what the header says of its own size, in words of 4 bytes
		if at += int(p.L4); at < len(p.Data) {
			return int(p.Data[at]>>shift) * 4
		}
		return 0
	}
	switch {
	case p.Layers&packet.TCP != 0:
		return max(20, words(12, 4))
	case p.Layers&packet.SCTP != 0:
		return 12
	case p.Layers&packet.GRE != 0:
		return p.GREEnd() - int(p.L4)
	case p.Layers&(packet.UDP|packet.ICMP|packet.ICMPv6|packet.IGMP) != 0 || p.Proto == protoUDPLite:
		return 8
	case p.Proto == protoDCCP:
		return max(12, words(4, 0))
	}
	return 0
}
