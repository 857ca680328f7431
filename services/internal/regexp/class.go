package regexp

import (
	"strings"
	"unicode/utf8"
)

// posixClasses are the names in [[:name:]], ASCII as in PCRE's default locale.
var posixClasses = map[string]set{
	"alnum":  setOf("09AZaz"),
	"alpha":  setOf("AZaz"),
	"ascii":  setOf("\x00\x7f"),
	"blank":  setOf("\t\t  "),
	"cntrl":  setOf("\x00\x1f\x7f\x7f"),
	"digit":  digitSet,
	"graph":  setOf("!~"),
	"lower":  setOf("az"),
	"print":  setOf(" ~"),
	"punct":  setOf("!/:@[`{~"),
	"space":  spaceSet,
	"upper":  setOf("AZ"),
	"word":   wordSet,
	"xdigit": setOf("09AFaf"),
}

// A classItem is one element of a class: a byte that may begin a range, a set, or a character of several bytes.
type classItem struct {
	kind classKind
	b    byte
	set  set
	text string
}

type classKind uint8

const (
	classByte classKind = iota
	classSet
	classText
)

// class parses a bracket expression; its opening bracket at start is already read. It is a set of bytes; characters beyond ASCII
// become alternatives beside it, each with all its bytes, which is only possible where the class is not negated and they are no end of a range.
func (p *parser) class(start int) *node {
	if name, _, ok := strings.Cut(p.rest(), ":]"); ok && len(name) > 1 && name[0] == ':' && posixClasses[strings.TrimPrefix(name[1:], "^")] != (set{}) {
		return p.fail(start, len(name)+3, "class [%s:] must stand within brackets: [[%s:]]", name, name)
	}
	negated := p.accept("^")
	var s set
	var texts []*node
	quoted := false
	for first := true; ; first = false {
		p.skipInClass(&quoted)
		if !p.more() {
			return p.fail(start, 1, "opening bracket without a closing one")
		}
		if !first && !quoted && p.accept("]") {
			break
		}
		at := p.pos
		item := p.classItem(quoted)
		switch {
		case p.err != nil:
			return &node{op: opEmpty}
		case item.kind == classText && negated:
			return p.failed(at, "a negated class holds bytes, and %s has several", item.text)
		case item.kind == classText:
			texts = append(texts, stringNode(item.text))
			continue
		}
		p.skipInClass(&quoted)
		if quoted || !p.rangeFollows() {
			s.union(&item.set)
			continue
		}
		p.pos++
		p.skipInClass(&quoted)
		p.classRange(at, item, quoted, &s)
	}
	if p.flags.fold {
		s = s.folded()
	}
	if negated {
		s = s.negated()
	}
	n := &node{op: opSet, set: s}
	if len(texts) == 0 {
		return n
	}
	return alternate(append(texts, n))
}

// skipInClass passes \Q and \E, and blanks under (?xx).
func (p *parser) skipInClass(quoted *bool) {
	for p.more() {
		switch {
		case p.accept(`\E`):
			*quoted = false
		case !*quoted && p.accept(`\Q`):
			*quoted = true
		case !*quoted && p.flags.extendedMore && (p.src[p.pos] == ' ' || p.src[p.pos] == '\t'):
			p.pos++
		default:
			return
		}
	}
}

// rangeFollows reports whether a hyphen follows that is not the last character of the class.
func (p *parser) rangeFollows() bool {
	return p.looking("-") && !p.looking("-]") && p.pos+1 < len(p.src)
}

// classRange adds the range from an item that began at start to the next one.
func (p *parser) classRange(start int, from classItem, quoted bool, s *set) {
	if !p.more() {
		return
	}
	to := p.classItem(quoted)
	switch {
	case p.err != nil:
	case from.kind != classByte || to.kind != classByte:
		p.failed(start, "range %s does not go from byte to byte", p.since(start))
	case from.b > to.b:
		p.failed(start, "range %s is out of order", p.since(start))
	default:
		s.addRange(from.b, to.b)
	}
}

func (p *parser) classItem(quoted bool) classItem {
	start := p.pos
	switch {
	case !quoted && p.looking("["):
		if item, ok := p.posix(start); ok {
			return item
		}
	case !quoted && p.accept(`\`):
		return p.classEscape(start)
	}
	return p.classCharacter()
}

func (p *parser) classCharacter() classItem {
	start := p.pos
	_, size := utf8.DecodeRuneInString(p.rest())
	p.pos += size
	if size > 1 {
		return classItem{kind: classText, text: p.since(start)}
	}
	return byteItem(p.src[start])
}

func byteItem(b byte) classItem {
	item := classItem{b: b}
	item.set.add(b)
	return item
}

// posix parses [:name:] or [:^name:]. A bracket that begins none is a plain character.
func (p *parser) posix(start int) (classItem, bool) {
	rest := p.rest()
	if len(rest) < 2 || strings.IndexByte(":.=", rest[1]) < 0 {
		return classItem{}, false
	}
	end := strings.Index(rest[2:], rest[1:2]+"]")
	if end < 0 || strings.ContainsAny(rest[2:2+end], `[]\`) {
		return classItem{}, false
	}
	name, negated := strings.CutPrefix(rest[2:2+end], "^")
	p.pos += end + 4
	s, known := posixClasses[name]
	if rest[1] != ':' || !known {
		p.failed(start, "unknown class %s", p.since(start))
		return classItem{}, true
	}
	if p.flags.fold && (name == "upper" || name == "lower") {
		s = s.folded()
	}
	if negated {
		s = s.negated()
	}
	return classItem{kind: classSet, set: s}, true
}

// classEscape parses an escape within brackets; the backslash at start is already read.
func (p *parser) classEscape(start int) classItem {
	if !p.more() {
		p.fail(start, 1, "backslash at the end of the pattern")
		return classItem{}
	}
	c := p.src[p.pos]
	if c >= utf8.RuneSelf {
		return p.classCharacter()
	}
	if s, ok := classEscapes[c]; ok {
		p.pos++
		return classItem{kind: classSet, set: s}
	}
	switch c {
	case 'b':
		p.pos++
		return byteItem('\b')
	case '8', '9':
		p.pos++
		return byteItem(c)
	case 'N', 'R', 'B', 'X':
		p.pos++
		p.failed(start, "escape %s has no meaning within brackets", p.since(start))
		return classItem{}
	}
	b, _ := p.byteEscape(start)
	return byteItem(b)
}
