package regexp

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a pattern. PCRE has the same depth by default; Go and RE2 the same repetition.
const (
	maxDepth  = 250
	maxRepeat = 1000
)

// flags are the options of (?imsx).
type flags struct {
	fold, multi, dotAll, extended, extendedMore bool
}

// A parser turns a pattern into a tree. It keeps its first error; after one it stands at the end of the pattern, so that every loop ends.
type parser struct {
	src    string
	pos    int
	depth  int
	groups int // capturing groups opened so far, which decide between \10 the reference and \10 the octal number
	flags  flags
	err    *Error
}

func parse(pattern string) (*node, error) {
	p := &parser{src: pattern}
	n := p.alternatives()
	if p.err == nil && p.pos < len(p.src) {
		p.fail(p.pos, 1, "closing parenthesis without an opening one")
	}
	if p.err != nil {
		return nil, p.err
	}
	return n, nil
}

// fail records an error about length bytes at pos.
func (p *parser) fail(pos, length int, format string, args ...any) *node {
	if p.err == nil {
		p.err = &Error{Pos: pos, Len: min(length, len(p.src)-pos), Message: fmt.Sprintf(format, args...)}
	}
	p.pos = len(p.src)
	return &node{op: opEmpty}
}

func (p *parser) more() bool             { return p.pos < len(p.src) }
func (p *parser) looking(s string) bool  { return strings.HasPrefix(p.src[p.pos:], s) }
func (p *parser) since(start int) string { return p.src[start:p.pos] }
func (p *parser) failed(start int, format string, args ...any) *node {
	return p.fail(start, max(p.pos-start, 1), format, args...)
}

// accept skips s if it is next.
func (p *parser) accept(s string) bool {
	if !p.looking(s) {
		return false
	}
	p.pos += len(s)
	return true
}

// alternatives parses up to the end or a closing parenthesis. Options set in one alternative hold in the following ones.
func (p *parser) alternatives() *node {
	subs := []*node{p.sequence()}
	for p.accept("|") {
		subs = append(subs, p.sequence())
	}
	return alternate(subs)
}

func (p *parser) sequence() *node {
	var subs []*node
	for {
		p.skipIgnored()
		if !p.more() || p.looking("|") || p.looking(")") {
			return concat(subs)
		}
		start := p.pos
		n := p.item()
		if n == nil {
			continue
		}
		subs = append(subs, p.quantified(start, n))
	}
}

// skipIgnored skips what matches nothing: comments, \E, an empty \Q\E, and blanks under (?x).
func (p *parser) skipIgnored() {
	for p.more() {
		switch c := p.src[p.pos]; {
		case p.flags.extended && spaceSet.has(c):
			p.pos++
		case p.flags.extended && c == '#':
			end := strings.IndexByte(p.src[p.pos:], '\n')
			if end < 0 {
				end = len(p.src) - p.pos - 1
			}
			p.pos += end + 1
		case p.looking("(?#"):
			end := strings.IndexByte(p.src[p.pos:], ')')
			if end < 0 {
				p.fail(p.pos, 3, "comment (?# without its closing parenthesis")
				return
			}
			p.pos += end + 1
		case !p.accept(`\E`) && !p.accept(`\Q\E`):
			return
		}
	}
}

// item parses one thing that a quantifier may follow; nil if it was an option setting, which is not one.
func (p *parser) item() *node {
	start := p.pos
	c := p.src[p.pos]
	if _, _, ok := p.peekRepeat(); ok || strings.IndexByte("*+?", c) >= 0 {
		return p.fail(start, 1, "quantifier %q has nothing to repeat", p.src[start:start+1])
	}
	p.pos++
	switch c {
	case '(':
		return p.group(start)
	case '[':
		return p.class(start)
	case '\\':
		return p.escape(start)
	case '.':
		if p.flags.dotAll {
			return &node{op: opSet, set: anySet}
		}
		return &node{op: opSet, set: newlineSet.negated()}
	case '^':
		return p.assertion(textStart, lineStart)
	case '$':
		return p.assertion(finalEnd, lineEnd)
	}
	p.pos = start
	return p.literal()
}

func (p *parser) assertion(single, multi assertion) *node {
	if p.flags.multi {
		single = multi
	}
	return &node{op: opAssert, assert: single}
}

// literal parses one character: a byte, or the bytes of one character in UTF-8, which a quantifier repeats as a whole.
func (p *parser) literal() *node {
	r, size := utf8.DecodeRuneInString(p.src[p.pos:])
	start := p.pos
	p.pos += size
	if r == utf8.RuneError || size == 1 {
		return p.byte(p.src[start])
	}
	return stringNode(p.since(start))
}

func (p *parser) byte(b byte) *node {
	n := byteNode(b)
	if p.flags.fold {
		n.set = n.set.folded()
	}
	return n
}

// quantified parses the quantifiers behind an item that began at start.
func (p *parser) quantified(start int, n *node) *node {
	for {
		p.skipIgnored()
		at := p.pos
		min, max, ok := p.repeat()
		if !ok {
			return n
		}
		if min > maxRepeat || max > maxRepeat {
			return p.failed(at, "repetition %s is above %d, the largest one supported", p.since(at), maxRepeat)
		}
		if max >= 0 && min > max {
			return p.failed(at, "repetition %s has its numbers out of order", p.since(at))
		}
		if p.accept("+") {
			return p.failed(at, "possessive quantifier %s is not supported: matching never backtracks here, leave the last + out", p.since(at))
		}
		p.accept("?")
		n = &node{op: opRepeat, min: min, max: max, subs: []*node{n}}
		if p.more() && strings.IndexByte("*+?", p.src[p.pos]) >= 0 {
			return p.fail(start, p.pos+1-start, "nested quantifiers in %s: put the inner one into (?:)", p.src[start:p.pos+1])
		}
	}
}

// repeat parses a quantifier without its suffix.
func (p *parser) repeat() (min, max int, ok bool) {
	if !p.more() {
		return 0, 0, false
	}
	switch p.src[p.pos] {
	case '*':
		p.pos++
		return 0, -1, true
	case '+':
		p.pos++
		return 1, -1, true
	case '?':
		p.pos++
		return 0, 1, true
	}
	start := p.pos
	if min, max, ok = p.peekRepeat(); ok {
		p.pos = start + strings.IndexByte(p.src[start:], '}') + 1
	}
	return min, max, ok
}

// peekRepeat reads {n}, {n,} or {n,m}. Anything else after a brace makes the brace a plain character.
func (p *parser) peekRepeat() (min, max int, ok bool) {
	rest, ok := strings.CutPrefix(p.src[p.pos:], "{")
	if !ok {
		return 0, 0, false
	}
	min, rest, ok = cutNumber(rest)
	if !ok {
		return 0, 0, false
	}
	max = min
	if after, comma := strings.CutPrefix(rest, ","); comma {
		max, rest, ok = cutNumber(after)
		if !ok {
			max, rest = -1, after
		}
	}
	return min, max, strings.HasPrefix(rest, "}")
}

// cutNumber reads decimal digits; large numbers are cut to one above the limit.
func cutNumber(s string) (n int, rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		n = min(n*10+int(s[i]-'0'), maxRepeat+1)
		i++
	}
	return n, s[i:], i > 0
}
