package regexp

import "sync/atomic"

// A kind says which matches count at a place of a search, and whether a new one begins there.
type kind uint8

const (
	passing   kind = iota // none: the place lies before the text
	arriving              // those that end behind the next byte, which is the text's first one
	alone                 // likewise, and it is the last one too
	searching             // all
	ending                // all that were begun: behind the next byte the text ends, or has ended
)

// next is the kind of the next place.
func (k kind) next() kind {
	if k == arriving {
		return searching // the automaton knows no text that something follows
	}
	return k
}

// A search of a stream has two symbols more, that stand for no byte: they turn a state into one of another kind.
const turns = 2

// turn returns the kind that a symbol turns to.
func (p *program) turn(symbol uint32) kind { return kind(symbol - p.end() - 1) }

// turning returns the symbol that turns to a kind.
func (p *program) turning(k kind) uint32 { return p.end() + 1 + uint32(k) }

// Longest returns the length of the longest match in bytes; below 0 there is no bound.
func (r *Regexp) Longest() int { return r.longest }

// longest returns the length of the longest string that matches a node, or -1.
func (n *node) longest() int {
	most := 0
	switch n.op {
	case opSet:
		return 1
	case opConcat:
		for _, sub := range n.subs {
			most = sum(most, sub.longest())
		}
	case opAlternate:
		for _, sub := range n.subs {
			most = longer(most, sub.longest())
		}
	case opRepeat:
		one := n.subs[0].longest()
		switch {
		case one == 0 || n.max == 0:
		case one < 0 || n.max < 0:
			return -1
		default:
			most = one * n.max
		}
	}
	return most
}

// Completes reports whether text completes a match in a stream of which it is a piece: a match that ends behind one of its bytes, and, if something follows, begins
// before its end. Where nothing precedes it, a match of nothing at its beginning counts too. Assertions look across the borders. Without text it is Match.
//
// before is what precedes the text, and after what follows it, as far as is known. The stream begins with before unless open is set: then the first byte of before is
// there for assertions only. It ends with after, or with the text, as far as \z, $ and \b know, unless more is set: then the last byte of after is there for
// assertions only. open and more go with at least one byte.
func (r *Regexp) Completes(before, text, after []byte, open, more bool) bool {
	if r.prog.always || len(text) == 0 {
		return r.Match(text)
	}
	if most := max(r.longest, 1); r.longest >= 0 {
		if len(before) > most {
			before, open = before[len(before)-most:], true
		}
		if len(after) > most {
			after, more = after[:most], true
		}
	}
	switch {
	case len(before)+len(after) == 0:
		return r.Match(text)
	case open && r.prog.anchored:
		return false
	case r.scan != nil:
		if hit := r.scan.next(text, 0) >= 0; hit && r.scan.exact {
			return true
		} else if !hit && !r.scan.near(before, text, after) {
			return false
		}
	}
	d := r.stream.Load()
	if d == nil {
		d = r.newStream()
	}
	if len(after) == 0 {
		if matched, ok := d.across(before, text, open); ok {
			return matched
		}
		if d.slow.Add(int64(len(before)+len(text))) > maxCache {
			r.stream.CompareAndSwap(d, newDFA(d.prog, &r.stream, &r.idle))
		}
	}
	work := r.idle.take(len(r.prog.insts))
	matched := r.prog.piece(work, before, text, after, open, more)
	r.idle.put(work)
	return matched
}

// newStream makes the automaton of Completes, once: most patterns are never asked for more than Match.
func (r *Regexp) newStream() *dfa {
	p := *r.prog
	p.symbols += turns
	r.stream.CompareAndSwap(nil, newDFA(&p, &r.stream, &r.idle))
	return r.stream.Load()
}

