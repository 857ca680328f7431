package regexp

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// maxCache is the memory in bytes that the states of one pattern may take, about.
const maxCache = 1 << 20

// A dfa is a deterministic automaton whose states are made when a text first needs them.
//
// A state is the number of its row in the table times the number of symbols. Readers take the table through an atomic pointer and its
// entries by atomic loads; an entry of zero is not known yet and is filled in under the lock. Rows never change their meaning, and no table
// names a row beyond its end, so that a reader with an old table only asks once more. When the memory is used up nothing is added:
// a search that leaves the known states goes on as a simulation, and when that has happened often enough a new dfa takes its place.
type dfa struct {
	prog  *program
	owner *atomic.Pointer[dfa]
	idle  *pool
	slow  atomic.Int64 // bytes that were left to the simulation
	table atomic.Pointer[[]uint32]

	mu     sync.Mutex
	work   *sets
	states []state           // by row
	rows   map[string]uint32 // row by content
	used   int               // bytes taken by states and rows
}

// A state is a set of instructions, sorted, what was before it as far as an assertion in the set can tell, and which matches count.
type state struct {
	set  []uint32
	prev neighbour
	kind kind
}

// The first rows have a fixed meaning. Behind them come the beginnings of a search, one for each thing that may stand before.
const (
	rowUnknown = iota
	rowDead
	rowMatch
	rowStart
	rowOthers = rowStart + uint32(neighbours)
)

func newDFA(p *program, owner *atomic.Pointer[dfa], idle *pool) *dfa {
	d := &dfa{prog: p, owner: owner, idle: idle, work: newSets(len(p.insts)), rows: map[string]uint32{}}
	d.states = make([]state, rowOthers)
	table := make([]uint32, 2*rowOthers*p.symbols)
	d.table.Store(&table)
	d.work.follow(p, &d.work.next, p.start)
	for prev := range neighbours {
		s := d.content(prev, searching)
		d.states[rowStart+uint32(prev)] = s
		if p.sees[prev] == prev {
			d.rows[s.key()] = rowStart + uint32(prev)
		}
	}
	return d
}

// content copies the set just computed. A match that did not count is left out.
func (d *dfa) content(prev neighbour, k kind) state {
	s := state{set: slices.Clone(d.work.next.dense), prev: other, kind: k}
	if k == passing {
		s.set = slices.DeleteFunc(s.set, func(pc uint32) bool { return d.prog.insts[pc].op == instMatch })
	}
	slices.Sort(s.set)
	for _, pc := range s.set {
		if d.prog.insts[pc].op == instAssert {
			s.prev = prev
		}
	}
	return s
}

func (s state) key() string {
	k := []byte{byte(s.prev), byte(s.kind)}
	last := uint32(0)
	for _, pc := range s.set {
		k = binary.AppendUvarint(k, uint64(pc-last))
		last = pc
	}
	return string(k)
}

// begin is the state of a search that begins at position at.
func (d *dfa) begin(text []byte, at int) uint32 {
	return (rowStart + uint32(d.prog.before(text, at))) * d.prog.symbols
}

// walk goes on from state s through text[at:end], until a state below limit is reached. The final newline of the text is not part of
// text[:end].
func (d *dfa) walk(text []byte, at, end int, s, limit uint32) (int, uint32) {
	table := *d.table.Load()
	class := &d.prog.class
	for at < end {
		next := atomic.LoadUint32(&table[s+uint32(class[text[at]])])
		if next == rowUnknown {
			next = d.fill(text, at, s, uint32(class[text[at]]))
			table = *d.table.Load()
		}
		at++
		s = next
		if s < limit {
			break
		}
	}
	return at, s
}

// finish goes on from state s through what walk leaves of the text, and reports whether there is a match.
func (d *dfa) finish(text []byte, at int, s uint32) bool {
	if at < len(text) && s >= rowStart*d.prog.symbols {
		s = d.move(text, at, s, d.prog.finalNewline())
	}
	if s >= rowStart*d.prog.symbols {
		s = d.move(text, len(text), s, d.prog.end())
	}
	return s == rowMatch*d.prog.symbols
}

