package regexp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// An oracle matches by sets of positions over the tree: no automaton, no literals, no states. Slow, and hard to get wrong.
type oracle struct {
	text []byte
}

func oracleMatch(n *node, text []byte) bool {
	from := make([]bool, len(text)+1)
	for i := range from {
		from[i] = true
	}
	for _, end := range (oracle{text}).ends(n, from) {
		if end {
			return true
		}
	}
	return false
}

// ends returns where a match of n may end that begins at one of the positions.
func (o oracle) ends(n *node, from []bool) []bool {
	to := make([]bool, len(from))
	switch n.op {
	case opEmpty:
		copy(to, from)
	case opSet:
		for i, b := range o.text {
			to[i+1] = from[i] && n.set.has(b)
		}
	case opAssert:
		for i := range from {
			to[i] = from[i] && o.holds(n.assert, i)
		}
	case opConcat:
		to = from
		for _, sub := range n.subs {
			to = o.ends(sub, to)
		}
	case opAlternate:
		for _, sub := range n.subs {
			add(to, o.ends(sub, from))
		}
	case opRepeat:
		for range n.min {
			from = o.ends(n.subs[0], from)
		}
		add(to, from)
		for i := n.min; i != n.max; i++ {
			from = o.ends(n.subs[0], from)
			if !add(to, from) {
				break
			}
		}
	}
	return to
}

// add reports whether anything was new.
func add(to, from []bool) (grown bool) {
	for i, b := range from {
		if b && !to[i] {
			to[i], grown = true, true
		}
	}
	return grown
}

// holds says by the text itself what an assertion means.
func (o oracle) holds(a assertion, i int) bool {
	before, after := string(o.text[:i]), string(o.text[i:])
	inWord := func(s string) bool {
		return s != "" && strings.ContainsAny(s, "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	}
	differ := inWord(before[max(0, len(before)-1):]) != inWord(after[:min(1, len(after))])
	switch a {
	case textStart:
		return before == ""
	case textEnd:
		return after == ""
	case finalEnd:
		return after == "" || after == "\n"
	case lineStart:
		return before == "" || strings.HasSuffix(before, "\n") && after != ""
	case lineEnd:
		return after == "" || after[0] == '\n'
	case boundary:
		return differ
	case noBoundary:
		return !differ
	}
	return !strings.HasPrefix(after, "\n")
}

// atoms of random patterns. They are dense in the letters of random texts, so that matches and near misses are frequent.
var atoms = strings.Fields(`a b c A B \n \r . [ab] [^a] [a-c] \w \W \d \s \h \v \R \N ^ $ \b \B \A \z \Z \xff \x00 \x{e9} [\x80-\xff] [[:upper:]]
	[^\s] foo foo bar Bar http allegro abab \x16\x03 é 1 _ (?i) (?m) (?s) (?-i) (?i:ab) (?m:^a) (?m:b$)`)

func randomPattern(r *rand.Rand, depth int) string {
	var b strings.Builder
	for range 1 + r.IntN(4) {
		atom := atoms[r.IntN(len(atoms))]
		switch k := r.IntN(8); {
		case k == 0 && depth > 0:
			atom = "(" + randomPattern(r, depth-1) + ")"
		case k == 1 && depth > 0:
			atom = "(?:" + randomPattern(r, depth-1) + "|" + randomPattern(r, depth-1) + ")"
		}
		b.WriteString(atom)
		if !strings.HasPrefix(atom, "(?") || strings.Contains(atom, ":") {
			b.WriteString([]string{"", "", "", "", "?", "*", "+", "{2}", "{1,2}", "{2,}", "*?", "{0}"}[r.IntN(12)])
		}
	}
	if r.IntN(6) == 0 {
		b.WriteString("|" + randomPattern(r, 0))
	}
	return b.String()
}

var pieces = []string{"a", "b", "c", "A", "B", "\n", "\n", "\r", "\r\n", " ", "\t", "1", "_", "foo", "bar", "BAR", "http", "HTTP", "allegro", "abab", "\x16\x03",
	"\xff", "\x00", "é", "\xe9", "\x85", "\xa0", "\v"}

func randomText(r *rand.Rand, parts int) []byte {
	var b strings.Builder
	for range r.IntN(parts + 1) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return []byte(b.String())
}

// TestOracle compares every part of the engine with the oracle: the automaton with and without literals, and the simulation.
func TestOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1200 {
		pattern := randomPattern(r, 2)
		for i := range 8 {
			check(t, pattern, randomText(r, 4+12*i))
		}
	}
}

// check compares all ways to match with the oracle. The pattern must be one that compiles.
func check(t *testing.T, pattern string, text []byte) {
	t.Helper()
	re, err := Compile(pattern)
	if err != nil {
		t.Fatalf("Compile(%q): %v", pattern, err)
	}
	tree, err := parse(pattern)
	if err != nil {
		t.Fatalf("parse(%q): %v", pattern, err)
	}
	want := oracleMatch(tree, text)
	for _, way := range []struct {
		name  string
		match func() bool
	}{
		{"Match", func() bool { return re.Match(text) }},
		{"Match again", func() bool { return re.Match(text) }},
		{"the automaton alone", func() bool { return re.prog.always || re.dfa.Load().search(text) }},
		{"the simulation", func() bool {
			s := newSets(len(re.prog.insts))
			s.follow(re.prog, &s.next, re.prog.start)
			return s.next.matched || re.prog.simulate(s, s.next.dense, re.prog.before(text, 0), text, 0)
		}},
	} {
		if got := way.match(); got != want {
			t.Fatalf("%s: %q matches %q = %v, want %v\n%s", way.name, pattern, text, got, want, dump(re))
		}
	}
}

func dump(re *Regexp) string {
	if re.scan == nil {
		return "no literal"
	}
	return fmt.Sprintf("exact %v, before %d, literals %+v", re.scan.exact, re.scan.before, re.scan.buckets)
}
