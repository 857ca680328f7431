package regexp

import (
	"strings"
	"unicode/utf8"
)

// classEscapes are the escapes that stand for a set, inside and outside of brackets.
var classEscapes = map[byte]set{
	'd': digitSet, 'D': digitSet.negated(),
	'w': wordSet, 'W': wordSet.negated(),
	's': spaceSet, 'S': spaceSet.negated(),
	'h': horizontalSet, 'H': horizontalSet.negated(),
	'v': verticalSet, 'V': verticalSet.negated(),
}

var assertEscapes = map[byte]assertion{
	'A': textStart, 'G': textStart, 'z': textEnd, 'Z': finalEnd, 'b': boundary, 'B': noBoundary,
}

var controlEscapes = map[byte]byte{'a': 7, 'e': 27, 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// refusedEscapes name what bytes, or a search without backtracking, cannot do.
var refusedEscapes = map[byte]string{
	'K': `\K (set the beginning of the match) is not supported`,
	'g': `\g (back-reference or recursion) is not supported`,
	'k': `\k (back-reference by name) is not supported`,
	'p': `\p (Unicode property) is not supported: the search is over bytes`,
	'P': `\P (Unicode property) is not supported: the search is over bytes`,
	'X': `\X (Unicode grapheme) is not supported: the search is over bytes`,
}

// escape parses what follows a backslash outside of brackets; the backslash at start is already read.
func (p *parser) escape(start int) *node {
	if !p.more() {
		return p.fail(start, 1, `backslash at the end of the pattern`)
	}
	c := p.src[p.pos]
	if c >= utf8.RuneSelf {
		return p.literal()
	}
	if s, ok := classEscapes[c]; ok {
		p.pos++
		return &node{op: opSet, set: s}
	}
	if a, ok := assertEscapes[c]; ok {
		p.pos++
		return &node{op: opAssert, assert: a}
	}
	switch c {
	case 'N':
		p.pos++
		if _, _, counted := p.peekRepeat(); p.looking("{") && !counted {
			return p.failed(start, `\N{...} (named character) is not supported: the search is over bytes`)
		}
		return &node{op: opSet, set: newlineSet.negated()}
	case 'C':
		p.pos++
		return &node{op: opSet, set: anySet}
	case 'R':
		p.pos++
		return newlineSequence()
	case 'Q':
		p.pos++
		return p.quotation()
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if n, _, _ := cutNumber(p.rest()); n < 10 || c >= '8' || n <= p.groups {
			for p.more() && digitSet.has(p.src[p.pos]) {
				p.pos++
			}
			return p.failed(start, "back-reference %s is not supported", p.since(start))
		}
	}
	b, ok := p.byteEscape(start)
	if !ok {
		return &node{op: opEmpty}
	}
	return p.byte(b)
}

// newlineSequence is \R. PCRE makes it atomic, so \r before \n is never taken alone.
func newlineSequence() *node {
	single := verticalSet
	single[0] &^= 1 << '\r'
	return alternate([]*node{
		stringNode("\r\n"),
		concat([]*node{byteNode('\r'), {op: opAssert, assert: notBeforeLF}}),
		{op: opSet, set: single},
	})
}

// quotation parses the characters of \Q...\E. All but the last are a sequence of their own, because a quantifier repeats only the last.
func (p *parser) quotation() *node {
	text, _, closed := strings.Cut(p.rest(), `\E`)
	end := p.pos + len(text)
	var subs []*node
	for p.pos < end {
		subs = append(subs, p.literal())
	}
	if closed {
		p.pos += len(`\E`)
	}
	if len(subs) < 2 {
		return concat(subs)
	}
	last := subs[len(subs)-1]
	subs[len(subs)-1] = p.quantified(end, last)
	return concat(subs)
}

// byteEscape parses an escape that stands for one byte; the backslash at start is already read.
func (p *parser) byteEscape(start int) (b byte, ok bool) {
	c := p.src[p.pos]
	p.pos++
	if b, ok := controlEscapes[c]; ok {
		return b, true
	}
	if why, ok := refusedEscapes[c]; ok {
		p.failed(start, "%s", why)
		return 0, false
	}
	switch {
	case c == 'x':
		return p.hex(start)
	case c == 'o':
		if !p.accept("{") {
			p.failed(start, `\o needs octal digits in braces`)
			return 0, false
		}
		return p.braced(start, 8)
	case c == 'c':
		if !p.more() || p.src[p.pos] < ' ' || p.src[p.pos] > '~' {
			p.failed(start, `\c needs a printable ASCII character behind it`)
			return 0, false
		}
		b = p.src[p.pos]
		p.pos++
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		return b ^ 0x40, true
	case c >= '0' && c <= '7':
		return p.octal(start)
	case wordSet.has(c) && c != '_':
		p.failed(start, "unknown escape %s", p.since(start))
		return 0, false
	}
	return c, true
}

// hex parses \xh, \xhh, \x{h...} or \x, which is zero as in PCRE.
func (p *parser) hex(start int) (byte, bool) {
	if p.accept("{") {
		return p.braced(start, 16)
	}
	v := 0
	for n := 0; n < 2 && p.more(); n++ {
		d := digit(p.src[p.pos])
		if d >= 16 {
			break
		}
		v = v<<4 | d
		p.pos++
	}
	return byte(v), true
}

// octal parses up to three octal digits.
func (p *parser) octal(start int) (byte, bool) {
	p.pos = start + 1
	v := 0
	for n := 0; n < 3 && p.more() && digit(p.src[p.pos]) < 8; n++ {
		v = v<<3 | digit(p.src[p.pos])
		p.pos++
	}
	return p.inByte(start, v)
}

// braced parses digits of a base up to a closing brace.
func (p *parser) braced(start, base int) (byte, bool) {
	v, first := 0, p.pos
	for p.more() && digit(p.src[p.pos]) < base {
		v = min(v*base+digit(p.src[p.pos]), 256)
		p.pos++
	}
	if p.pos == first || !p.accept("}") {
		p.failed(start, "%s needs digits of base %d and a closing brace", p.src[start:start+3], base)
		return 0, false
	}
	return p.inByte(start, v)
}

func (p *parser) inByte(start, v int) (byte, bool) {
	if v > 255 {
		p.failed(start, "%s is above 255: the search is over bytes", p.since(start))
		return 0, false
	}
	return byte(v), true
}

// digit is the value of a hexadecimal digit, or 16.
func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 16
}