// near reports whether there is a literal in what precedes or follows the text, or across a border; in the text itself there is none.
func (s *scanner) near(before, text, after []byte) bool {
	const side = maxLiteral - 1 // of a literal across a border
	var room [2 * side]byte
	join := append(room[:0], before[max(0, len(before)-side):]...)
	join = append(join, text[:min(len(text), side)]...)
	if rest := side - len(text); rest > 0 {
		join = append(join, after[:min(len(after), rest)]...)
	}
	if s.next(join, 0) >= 0 || len(before) > side && s.next(before, 0) >= 0 {
		return true
	}
	if len(after) == 0 {
		return false
	}
	join = append(room[:0], text[max(0, len(text)-side):]...)
	join = append(join, after[:min(len(after), side)]...)
	return s.next(join, 0) >= 0 || s.next(after, 0) >= 0
}

// across runs the automaton over before and text. It fails where there is no memory for a new state.
func (d *dfa) across(before, text []byte, open bool) (matched, ok bool) {
	p, at := d.prog, 0
	if open {
		at = 1
	}
	s, ok := d.next(d.begin(before, at), p.turning(passing))
	if ok {
		s, ok = d.run(s, before[at:])
	}
	if ok && s >= rowStart*p.symbols {
		s, ok = d.next(s, p.turning(arriving))
	}
	if ok && s >= rowStart*p.symbols {
		s, ok = d.run(s, text[:body(text)])
	}
	if ok && s >= rowStart*p.symbols && body(text) < len(text) {
		s, ok = d.next(s, p.finalNewline())
	}
	if ok && s >= rowStart*p.symbols {
		s, ok = d.next(s, p.end())
	}
	return s == rowMatch*p.symbols, ok
}

// next returns where a state leads by a symbol, or false if there is no memory for that.
func (d *dfa) next(s, symbol uint32) (uint32, bool) {
	table := *d.table.Load()
	if next := atomic.LoadUint32(&table[s+symbol]); next != rowUnknown {
		return next, true
	}
	_, next, ok := d.learn(s, symbol)
	return next, ok
}

// run goes on from state s through text, up to its end or a match, or to where nothing can match any more.
func (d *dfa) run(s uint32, text []byte) (uint32, bool) {
	table, limit := *d.table.Load(), rowStart*d.prog.symbols
	class := &d.prog.class
	for _, b := range text {
		next := atomic.LoadUint32(&table[s+uint32(class[b])])
		if next == rowUnknown {
			var ok bool
			if _, next, ok = d.learn(s, uint32(class[b])); !ok {
				return 0, false
			}
			table = *d.table.Load()
		}
		if s = next; s < limit {
			break
		}
	}
	return s, true
}

// piece is Completes as a simulation. The program is that of Match.
func (p *program) piece(s *sets, before, text, after []byte, open, more bool) bool {
	prev, within := p.sees[edge], len(before) > 0
	if open {
		prev = p.sees[neighbourOf(before[0])]
		before = before[1:]
	}
	s.next.clear()
	s.follow(p, &s.next, p.start)
	s.now, s.next = s.next, s.now
	from, to := len(before), len(before)+len(text)
	end := to + len(after)
	for at := range end {
		var b byte
		k := searching
		switch {
		case at < from:
			b, k = before[at], passing
		case at < to:
			b = text[at-from]
		default:
			b = after[at-to]
		}
		switch last := at >= to-1 && len(after) > 0; {
		case at == from && within && last:
			k = alone
		case at == from && within:
			k = arriving
		case last:
			k = ending
		}
		symbol := uint32(p.class[b])
		if at == end-1 && b == '\n' && !more {
			symbol = p.finalNewline()
		}
		if at == end-1 && more {
			s.resolve(p, s.now.dense, prev, neighbourOf(b))
			return s.resolved.matched
		}
		if s.step(p, k, s.now.dense, prev, symbol) {
			return true
		}
		prev = p.sees[neighbourOf(b)]
		s.now, s.next = s.next, s.now
		if len(s.now.dense) == 0 {
			return false
		}
	}
	return s.step(p, searching, s.now.dense, prev, p.end())
}
