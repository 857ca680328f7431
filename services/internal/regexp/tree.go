package regexp

import "math/bits"

// A set is a set of byte values.
type set [4]uint64

func (s *set) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *set) has(b byte) bool { return s[b>>6]>>(b&63)&1 != 0 }
func (s *set) union(o *set)    { s[0] |= o[0]; s[1] |= o[1]; s[2] |= o[2]; s[3] |= o[3] }
func (s *set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s *set) addRange(lo, hi byte) {
	for b := int(lo); b <= int(hi); b++ {
		s.add(byte(b))
	}
}

func (s set) negated() set { return set{^s[0], ^s[1], ^s[2], ^s[3]} }

// folded adds the other case of every ASCII letter in the set.
func (s set) folded() set {
	const letters = 0x07fffffe // bits of A..Z, and of a..z, within their half of the word
	upper, lower := s[1]&letters, s[1]>>32&letters
	s[1] |= upper<<32 | lower
	return s
}

func setOf(ranges string) (s set) {
	for i := 0; i < len(ranges); i += 2 {
		s.addRange(ranges[i], ranges[i+1])
	}
	return s
}

// The sets of PCRE's escapes, in its default locale: ASCII, and bytes above 127 only where PCRE has them.
var (
	digitSet      = setOf("09")
	wordSet       = setOf("09AZ__az")
	spaceSet      = setOf("\t\r  ")
	horizontalSet = setOf("\t\t  \xa0\xa0")
	verticalSet   = setOf("\n\r\x85\x85")
	newlineSet    = setOf("\n\n")
	anySet        = set{}.negated()
)

// An op says what a node matches.
type op uint8

const (
	opEmpty     op = iota // the empty string
	opSet                 // one byte of set
	opConcat              // subs, one after the other
	opAlternate           // one of subs
	opRepeat              // subs[0], min to max times; greedy or lazy is the same for a yes or no
	opAssert              // the empty string, where the assertion holds
)

// A node is a part of a parsed pattern.
type node struct {
	op       op
	assert   assertion
	set      set
	min, max int // of opRepeat; max < 0 is unbounded
	subs     []*node
}

func byteNode(b byte) *node {
	n := &node{op: opSet}
	n.set.add(b)
	return n
}

// stringNode matches the bytes of s.
func stringNode(s string) *node {
	subs := make([]*node, len(s))
	for i := range subs {
		subs[i] = byteNode(s[i])
	}
	return concat(subs)
}

func concat(subs []*node) *node {
	switch len(subs) {
	case 0:
		return &node{op: opEmpty}
	case 1:
		return subs[0]
	}
	return &node{op: opConcat, subs: subs}
}

func alternate(subs []*node) *node {
	if len(subs) == 1 {
		return subs[0]
	}
	return &node{op: opAlternate, subs: subs}
}

// anchored reports whether every match begins at the beginning of the text.
func (n *node) anchored() bool {
	switch n.op {
	case opAssert:
		return n.assert == textStart
	case opConcat:
		return n.subs[0].anchored()
	case opAlternate:
		for _, sub := range n.subs {
			if !sub.anchored() {
				return false
			}
		}
		return true
	case opRepeat:
		return n.min > 0 && n.subs[0].anchored()
	}
	return false
}

// An assertion matches the empty string between two bytes, depending on both.
type assertion uint8

const (
	textStart   assertion = iota // \A, ^
	textEnd                      // \z
	finalEnd                     // \Z, $: the end, or before a newline that ends the text
	lineStart                    // (?m)^: not after a newline that ends the text, as in PCRE
	lineEnd                      // (?m)$
	boundary                     // \b
	noBoundary                   // \B
	notBeforeLF                  // what makes \R take \r\n whole
)

// A neighbour is what an assertion sees of the byte on one side.
type neighbour uint8

const (
	other neighbour = iota
	word
	newline
	finalNewline // a newline that is the last byte of the text
	edge         // no byte: the beginning or the end of the text
	neighbours
)

func neighbourOf(b byte) neighbour {
	switch {
	case b == '\n':
		return newline
	case wordSet.has(b):
		return word
	}
	return other
}

// holds reports whether the assertion holds between a byte and the next one.
func (a assertion) holds(prev, next neighbour) bool {
	switch a {
	case textStart:
		return prev == edge
	case textEnd:
		return next == edge
	case finalEnd:
		return next == edge || next == finalNewline
	case lineStart:
		return prev == edge || prev == newline && next != edge
	case lineEnd:
		return next == edge || next == newline || next == finalNewline
	case boundary:
		return (prev == word) != (next == word)
	case noBoundary:
		return (prev == word) == (next == word)
	}
	return next != newline && next != finalNewline
}
