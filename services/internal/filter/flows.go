package filter

import (
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// Flows returns a filter that takes every packet of each flow of which f may take one, and of others as well: what of a record must be looked at where the result for a
// packet depends on the packets before it. It is nil if that is everything, as it is where flows depend on each other: verdicts and calls come from anywhere.
//
// What an expression says of addresses, ports and protocol it says of the flow, whichever direction is meant; all else may hold for one packet and not for the next.
func (f *Filter) Flows() *Filter {
	if f.tree == nil || f.NeedsL7() || f.NeedsCalls() || f.env.Tunnels == AnyHeaders {
		return nil // in a tunnel view of any headers the address may be that of a tunnel, and the flow's next packet in another one
	}
	tree := f.tree.flows()
	if tree == nil {
		return nil
	}
	return &Filter{env: f.env, tree: tree, test: compile(tree, f.env, leaf)}
}

// Followed says of which packets the flow must be known for the filter's results to be what they are if all flows are: it is what flow.Config.Only asks for. Nil is
// all, as it is for what depends on more of the flow than its server side.
func (f *Filter) Followed() func(*packet.Packet) bool {
	if f.StreamReach() > 0 || f.env.Tunnels != OuterHeaders {
		return nil // of a datagram in a tunnel the later fragments have the addresses of the tunnel and the flow inside
	}
	only := f.Flows()
	if only == nil {
		return nil
	}
	return func(p *packet.Packet) bool { return only.test(p, nil, l7.Verdict{}) == Yes }
}

// flows returns what must hold for the flow of a packet for which n may hold; nil if that is nothing.
func (n *node) flows() *node {
	switch n.op {
	case compare:
		c := *n.cmp
		if c.operand.ofFlow == "" || c.op == "!=" {
			return nil
		}
		c.operand = lookup(c.operand.ofFlow)
		return &node{op: compare, cmp: &c}
	case and:
		var kids []*node
		for _, k := range n.kids {
			if k = k.flows(); k != nil {
				kids = append(kids, k)
			}
		}
		return joined(and, kids)
	case or:
		var kids []*node
		for _, k := range n.kids {
			if k = k.flows(); k == nil {
				return nil
			}
			kids = append(kids, k)
		}
		return joined(or, kids)
	}
	return nil
}

func joined(op nodeOp, kids []*node) *node {
	switch len(kids) {
	case 0:
		return nil
	case 1:
		return kids[0]
	}
	return &node{op: op, kids: kids}
}
