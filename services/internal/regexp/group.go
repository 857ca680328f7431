package regexp

import "strings"

// refused names what a group may begin with and this engine does not do: each would need backtracking or memory of what was matched.
// The longer beginning stands first.
var refused = []struct{ prefix, what string }{
	{"(?=", "lookahead (?=...) is not supported"},
	{"(?!", "negative lookahead (?!...) is not supported"},
	{"(?<=", "lookbehind (?<=...) is not supported"},
	{"(?<!", "negative lookbehind (?<!...) is not supported"},
	{"(?*", "lookahead (?*...) is not supported"},
	{"(?<*", "lookbehind (?<*...) is not supported"},
	{"(?>", "atomic group (?>...) is not supported: matching never backtracks here, write (?:...)"},
	{"(?(", "conditional group (?(...)...) is not supported"},
	{"(?P=", "back-reference (?P=name) is not supported"},
	{"(?P>", "recursion (?P>name) is not supported"},
	{"(?R", "recursion (?R) is not supported"},
	{"(?&", "recursion (?&name) is not supported"},
	{"(?+", "recursion (?+n) is not supported"},
	{"(?C", "callout (?C) is not supported"},
	{"(*", "verb (*...) is not supported"},
}

// group parses a group; its opening parenthesis at start is already read.
func (p *parser) group(start int) *node {
	for _, r := range refused {
		if strings.HasPrefix(p.src[start:], r.prefix) {
			return p.fail(start, len(r.prefix), "%s", r.what)
		}
	}
	outer := p.flags
	if p.accept("?") {
		switch next := p.rest(); {
		case next == "":
			return p.failed(start, "group (? is not complete")
		case strings.HasPrefix(next, "P<"), next[0] == '<', next[0] == '\'':
			p.name(start)
		case next[0] == '|':
			p.pos++
		default:
			if p.options(start) {
				return nil
			}
		}
	} else {
		p.groups++
	}
	if p.depth++; p.depth > maxDepth {
		return p.fail(start, 1, "parentheses nested deeper than %d", maxDepth)
	}
	n := p.alternatives()
	if !p.accept(")") {
		return p.fail(start, 1, "opening parenthesis without a closing one")
	}
	p.depth--
	p.flags = outer
	return n
}

func (p *parser) rest() string { return p.src[p.pos:] }

// name skips the name of a group: P<name>, <name> or 'name'. Names have no use here, and are accepted as people paste them.
func (p *parser) name(start int) {
	p.groups++
	p.accept("P")
	end := byte('>')
	if p.src[p.pos] == '\'' {
		end = '\''
	}
	p.pos++
	first := p.pos
	for p.more() && wordSet.has(p.src[p.pos]) {
		p.pos++
	}
	if !p.more() || p.src[p.pos] != end || p.pos == first || digitSet.has(p.src[first]) {
		p.fail(start, p.pos-start+1, "group name must be letters, digits and _ up to %c, and not begin with a digit", end)
		return
	}
	p.pos++
}

// options parses the letters after (? and reports whether they stand alone: (?i) holds up to the end of the enclosing group, (?i:...) is a group.
func (p *parser) options(start int) (alone bool) {
	on := true
	if p.accept("^") {
		p.flags = flags{}
	}
	for p.more() {
		c := p.src[p.pos]
		p.pos++
		switch c {
		case ')':
			return true
		case ':':
			return false
		case '-':
			if !on || digitSet.has((p.rest() + " ")[0]) {
				p.failed(start, "recursion or option %s is not supported", p.since(start))
				return true
			}
			on = false
		case 'i':
			p.flags.fold = on
		case 'm':
			p.flags.multi = on
		case 's':
			p.flags.dotAll = on
		case 'x':
			p.flags.extended = on
			p.flags.extendedMore = p.accept("x") && on
		case 'U', 'J', 'n': // lazy by default, duplicate names, no numbered groups: all without effect on a yes or no
		default:
			if digitSet.has(c) {
				p.failed(start, "recursion %s is not supported", p.since(start))
			} else {
				p.failed(p.pos-1, "unknown option in group %s: known are i, m, s, x, n, U, J", p.since(start))
			}
			return true
		}
	}
	p.failed(start, "group %s is not complete", p.src[start:])
	return true
}