func (d *dfa) move(text []byte, at int, s, symbol uint32) uint32 {
	table := *d.table.Load()
	if next := atomic.LoadUint32(&table[s+symbol]); next != rowUnknown {
		return next
	}
	return d.fill(text, at, s, symbol)
}

// fill finds out where s leads by the symbol at position at, and enters it into the table. If there is no memory left it decides the search
// by simulation: the result is then the dead or the matching state.
func (d *dfa) fill(text []byte, at int, s, symbol uint32) uint32 {
	from, to, ok := d.learn(s, symbol)
	if ok {
		return to
	}
	p := d.prog
	work := d.idle.take(len(p.insts))
	matched := p.simulate(work, from.set, from.prev, text, at)
	d.idle.put(work)
	if d.slow.Add(int64(len(text)-at)) > maxCache {
		d.owner.CompareAndSwap(d, newDFA(p, d.owner, d.idle))
	}
	if matched {
		return rowMatch * p.symbols
	}
	return rowDead * p.symbols
}

// learn makes the transition of a state by a symbol. It fails if there is no memory for a new state.
func (d *dfa) learn(s, symbol uint32) (from state, to uint32, ok bool) {
	p := d.prog
	d.mu.Lock()
	defer d.mu.Unlock()
	from = d.states[s/p.symbols]
	row := uint32(rowDead)
	if symbol > p.end() {
		if row, ok = d.row(state{from.set, from.prev, p.turn(symbol)}); !ok {
			return from, 0, false
		}
	} else if d.work.step(p, from.kind, from.set, from.prev, symbol) {
		row = rowMatch
	} else if len(d.work.next.dense) > 0 {
		b, _, _ := p.look(symbol)
		if row, ok = d.row(d.content(p.sees[neighbourOf(b)], from.kind.next())); !ok {
			return from, 0, false
		}
	}
	table := *d.table.Load()
	atomic.StoreUint32(&table[s+symbol], row*p.symbols)
	return from, row * p.symbols, true
}

// row finds the row of a state, or makes it.
func (d *dfa) row(s state) (uint32, bool) {
	k := s.key()
	if row, ok := d.rows[k]; ok {
		return row, true
	}
	// Besides the row: the set, the key, and what a map entry and two slice headers take.
	size := 4*int(d.prog.symbols) + 4*len(s.set) + len(k) + 96
	if d.used+size > maxCache {
		return 0, false
	}
	d.used += size
	row := uint32(len(d.states))
	d.states = append(d.states, s)
	d.rows[k] = row
	if table := *d.table.Load(); len(table) < len(d.states)*int(d.prog.symbols) {
		grown := make([]uint32, 2*len(table))
		copy(grown, table)
		d.table.Store(&grown)
	}
	return row, true
}

// body is the length of the text without a final newline.
func body(text []byte) int {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return n - 1
	}
	return len(text)
}

// search reports whether the text contains a match.
func (d *dfa) search(text []byte) bool {
	at, s := d.walk(text, 0, body(text), d.begin(text, 0), rowStart*d.prog.symbols)
	return d.finish(text, at, s)
}

// searchFrom is search where hit is the first place with a required literal. Whenever nothing of a match is left behind the last hit, the
// scan takes over again.
func (d *dfa) searchFrom(text []byte, hit int, scan *scanner) bool {
	symbols, end := d.prog.symbols, body(text)
	for at := 0; hit >= 0; hit = scan.next(text, at) {
		if scan.before >= 0 && !d.prog.anchored {
			at = max(at, hit-scan.before)
		}
		s := d.begin(text, at)
		at, s = d.walk(text, at, min(hit+1, end), s, rowStart*symbols)
		if s >= rowStart*symbols {
			at, s = d.walk(text, at, end, s, rowOthers*symbols)
		}
		if s < rowStart*symbols || at >= end {
			return d.finish(text, at, s)
		}
	}
	return false
}
