// Package filter is the expert filter language: scan, parse, check, compile, one file each, and a canonical printer.
//
// The operands of the language are rows of a table, a file per subject; LANGUAGE.md is made from them. An expression compiles to
// closures with three-valued results. Matching allocates nothing, takes no lock and keeps no packet. A Filter is immutable and may be
// used by several workers at once; a Set, which shares work between the filters of many captures, belongs to one worker.
//
// The package looks at one packet at a time. What it knows beside the packet's own bytes is the flow record (the server side, the ports of
// later fragments), the verdict of package l7, and the Env that an expression was compiled with.
package filter

import (
	"fmt"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// A Result is the value of an expression for a packet: Kleene's three values.
type Result uint8

// The results. Unknown means that the flow of the packet has no verdict yet, so the answer may still become Yes or No.
const (
	No Result = iota
	Yes
	Unknown
)

// A Filter is a compiled expression.
type Filter struct {
	tree *node // nil takes every packet
	env  *Env
	test test
}

// Compile makes a filter of an expression. An empty or blank one takes every packet. A nil env is that of a savefile without configuration.
// The error is an *Error.
func Compile(expression string, env *Env) (*Filter, error) {
	if env == nil {
		env = &Env{}
	}
	tree, err := parse(expression)
	if err != nil {
		return nil, err
	}
	f := &Filter{env: env}
	if tree == nil {
		f.test = func(*packet.Packet, *flow.Ref, l7.Verdict) Result { return Yes }
		return f, nil
	}
	if err := (&checker{env: env, source: expression}).check(tree); err != nil {
		return nil, err
	}
	f.tree = simplify(tree)
	if n := len(f.String()); n > maxSource {
		return nil, &Error{Pos: 0, Len: len(expression), Message: fmt.Sprintf("the canonical form of the expression has %d bytes, more than %d", n, maxSource)}
	}
	f.test = compile(f.tree, env, leaf)
	return f, nil
}

// Match evaluates the filter for p, which was decoded, with the flow that ref names and that flow's verdict. ref may be nil.
func (f *Filter) Match(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
	return f.test(p, ref, v)
}

// NeedsL7 reports whether the result depends on the verdict of the flow, and so may be Unknown.
func (f *Filter) NeedsL7() bool { return f.needs(needsL7) }

// NeedsFlow reports whether the result depends on the packet's flow. If not, the packet alone decides, where later fragments have what a flow.Joiner or a flow.Table
// tells them.
func (f *Filter) NeedsFlow() bool { return f.needs(needsFlow | needsL7 | needsCalls | needsStreams) }

// NeedsFCS reports whether the result depends on the frame check sequence, which only some ports can tell.
func (f *Filter) NeedsFCS() bool { return f.needs(needsFCS) }

// NeedsCalls reports whether the result depends on the calls that a packet belongs to (flow.Ref.Call). No index has them: who asks a ring replays it
// through a worker, from some time before the interval on so that calls which began earlier are known.
func (f *Filter) NeedsCalls() bool { return f.needs(needsCalls) }

// StreamReach returns how far the result depends on what is around the payload in the packet's TCP stream (flow.Ref.Stream), in bytes to either side; 0 if it does
// not.
func (f *Filter) StreamReach() int {
	reach := 0
	f.tree.walk(func(c *comparison) {
		if c.operand.needs&needsStreams == 0 {
			return
		}
		for _, r := range c.set.patterns {
			far := r.Longest()
			if far < 0 {
				far = flow.StreamReach
			}
			reach = max(reach, min(max(far, 1), flow.StreamReach))
		}
	})
	return reach
}

func (f *Filter) needs(what demand) bool {
	found := false
	f.tree.walk(func(c *comparison) {
		needs := c.operand.needs
		if len(c.set.codecs) > 0 {
			needs |= needsCalls
		}
		found = found || needs&what != 0
	})
	return found
}
