package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of parentheses and negations, and so the stack of every later stage.
const maxDepth = 200

// A node is an expression: a conjunction or disjunction of at least two, a negation of one, or a comparison.
type node struct {
	op   nodeOp
	kids []*node     // and, or: the members; not: one
	cmp  *comparison // compare
}

type nodeOp uint8

const (
	compare nodeOp = iota
	and
	or
	not
)

// A comparison is operand op value. parse fills in the source's words, check the rest.
type comparison struct {
	name    span
	op      string // ==, !=, <, <=, >, >=
	opAt    span
	items   []item
	valueAt span
	operand *operand
	set     *set
}

// walk calls f for each comparison.
func (n *node) walk(f func(*comparison)) {
	if n == nil {
		return
	}
	if n.cmp != nil {
		f(n.cmp)
	}
	for _, k := range n.kids {
		k.walk(f)
	}
}

type parser struct {
	scanner
	depth int
}

// parse returns the tree of an expression, nil for a blank one.
func parse(source string) (*node, error) {
	if len(source) > maxSource {
		return nil, &Error{Pos: maxSource, Len: len(source) - maxSource, Message: fmt.Sprintf("the expression has %d bytes, more than %d", len(source), maxSource)}
	}
	if at := notText(source); at >= 0 {
		return nil, &Error{Pos: at, Len: 1, Message: fmt.Sprintf("byte 0x%02x at position %d is not UTF-8: an expression is text in UTF-8", source[at], at)}
	}
	p := &parser{scanner: scanner{source: source}}
	if p.blank(); p.pos == len(source) {
		return nil, nil
	}
	n, err := p.or()
	if err == nil && p.pos < len(source) {
		err = p.trailing()
	}
	if err != nil {
		err.Syntax = true
		return nil, err
	}
	return n, nil
}

// notText returns where the first byte is that is not UTF-8; -1 if there is none.
func notText(source string) int {
	for at := 0; at < len(source); {
		r, width := utf8.DecodeRuneInString(source[at:])
		if r == utf8.RuneError && width == 1 {
			return at
		}
		at += width
	}
	return -1
}

// trailing explains what is left over after a complete expression.
func (p *parser) trailing() *Error {
	where := p.junk()
	e := &Error{Pos: where.pos, Len: where.end - where.pos, Expected: []string{"and", "or", "the end"}}
	text := p.source[where.pos:where.end]
	switch {
	case text == ")":
		e.Message = "this parenthesis closes nothing"
	case strings.HasPrefix(text, "&"):
		e.Message, e.Expected = "& is not an operator; write && or and", []string{"&&", "and"}
	case strings.HasPrefix(text, "|"):
		e.Message, e.Expected = "| is not an operator; write || or or", []string{"||", "or"}
	default:
		e.Message = fmt.Sprintf("%q follows a complete comparison; a value with blanks must be quoted", short(text))
	}
	return e
}

func short(text string) string {
	if len(text) <= 40 {
		return text
	}
	return strings.ToValidUTF8(text[:40], "") + "…"
}

func (p *parser) or() (*node, *Error) { return p.list(or, "||", "or", p.and) }

func (p *parser) and() (*node, *Error) { return p.list(and, "&&", "and", p.unary) }

// list parses members that a mark or a word joins.
func (p *parser) list(op nodeOp, mark, word string, member func() (*node, *Error)) (*node, *Error) {
	first, err := member()
	if err != nil {
		return nil, err
	}
	n := &node{op: op, kids: []*node{first}}
	for p.take(mark) != "" || p.keyword(word) {
		k, err := member()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, k)
	}
	if p.blank(); len(n.kids) == 1 {
		return first, nil
	}
	return n, nil
}

