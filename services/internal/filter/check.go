package filter

import "fmt"

// A checker resolves names and values: after it an expression is known to mean something.
type checker struct {
	env    *Env
	source string

	// of the comparison at hand
	cmp *comparison
	set *set
}

// orders reports whether the comparison at hand is one of < <= > >=.
func (c *checker) orders() bool { return c.cmp.op[0] == '<' || c.cmp.op[0] == '>' }

// add notes the canonical spelling of an item.
func (c *checker) add(text string) { c.set.text = append(c.set.text, text) }

// wrong is an error about an item.
func (c *checker) wrong(it item, message string, expected ...string) *Error {
	return &Error{Pos: it.pos, Len: it.end - it.pos, Message: message, Expected: expected}
}

// check resolves every comparison of a tree.
func (c *checker) check(n *node) error {
	if n.cmp != nil {
		if err := c.comparison(n.cmp); err != nil {
			return err
		}
	}
	for _, k := range n.kids {
		if err := c.check(k); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) comparison(cmp *comparison) *Error {
	name := c.source[cmp.name.pos:cmp.name.end]
	o := lookup(name)
	if o == nil {
		return unknownOperand(name, cmp.name.pos)
	}
	cmp.operand, cmp.set = o, &set{}
	c.cmp, c.set = cmp, cmp.set
	if err := c.need(o); err != nil {
		return err
	}
	if c.orders() && !o.ordered {
		return &Error{Pos: cmp.opAt.pos, Len: cmp.opAt.end - cmp.opAt.pos, Message: fmt.Sprintf("%s has no order, so %s has no meaning", o.name, cmp.op), Expected: []string{"==", "!="}}
	}
	items := c.items(o)
	if c.orders() && len(items) > 1 {
		return &Error{Pos: cmp.valueAt.pos, Len: cmp.valueAt.end - cmp.valueAt.pos, Message: fmt.Sprintf("%s takes one number, not a list", cmp.op), Expected: []string{"a number"}}
	}
	for _, it := range items {
		if err := o.read(c, it); err != nil {
			return err
		}
	}
	cmp.set.text = unique(cmp.set.text)
	cmp.set.settle()
	return nil
}

func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	kept := list[:0]
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// need checks what an operand needs of the ports.
func (c *checker) need(o *operand) *Error {
	if o.needs&needsFCS == 0 || !c.env.Live {
		return nil
	}
	for _, p := range c.env.Ports {
		if p.CanFCS {
			return nil
		}
	}
	at := c.cmp.name
	return &Error{Pos: at.pos, Len: at.end - at.pos, Message: o.name + " needs a port that receives frames with a wrong FCS and tells them (NIC features rx-all and rx-fcs); none of the ports can"}
}

// items cuts the value list: a comma in quotes separates too, but where it belongs to the value.
func (c *checker) items(o *operand) []item {
	if o.opaque && !c.cmp.items[0].quoted {
		at := c.cmp.valueAt
		return []item{{span: at, text: c.source[at.pos:at.end]}}
	}
	if o.whole {
		return c.cmp.items
	}
	var items []item
	for _, it := range c.cmp.items {
		items = append(items, c.split(it)...)
	}
	return items
}

func (c *checker) split(it item) []item {
	if !it.quoted {
		return []item{it}
	}
	var parts []item
	from := 0
	for i := 0; i <= len(it.text); i++ {
		if i < len(it.text) && it.text[i] != ',' {
			continue
		}
		part := item{span: it.span, text: it.text[from:i], part: true}
		if from > 0 || i < len(it.text) {
			part.span = span{it.at(c.source, from), it.at(c.source, i)}
		}
		parts = append(parts, part)
		from = i + 1
	}
	return parts
}
