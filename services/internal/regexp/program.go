package regexp

// maxProgram bounds the instructions of a pattern after its repetitions are written out, and so the work per byte in the worst case.
const maxProgram = 16384

type instOp uint8

const (
	instSet    instOp = iota // one byte of set, then out
	instSplit                // out or arg
	instAssert               // out, where the assertion holds
	instMatch
)

type inst struct {
	op       instOp
	assert   assertion
	out, arg uint32
	set      set
}

// A program is a non-deterministic automaton over bytes (Thompson's construction), and the alphabet that suffices to run it.
//
// The alphabet has a symbol for each class of bytes which no set and no assertion tells apart, one for a newline that ends the text, and
// one for the end of the text. The two last ones give assertions all they need to know from a single symbol ahead.
type program struct {
	insts    []inst
	start    uint32
	anchored bool // every match begins at the beginning of the text
	always   bool // the empty string matches anywhere
	asserts  bool // there are assertions

	class   [256]uint8 // symbol of a byte
	sample  []byte     // a byte of each class
	symbols uint32     // number of symbols: classes, final newline, end; and in a search of a stream the turns

	sees [neighbours]neighbour // what the assertions of the program can tell apart of the byte before
}

func (p *program) finalNewline() uint32 { return uint32(len(p.sample)) }
func (p *program) end() uint32          { return uint32(len(p.sample)) + 1 }

// newProgram compiles a tree. It fails if there would be too many instructions.
func newProgram(n *node) (*program, bool) {
	if n.size() >= maxProgram {
		return nil, false
	}
	p := &program{anchored: n.anchored()}
	p.start = p.compile(n, p.emit(inst{op: instMatch}))
	p.partition()
	s := newSets(len(p.insts))
	s.follow(p, &s.next, p.start)
	p.always = s.next.matched
	return p, true
}

// size is the number of instructions that compile emits for a node, or maxProgram if it is more.
func (n *node) size() int {
	total := 0
	for _, sub := range n.subs {
		total += sub.size()
	}
	switch n.op {
	case opSet, opAssert:
		total = 1
	case opAlternate:
		total += len(n.subs) - 1
	case opRepeat:
		copies := max(n.max, n.min+1)
		total = total*copies + copies
	}
	return min(total, maxProgram)
}

func (p *program) emit(i inst) uint32 {
	p.asserts = p.asserts || i.op == instAssert
	p.insts = append(p.insts, i)
	return uint32(len(p.insts) - 1)
}

// compile emits what matches n and continues at next, and returns where it begins.
func (p *program) compile(n *node, next uint32) uint32 {
	switch n.op {
	case opSet:
		return p.emit(inst{op: instSet, set: n.set, out: next})
	case opAssert:
		return p.emit(inst{op: instAssert, assert: n.assert, out: next})
	case opConcat:
		for i := len(n.subs) - 1; i >= 0; i-- {
			next = p.compile(n.subs[i], next)
		}
	case opAlternate:
		begin := p.compile(n.subs[len(n.subs)-1], next)
		for i := len(n.subs) - 2; i >= 0; i-- {
			begin = p.emit(inst{op: instSplit, out: p.compile(n.subs[i], next), arg: begin})
		}
		return begin
	case opRepeat:
		return p.compileRepeat(n, next)
	}
	return next
}

func (p *program) compileRepeat(n *node, next uint32) uint32 {
	sub := n.subs[0]
	if n.max < 0 {
		loop := p.emit(inst{op: instSplit, arg: next})
		body := p.compile(sub, loop)
		p.insts[loop].out = body
		next = loop
	}
	end := next
	for i := n.min; i < n.max; i++ {
		next = p.emit(inst{op: instSplit, out: p.compile(sub, next), arg: end})
	}
	for range n.min {
		next = p.compile(sub, next)
	}
	return next
}

// partition makes the alphabet.
func (p *program) partition() {
	cuts := map[set]bool{}
	for i := range p.sees {
		p.sees[i] = other
	}
	for _, in := range p.insts {
		switch {
		case in.op == instSet:
			cuts[in.set] = true
		case in.op != instAssert:
		case in.assert == boundary || in.assert == noBoundary:
			cuts[wordSet] = true
			p.sees[word] = word
		case in.assert == lineStart:
			cuts[newlineSet] = true
			p.sees[newline], p.sees[edge] = newline, edge
		case in.assert == textStart:
			p.sees[edge] = edge
		default:
			cuts[newlineSet] = true
		}
	}
	classes := 1
	for cut := range cuts {
		classes = p.cut(cut, classes)
	}
	p.sample = make([]byte, classes)
	for b := range 256 {
		p.sample[p.class[b]] = byte(b)
	}
	p.symbols = uint32(classes + 2)
}

// cut splits the classes that lie partly in s.
func (p *program) cut(s set, classes int) int {
	var inside, outside [256]bool
	for b := range 256 {
		if s.has(byte(b)) {
			inside[p.class[b]] = true
		} else {
			outside[p.class[b]] = true
		}
	}
	var renamed [256]uint8
	for class := range classes {
		if inside[class] && outside[class] {
			renamed[class] = uint8(classes)
			classes++
		}
	}
	for b := range 256 {
		if to := renamed[p.class[b]]; to != 0 && s.has(byte(b)) {
			p.class[b] = to
		}
	}
	return classes
}

// look returns the byte of a symbol, if it has one, and what an assertion before it sees.
func (p *program) look(symbol uint32) (b byte, hasByte bool, n neighbour) {
	switch symbol {
	case p.end():
		return 0, false, edge
	case p.finalNewline():
		return '\n', true, finalNewline
	}
	b = p.sample[symbol]
	return b, true, neighbourOf(b)
}

// before returns what the assertions of the program see of the byte before position at.
func (p *program) before(text []byte, at int) neighbour {
	if at == 0 {
		return p.sees[edge]
	}
	return p.sees[neighbourOf(text[at-1])]
}
