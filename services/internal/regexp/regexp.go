// Package regexp searches payloads for patterns with the meaning of PCRE, in linear time.
//
// A pattern and a payload are bytes, not characters: \xff matches the byte ff, a class is a set of bytes, and case folding, \d, \w, \s and \b
// know ASCII only. A character beyond ASCII in a pattern stands for the bytes of its UTF-8 encoding; a quantifier behind it repeats
// all of them, and in a class it is an alternative of several bytes (an error in a negated class or as the end of a range).
// What needs backtracking or memory of what was matched is refused with an error that names it: lookaround, back-references, possessive
// quantifiers, atomic groups, \K, recursion, conditions, verbs, and repetitions above 1000.
//
// A pattern is parsed to a tree, from the tree come the literals of which every match must contain one, and a non-deterministic
// automaton. A search looks for the literals first, several bytes at a time, and runs a deterministic automaton, whose states are
// made on demand within 1 MiB per pattern, only where one is found. Where that memory does not suffice the search goes on as a simulation of
// the first automaton, slower but still linear.
//
// A text may be a piece of a stream: Completes looks for matches that go beyond its borders.
//
// A Regexp is used by several workers at once. Match keeps nothing of the text and allocates only while it meets new states.
// There are no captures and no positions: the answer is yes or no.
package regexp

import (
	"fmt"
	"sync/atomic"
)

// An Error is why a pattern does not compile: Message is about Len bytes at offset Pos of the pattern.
type Error struct {
	Pos, Len int
	Message  string
}

func (e *Error) Error() string { return fmt.Sprintf("regexp: %s, at byte %d", e.Message, e.Pos) }

// A Regexp is a compiled pattern. It is safe for concurrent use.
type Regexp struct {
	pattern string
	prog    *program
	scan    *scanner // nil if no literal is required
	dfa     atomic.Pointer[dfa]
	idle    pool
	longest int                 // bytes of a match; < 0 is unbounded
	stream  atomic.Pointer[dfa] // of Completes; nil until that has searched
}

// Compile parses a pattern. The error is an *Error.
func Compile(pattern string) (*Regexp, error) {
	n, err := parse(pattern)
	if err != nil {
		return nil, err
	}
	p, ok := newProgram(n)
	if !ok {
		return nil, &Error{Len: len(pattern), Message: fmt.Sprintf("pattern is too large: its repetitions make more than %d steps", maxProgram)}
	}
	r := &Regexp{pattern: pattern, prog: p, scan: newScanner(n.required()), longest: n.longest()}
	r.dfa.Store(newDFA(p, &r.dfa, &r.idle))
	return r, nil
}

// String returns the pattern.
func (r *Regexp) String() string { return r.pattern }

// Match reports whether the text contains a match.
func (r *Regexp) Match(text []byte) bool {
	if r.prog.always {
		return true
	}
	if r.scan == nil {
		return r.dfa.Load().search(text)
	}
	hit := r.scan.next(text, 0)
	if hit < 0 || r.scan.exact {
		return hit >= 0
	}
	return r.dfa.Load().searchFrom(text, hit, r.scan)
}
