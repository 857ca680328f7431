package regexp

import (
	"math/bits"
	"slices"
)

// Limits of what is required: so many literals of such a length.
const (
	maxLiterals = 64
	maxLiteral  = 24
	maxCover    = 4   // literals that one class may become
	anyFrom     = 128 // classes with so many bytes are taken as all bytes
	enough      = 10  // bits of information that make a search for a literal worth while
)

// A literal is a string of partly known bytes: it matches where each byte, under its mask, has its value. So one literal holds both
// cases of a word, or a class like [\x00-\x03].
type literal struct{ mask, value string }

func (l literal) append(m literal) literal { return literal{l.mask + m.mask, l.value + m.value} }

// A requirement says that every match contains one of the literals, at most before bytes behind its beginning; before < 0 is unbounded.
// It is exact if each text with such a literal is a match.
type requirement struct {
	literals []literal
	before   int
	exact    bool
}

// A finding is what the tree tells about the strings that a node matches.
type finding struct {
	run     []literal // covers all these strings; nil if they are too many
	exact   bool      // run covers nothing else
	longest int       // bytes; < 0 is unbounded
	best    requirement
}

// required returns the best requirement of a pattern, without literals if there is no good one.
func (n *node) required() requirement {
	f := n.find()
	best := better(requirement{f.run, 0, f.exact}, f.best)
	if best.bits() < enough {
		return requirement{}
	}
	return best
}

func (n *node) find() finding {
	switch n.op {
	case opSet:
		return findSet(n.set)
	case opConcat:
		c := newChain()
		for _, sub := range n.subs {
			c.add(sub.find())
		}
		return c.end()
	case opAlternate:
		return n.findAlternate()
	case opRepeat:
		return n.findRepeat()
	}
	return finding{run: []literal{{}}, exact: n.op == opEmpty}
}

// findSet covers a set with literals of one byte. From its smallest byte a cube of bytes is grown bit by bit while it stays in the set.
func findSet(s set) finding {
	f := finding{longest: 1, exact: true}
	if n := s.len(); n >= anyFrom {
		f.run, f.exact = []literal{{"\x00", "\x00"}}, n == 256
		return f
	}
	left := s
	for b := range 256 {
		if !left.has(byte(b)) {
			continue
		}
		free := byte(0)
		for bit := byte(1); bit != 0; bit <<= 1 {
			if cubeWithin(&s, byte(b), free|bit) {
				free |= bit
			}
		}
		for o := range 256 {
			if byte(o)&^free == byte(b)&^free {
				left[o>>6] &^= 1 << (o & 63)
			}
		}
		f.run = append(f.run, literal{string([]byte{^free}), string([]byte{byte(b) &^ free})})
	}
	if len(f.run) > maxCover {
		f.run = nil
	}
	return f
}

func cubeWithin(s *set, b, free byte) bool {
	for o := range 256 {
		if byte(o)&^free == b&^free && !s.has(byte(o)) {
			return false
		}
	}
	return true
}

func (n *node) findAlternate() finding {
	all := finding{exact: true, run: []literal{}}
	all.best.literals = []literal{}
	for _, sub := range n.subs {
		f := sub.find()
		best := better(f.best, requirement{f.run, 0, f.exact})
		all.longest = longer(all.longest, f.longest)
		all.exact = all.exact && f.exact
		all.run = join(all.run, f.run)
		all.best.before = longer(all.best.before, best.before)
		all.best.literals = join(all.best.literals, best.literals)
	}
	return all
}

// join unites two sets of literals; nil stays nil.
func join(a, b []literal) []literal {
	if a == nil || b == nil || len(a)+len(b) > maxLiterals {
		return nil
	}
	return append(slices.Clip(a), b...)
}

func longer(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

func (n *node) findRepeat() finding {
	sub := n.subs[0].find()
	rest := finding{longest: -1}
	switch {
	case n.max >= 0 && sub.longest >= 0:
		rest.longest = (n.max - n.min) * sub.longest
	case sub.longest == 0 || n.max == n.min:
		rest.longest = 0
	}
	switch {
	case n.max == n.min:
		rest = finding{run: []literal{{}}, exact: true}
	case n.max == n.min+1:
		rest.run, rest.exact = join([]literal{{}}, sub.run), sub.exact
	}
	c := newChain()
	for range n.min {
		c.add(sub)
	}
	c.add(rest)
	return c.end()
}

// A chain collects the findings of a sequence. It multiplies out the literals of neighbours as long as they stay few.
type chain struct {
	whole  bool // run has been kept from the beginning
	exact  bool
	run    []literal
	length int // longest string of run
	before int // longest string in front of run
	best   requirement
}

func newChain() *chain { return &chain{whole: true, exact: true, run: []literal{{}}} }

func (c *chain) add(f finding) {
	if run := product(c.run, f.run); run != nil {
		c.run, c.exact, c.length = run, c.exact && f.exact, c.length+f.longest
		return
	}
	c.cut()
	if f.run != nil {
		c.run, c.length = f.run, f.longest
		return
	}
	best := f.best
	best.before = sum(best.before, c.before)
	c.best = better(c.best, best)
	c.before = sum(c.before, f.longest)
}

// cut ends the current run.
func (c *chain) cut() {
	c.best = better(c.best, requirement{literals: c.run, before: c.before})
	c.before = sum(c.before, c.length)
	c.run, c.length, c.whole = []literal{{}}, 0, false
}

func (c *chain) end() finding {
	f := finding{longest: sum(c.before, c.length), best: c.best}
	if c.whole {
		f.run, f.exact = c.run, c.exact
		return f
	}
	f.best = better(f.best, requirement{literals: c.run, before: c.before})
	return f
}

func sum(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// product appends each of b to each of a; nil if these are too many or too long.
func product(a, b []literal) []literal {
	if b == nil || len(a)*len(b) > maxLiterals {
		return nil
	}
	var all []literal
	for _, x := range a {
		for _, y := range b {
			if len(x.mask)+len(y.mask) > maxLiteral {
				return nil
			}
			all = append(all, x.append(y))
		}
	}
	return all
}

// better chooses the requirement that fewer texts fulfil by chance.
func better(a, b requirement) requirement {
	if b.bits() > a.bits() {
		return b
	}
	return a
}

// bits is how much information a requirement has, in bits: the least of a literal's, less the logarithm of their number.
func (r requirement) bits() int {
	if len(r.literals) == 0 {
		return 0
	}
	least := 1 << 16
	for _, l := range r.literals {
		n := 0
		for i := range l.mask {
			n += weight(l.mask[i], l.value[i])
		}
		least = min(least, n)
	}
	least = min(least, 64) - bits.Len(uint(len(r.literals)-1))
	if r.before >= 0 {
		least += 4
	}
	return least
}

// weight is about how many bits of information the occurrence of a byte has in traffic, where zeros and text are frequent.
func weight(mask, value byte) int {
	n := 8
	switch {
	case value == 0:
		n = 3
	case value == ' ' || value >= 'a' && value <= 'z' || value >= '0' && value <= '9' || value == 0xff:
		n = 5
	case value >= ' ' && value < 0x7f || value == '\r' || value == '\n':
		n = 6
	}
	return min(n, bits.OnesCount8(mask))
}
