package regexp

import "sync/atomic"

// A sparse is a set of instructions with constant time clear, add and membership, in order of insertion.
type sparse struct {
	dense   []uint32
	place   []uint32
	matched bool // the match instruction was reached
}

func newSparse(n int) sparse {
	return sparse{dense: make([]uint32, 0, n), place: make([]uint32, n)}
}

func (s *sparse) clear() { s.dense, s.matched = s.dense[:0], false }

// insert adds pc and reports whether it is new.
func (s *sparse) insert(pc uint32) bool {
	if i := s.place[pc]; i < uint32(len(s.dense)) && s.dense[i] == pc {
		return false
	}
	s.place[pc] = uint32(len(s.dense))
	s.dense = append(s.dense, pc)
	return true
}

// sets is the working memory of a step of the automaton.
type sets struct {
	now, resolved, next sparse
	stack               []uint32
}

func newSets(n int) *sets {
	return &sets{now: newSparse(n), resolved: newSparse(n), next: newSparse(n), stack: make([]uint32, 0, 2*n)}
}

// follow adds to q all that pc reaches without a byte and without an assertion; assertions themselves stay in q, for when the next symbol is known.
func (s *sets) follow(p *program, q *sparse, pc uint32) {
	s.stack = append(s.stack[:0], pc)
	for len(s.stack) > 0 {
		pc := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		if !q.insert(pc) {
			continue
		}
		switch in := &p.insts[pc]; in.op {
		case instSplit:
			s.stack = append(s.stack, in.arg, in.out)
		case instMatch:
			q.matched = true
		}
	}
}

// resolve adds to s.resolved all that the set reaches without a byte, now that both neighbours are known.
func (s *sets) resolve(p *program, set []uint32, prev, next neighbour) {
	q := &s.resolved
	q.clear()
	s.stack = append(s.stack[:0], set...)
	for len(s.stack) > 0 {
		pc := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		if !q.insert(pc) {
			continue
		}
		switch in := &p.insts[pc]; in.op {
		case instSplit:
			s.stack = append(s.stack, in.arg, in.out)
		case instAssert:
			if in.assert.holds(prev, next) {
				s.stack = append(s.stack, in.out)
			}
		case instMatch:
			q.matched = true
		}
	}
}

// step leaves in s.next what the automaton reaches from a set by one symbol, with a new search begun behind it if k begins one and the program is not
// anchored, and reports whether a match is certain that counts.
func (s *sets) step(p *program, k kind, set []uint32, prev neighbour, symbol uint32) bool {
	b, hasByte, ahead := p.look(symbol)
	s.next.clear()
	if p.asserts {
		s.resolve(p, set, prev, ahead)
		if s.resolved.matched && k >= searching {
			return true
		}
		set = s.resolved.dense
	}
	if !hasByte {
		return false
	}
	for _, pc := range set {
		if in := &p.insts[pc]; in.op == instSet && in.set.has(b) {
			s.follow(p, &s.next, in.out)
		}
	}
	if !p.anchored && k != ending && k != alone {
		s.follow(p, &s.next, p.start)
	}
	return s.next.matched && k != passing
}

// simulate runs the automaton over text from position at, where set holds and prev was seen before. It takes time in proportion to the
// length of the text times the size of the program, whatever the pattern.
func (p *program) simulate(s *sets, set []uint32, prev neighbour, text []byte, at int) bool {
	s.now.clear()
	s.now.dense = append(s.now.dense, set...)
	for ; at < len(text); at++ {
		if s.step(p, searching, s.now.dense, prev, p.symbolAt(text, at)) {
			return true
		}
		prev = p.sees[neighbourOf(text[at])]
		s.now, s.next = s.next, s.now
		if len(s.now.dense) == 0 {
			return false
		}
	}
	return s.step(p, searching, s.now.dense, prev, p.end())
}

func (p *program) symbolAt(text []byte, at int) uint32 {
	if at == len(text)-1 && text[at] == '\n' {
		return p.finalNewline()
	}
	return uint32(p.class[text[at]])
}

// A pool keeps working memory for as many workers as it has places; more workers than that allocate.
type pool [16]atomic.Pointer[sets]

func (l *pool) take(size int) *sets {
	for i := range l {
		if s := l[i].Swap(nil); s != nil {
			return s
		}
	}
	return newSets(size)
}

func (l *pool) put(s *sets) {
	for i := range l {
		if l[i].CompareAndSwap(nil, s) {
			return
		}
	}
}