func (p *parser) unary() (*node, *Error) {
	p.depth++
	defer func() { p.depth-- }()
	p.blank()
	at := p.pos
	if p.depth > maxDepth {
		return nil, &Error{Pos: at, Len: min(1, len(p.source)-at), Message: fmt.Sprintf("the expression is nested more than %d levels deep", maxDepth)}
	}
	switch {
	case p.take("!") != "" || p.keyword("not"):
		if strings.HasPrefix(p.rest(), "=") {
			return nil, &Error{Pos: at, Len: 2, Message: "an operand is missing before the operator", Expected: []string{"an operand"}}
		}
		k, err := p.unary()
		if err != nil {
			return nil, err
		}
		return &node{op: not, kids: []*node{k}}, nil
	case p.take("(") != "":
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.take(")") != "" {
			return n, nil
		}
		if p.pos < len(p.source) {
			e := p.trailing()
			e.Expected = []string{"and", "or", ")"}
			return nil, e
		}
		return nil, &Error{Pos: at, Len: 1, Message: "this parenthesis is not closed", Expected: []string{"and", "or", ")"}}
	}
	return p.comparison()
}

// The operators, longest first. Those that map to "" are not of this language; the text says what is.
var operators = []struct{ mark, op, instead string }{
	{"===", "", "=== is not an operator of this language; write =="},
	{"!==", "", "!== is not an operator of this language; write !="},
	{"==", "==", ""},
	{"!=", "!=", ""},
	{"<=", "<=", ""},
	{">=", ">=", ""},
	{"=~", "", `=~ is not an operator of this language; write regexp == "..."`},
	{"~=", "", `~= is not an operator of this language; write != for "not equal" or regexp == "..." for a pattern`},
	{"<>", "", "<> is not an operator of this language; write !="},
	{"=", "", "= is not an operator of this language; write =="},
	{"<", "<", ""},
	{">", ">", ""},
	{"~", "", `~ is not an operator of this language; write regexp == "..."`},
}

var wordOperators = []struct{ word, op, instead string }{
	{"eq", "==", ""},
	{"ne", "!=", ""},
	{"matches", "", `matches is not an operator of this language; write regexp == "..."`},
	{"contains", "", `contains is not an operator of this language; write regexp == "..."`},
	{"in", "", "in is not an operator of this language; write == with a list, such as portrange == 80,443"},
	{"lt", "<", ""},
	{"le", "<=", ""},
	{"gt", ">", ""},
	{"ge", ">=", ""},
}

func (p *parser) comparison() (*node, *Error) {
	c := &comparison{}
	word := p.peek()
	if word == "" {
		where := p.junk()
		return nil, &Error{Pos: where.pos, Len: where.end - where.pos, Message: "an operand is missing", Expected: []string{"an operand", "(", "!"}}
	}
	c.name = span{p.pos, p.pos + len(word)}
	if isOneOf(word, "and", "or", "eq", "ne") {
		return nil, &Error{Pos: p.pos, Len: len(word), Message: fmt.Sprintf("an operand is missing before %q", word), Expected: []string{"an operand", "(", "!"}}
	}
	p.pos += len(word)
	if err := p.operator(c); err != nil {
		return nil, err
	}
	p.blank()
	at := p.pos
	items, err := p.value()
	if err != nil {
		return nil, err
	}
	c.items, c.valueAt = items, span{at, p.pos}
	p.blank()
	return &node{op: compare, cmp: c}, nil
}

func isOneOf(word string, list ...string) bool {
	for _, w := range list {
		if strings.EqualFold(word, w) {
			return true
		}
	}
	return false
}

func (p *parser) operator(c *comparison) *Error {
	p.blank()
	at := p.pos
	for _, o := range operators {
		if p.take(o.mark) != "" {
			return c.operate(o.op, o.instead, span{at, p.pos})
		}
	}
	for _, o := range wordOperators {
		if p.keyword(o.word) {
			return c.operate(o.op, o.instead, span{at, p.pos})
		}
	}
	name := p.source[c.name.pos:c.name.end]
	if lookup(name) == nil {
		return unknownOperand(name, c.name.pos)
	}
	e := &Error{Pos: at, Expected: []string{"==", "!=", "<", "<=", ">", ">="}, Message: fmt.Sprintf("an operator is missing after %q", short(name))}
	if at < len(p.source) {
		where := p.junk()
		e.Pos, e.Len = where.pos, where.end-where.pos
	}
	return e
}

func (c *comparison) operate(op, instead string, at span) *Error {
	if instead != "" {
		return &Error{Pos: at.pos, Len: at.end - at.pos, Message: instead, Expected: []string{"==", "!="}}
	}
	c.op, c.opAt = op, at
	return nil
}
