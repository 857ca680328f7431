package regexp

import (
	"math/rand/v2"
	"testing"
	"time"
)

// completes is what Completes means, by the oracle: of all matches in the stream, is there one that counts?
func (o oracle) completes(n *node, from, to int, open, more bool) bool {
	begin := make([]bool, len(o.text)+1)
	last := len(o.text)
	if more { // what comes behind is not known, and is no end
		o.text = append(append([]byte{}, o.text...), 0x80)
		begin = append(begin, false)
		last--
	}
	for at := range begin {
		begin[at] = at <= to && (at < to || to == len(o.text)) && (at > 0 || !open)
	}
	for at, ends := range o.ends(n, begin) {
		if ends && at <= last && (at > from || from == 0) {
			return true
		}
	}
	return false
}

// A piece is a text with what is around it.
type piece struct {
	before, text, after []byte
	open, more          bool
}

func randomPiece(r *rand.Rand) piece {
	whole := randomText(r, 14)
	from := r.IntN(len(whole) + 1)
	to := from + r.IntN(len(whole)-from+1)
	if r.IntN(2) == 0 {
		to = len(whole)
	}
	p := piece{before: whole[:from], text: whole[from:to], after: whole[to:]}
	p.open, p.more = from > 0 && r.IntN(3) == 0, to < len(whole) && r.IntN(3) == 0
	return p
}

// TestCompletes compares the automaton and the simulation with the oracle.
func TestCompletes(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	yes, borders := 0, 0
	for range 3000 {
		pattern := randomPattern(r, 2)
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		tree, _ := parse(pattern)
		for range 16 {
			p := randomPiece(r)
			if len(p.text) == 0 {
				if got := re.Completes(p.before, nil, p.after, p.open, p.more); got != re.Match(nil) {
					t.Fatalf("%q completes no text = %v", pattern, got)
				}
				continue
			}
			whole := append(append(append([]byte{}, p.before...), p.text...), p.after...)
			want := re.prog.always || oracle{whole}.completes(tree, len(p.before), len(p.before)+len(p.text), p.open, p.more)
			got := re.Completes(p.before, p.text, p.after, p.open, p.more)
			slow := re.prog.always || re.prog.piece(newSets(len(re.prog.insts)), p.before, p.text, p.after, p.open, p.more)
			if got != want || slow != want {
				t.Fatalf("%q, longest %d: Completes(%q, %q, %q, %v, %v) = %v, the simulation %v, want %v\n%s", pattern, re.longest, p.before, p.text, p.after, p.open, p.more, got, slow, want, dump(re))
			}
			if want {
				if yes++; !re.Match(p.text) {
					borders++
				}
			}
		}
	}
	if yes < 1000 || borders < 200 {
		t.Errorf("only %d texts complete a match, %d of them across a border", yes, borders)
	}
}

// TestEveryMatchIsCompletedOnce: however a text is cut, and in whatever order its pieces come, the piece that comes last of a match completes it.
func TestEveryMatchIsCompletedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, pattern := range []string{`allegro`, `(?i)ab+c`, `fo{2}.{3,9}?bar`, `[a-c]\r\n[^a]`, `\xff\x00`, `a.*1`} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			whole := randomText(r, 20)
			matches := re.Match(whole)
			have := make([]bool, len(whole)+2)
			completed := false
			cuts := []int{0}
			for at := 1; at < len(whole); at++ {
				if r.IntN(3) == 0 {
					cuts = append(cuts, at)
				}
			}
			for _, i := range r.Perm(len(cuts)) {
				from, to := cuts[i], len(whole)
				if i+1 < len(cuts) {
					to = cuts[i+1]
				}
				left, right := from, to
				for left > 0 && have[left-1] {
					left--
				}
				for right < len(whole) && have[right] {
					right++
				}
				for at := from; at < to; at++ {
					have[at] = true
				}
				completed = re.Completes(whole[left:from], whole[from:to], whole[to:right], false, false) || completed
			}
			if completed != matches {
				t.Fatalf("%q in %q: a piece completes it %v, it matches %v", pattern, whole, completed, matches)
			}
		}
	}
}

// TestStreamMemory: where the memory for states does not suffice the answers stay right.
func TestStreamMemory(t *testing.T) {
	re, err := Compile(`(?s)[ab].{14}[xyz][^a-q]{3}\d`)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(25, 26))
	work := newSets(len(re.prog.insts))
	for range 400 {
		text := make([]byte, 1500)
		for i := range text {
			text[i] = "abxyz0q"[r.IntN(7)]
		}
		if got, want := re.Completes(text[:100], text[100:], nil, true, false), re.prog.piece(work, text[:100], text[100:], nil, true, false); got != want {
			t.Fatalf("Completes = %v, want %v", got, want)
		}
	}
	if used := re.stream.Load().used; used > maxCache {
		t.Errorf("%d bytes are used", used)
	}
}

func TestLongest(t *testing.T) {
	for pattern, want := range map[string]int{`abc`: 3, `a|bcd|`: 3, `a*`: -1, `(?:ab?){2,5}`: 10, `\b(?:^)*$`: 0, `a{0}`: 0, `(?:a+){0}b`: 1, `é[ab]`: 3, `\R`: 2} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.Longest(); got != want {
			t.Errorf("longest match of %q: %d, want %d", pattern, got, want)
		}
	}
}

func TestCompletesAllocations(t *testing.T) {
	for _, pattern := range []string{`allegro`, `(?i)allegro|http`, `a.*b`, `[a-z]+\d$`, `\bfoo\b`} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		texts, _ := payloads()
		ask := func() {
			for i, text := range texts[1:] {
				re.Completes(texts[i], text, nil, true, false)
				re.Completes(texts[i], text[:9], text[9:], true, true)
			}
		}
		began := time.Now()
		ask()
		if n := testing.AllocsPerRun(2, ask); n != 0 {
			t.Errorf("%q: %v allocations", pattern, n)
		}
		t.Logf("%q: %v for %d texts with what is around them", pattern, time.Since(began)/4, 2*len(texts))
	}
}

// BenchmarkCompletes is BenchmarkMatch with the kilobyte before each payload.
func BenchmarkCompletes(b *testing.B) {
	texts, total := payloads()
	var before [1025]byte
	copy(before[:], texts[1])
	for _, pattern := range []string{`allegro`, `(?i)allegro|http`, `Host: [^\r]*\.net`, `allegro.*example`, `[a-z]+allegro`, `\d{7}`} {
		re, err := Compile(pattern)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(pattern, func(b *testing.B) {
			b.SetBytes(total)
			b.ReportAllocs()
			for b.Loop() {
				for _, text := range texts {
					re.Completes(before[:], text, nil, true, false)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(texts)), "ns/payload")
		})
	}
}
