package filter

import (
	"cmp"
	"slices"
	"sync"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// simplify flattens nested conjunctions and disjunctions and takes negations to the comparisons that have a complement of their own.
// The meaning stays, unknown included.
func simplify(n *node) *node {
	switch n.op {
	case compare:
		return n
	case not:
		k := simplify(n.kids[0])
		switch {
		case k.op == not:
			return k.kids[0]
		case k.op == compare && complements[k.cmp.op] != "":
			c := *k.cmp
			c.op = complements[c.op]
			return &node{op: compare, cmp: &c}
		}
		return &node{op: not, kids: []*node{k}}
	}
	flat := &node{op: n.op}
	for _, k := range n.kids {
		if k = simplify(k); k.op == n.op {
			flat.kids = append(flat.kids, k.kids...)
		} else {
			flat.kids = append(flat.kids, k)
		}
	}
	return flat
}

// complements maps the operators that are exact complements of each other. The orders are not: both are false where the field is absent.
var complements = map[string]string{"==": "!=", "!=": "=="}

// cost returns what an evaluation costs at most.
func (n *node) cost() cost {
	if n.op == compare {
		return n.cmp.operand.cost
	}
	most := cheap
	for _, k := range n.kids {
		most = max(most, k.cost())
	}
	return most
}

// compile makes the closure of a tree; leaf makes those of its comparisons. Members are evaluated cheapest first, which Kleene's
// logic does not notice because its and and or commute.
func compile(n *node, env *Env, leaf func(*comparison, *Env) test) test {
	switch n.op {
	case compare:
		return leaf(n.cmp, env)
	case not:
		return negate(compile(n.kids[0], env, leaf))
	}
	kids := slices.Clone(n.kids)
	slices.SortStableFunc(kids, func(a, b *node) int { return cmp.Compare(a.cost(), b.cost()) })
	tests := make([]test, len(kids))
	for i, k := range kids {
		tests[i] = compile(k, env, leaf)
	}
	if n.op == and {
		return all(tests)
	}
	return some(tests)
}

var complement = [3]Result{No: Yes, Yes: No, Unknown: Unknown}

func negate(t test) test {
	return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result { return complement[t(p, ref, v)] }
}

// all is Kleene's and: No if a member is No, else Unknown if one is, else Yes.
func all(tests []test) test {
	if len(tests) == 2 {
		a, b := tests[0], tests[1]
		return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			x := a(p, ref, v)
			if x == No {
				return No
			}
			if y := b(p, ref, v); y != Yes {
				return y
			}
			return x
		}
	}
	return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
		result := Yes
		for _, t := range tests {
			switch t(p, ref, v) {
			case No:
				return No
			case Unknown:
				result = Unknown
			}
		}
		return result
	}
}

// some is Kleene's or: Yes if a member is Yes, else Unknown if one is, else No.
func some(tests []test) test {
	return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
		result := No
		for _, t := range tests {
			switch t(p, ref, v) {
			case Yes:
				return Yes
			case Unknown:
				result = Unknown
			}
		}
		return result
	}
}

// leaf makes the closure of a comparison.
func leaf(c *comparison, env *Env) test {
	t := c.operand.compile(c.set, env)
	if c.op == "!=" {
		return negate(t)
	}
	return t
}

// compile makes the closure of ==.
func (o *operand) compile(s *set, env *Env) test {
	t := o.flow
	if t == nil {
		t = func(s *set, env *Env) test { return onHeaders(o.header(s, env)) }
	}
	if o.frame {
		return t(s, env)
	}
	view := env.Tunnels
	if o.innermost && view == OuterHeaders {
		view = InnerHeaders
	}
	return look(view, t(s, env))
}

func onHeaders(holds func(p *packet.Packet) bool) test {
	return func(p *packet.Packet, _ *flow.Ref, _ l7.Verdict) Result {
		if holds(p) {
			return Yes
		}
		return No
	}
}

// look makes t look at the headers that view names.
func look(view TunnelView, t test) test {
	switch view {
	case InnerHeaders:
		return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			if p.Layers&packet.Tunnel == 0 {
				return t(p, ref, v)
			}
			q := levels.Get().(*[2]packet.Packet)
			q[0], q[1] = *p, *p
			for q[0].Inner(&q[0]) {
				if q[0].Layers&packet.IP != 0 {
					q[1] = q[0]
				}
			}
			result := t(&q[1], ref, v)
			levels.Put(q)
			return result
		}
	case AnyHeaders:
		return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			result := t(p, ref, v)
			if result == Yes || p.Layers&packet.Tunnel == 0 {
				return result
			}
			q := levels.Get().(*[2]packet.Packet)
			q[0] = *p
			for result != Yes && q[0].Inner(&q[0]) {
				if r := t(&q[0], ref, v); r != No {
					result = r
				}
			}
			levels.Put(q)
			return result
		}
	}
	return t
}

// levels lends room for the inner packets of tunnels, which workers share a filter for.
var levels = sync.Pool{New: func() any { return new([2]packet.Packet) }}
