package filter

import "strings"

// String returns the canonical form: ==, !=, and, or, !(...), names and values in one spelling, parentheses only where they are needed.
// It means the same and is its own canonical form. The filter that takes every packet is "".
func (f *Filter) String() string {
	if f.tree == nil {
		return ""
	}
	var b strings.Builder
	f.tree.print(&b)
	return b.String()
}

func (n *node) print(b *strings.Builder) {
	switch n.op {
	case compare:
		c := n.cmp
		b.WriteString(c.operand.name + " " + c.op + " " + strings.Join(c.set.text, ","))
	case not:
		b.WriteString("!(")
		n.kids[0].print(b)
		b.WriteString(")")
	default:
		for i, k := range n.kids {
			if i > 0 {
				b.WriteString([...]string{and: " and ", or: " or "}[n.op])
			}
			k.printMember(b, n.op)
		}
	}
}

// printMember puts a disjunction within a conjunction in parentheses; nothing else needs them.
func (n *node) printMember(b *strings.Builder, within nodeOp) {
	if within != and || n.op != or {
		n.print(b)
		return
	}
	b.WriteString("(")
	n.print(b)
	b.WriteString(")")
}

// quoteIfNeeded returns text bare if it reads back so, else quoted.
func quoteIfNeeded(text string) string {
	if text != "" && text[0] != '(' && !isQuote(firstRune(text)) && bareEnd(text) == len(text) && !strings.ContainsAny(text, `"'`) {
		return text
	}
	return Quote(text)
}

// Quote puts a text in the first kind of quotes that gives it back: double ones with \", single ones, typographic ones, none.
func Quote(text string) string {
	double := `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
	for _, q := range []string{double, "'" + text + "'", "“" + text + "”", "‘" + text + "’"} {
		s := scanner{source: q}
		if items, err := s.value(); err == nil && s.pos == len(q) && len(items) == 1 && items[0].text == text {
			return q
		}
	}
	return text
}
