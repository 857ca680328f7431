package filter

import "strings"

// Words explains the filter in a sentence for people.
func (f *Filter) Words() string {
	if f.tree == nil {
		return "every packet"
	}
	return "packets where " + f.tree.words()
}

func (n *node) words() string {
	switch n.op {
	case compare:
		return n.cmp.words()
	case not:
		return "it is not so that (" + n.kids[0].words() + ")"
	}
	parts := make([]string, len(n.kids))
	for i, k := range n.kids {
		parts[i] = k.words()
		if k.op == and || k.op == or {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	return strings.Join(parts, [...]string{and: " and ", or: " or "}[n.op])
}

// orders are the operators < <= > >= in words.
var orders = map[string]string{"<": "below", "<=": "at most", ">": "above", ">=": "at least"}

func (c *comparison) words() string {
	o := c.operand
	if o.facts[1] != "" {
		return c.fact()
	}
	says := o.is
	if c.op == "!=" {
		says = o.negated()
	}
	if order := orders[c.op]; order != "" {
		says += " " + order
	}
	if !strings.HasPrefix(says, "no ") && !strings.HasPrefix(says, "neither ") {
		says = "the " + says
	}
	return says + " " + orList(c.set.text)
}

// fact is a comparison of an operand that has facts.
func (c *comparison) fact() string {
	var said []string
	for value, fact := range c.operand.facts {
		if c.set.has(uint32(value)) {
			said = append(said, fact)
		}
	}
	text := orList(said)
	switch {
	case c.op == "!=":
		return "it is not so that (" + text + ")"
	case len(said) > 1:
		return "(" + text + ")"
	}
	return text
}

// negated is the complement in words.
func (o *operand) negated() string {
	if o.isNot != "" {
		return o.isNot
	}
	return strings.TrimSuffix(o.is, " is") + " is not"
}
