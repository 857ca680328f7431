package regexp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestScanner compares the search for literals with a look at every place, for all lengths of text around a block and all places to begin.
func TestScanner(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, pattern := range []string{`foo`, `\x00\x00\x01`, `(?i)allegro|http`, `ab|cd|ef|gh|ij|kl|mn|op|qr|st|uv|wx`, `\x16\x03[\x00-\x03]..\x01`, `a\xffb|\xffa`, `aaaaaaaaab`} {
		tree, err := parse(pattern)
		if err != nil {
			t.Fatal(err)
		}
		s := newScanner(tree.required())
		if s == nil {
			t.Fatalf("%q requires nothing", pattern)
		}
		for size := range 110 {
			text := make([]byte, size)
			for i := range text {
				text[i] = "\x00\x01aabcd\x16\xff"[r.IntN(9)]
			}
			for _, word := range []string{"foo", "hTtP", "mn", "\x16\x03\x02..\x01"} {
				if i := r.IntN(3 * (size + 1)); i < size {
					copy(text[i:], word)
				}
			}
			for from := range size {
				want := -1
				for i := from; i < size && want < 0; i++ {
					if s.at(text, i) {
						want = i
					}
				}
				if got := s.next(text, from); got != want {
					t.Fatalf("%q in %q from %d: %d, want %d", pattern, text, from, got, want)
				}
			}
		}
	}
}

// TestRequired shows what is searched for: a search that lost its literals would still be right, and slow.
func TestRequired(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		literals int
		before   int
		exact    bool
	}{
		{`allegr[o,a]|HTTP`, 4, 0, true},
		{`(?i)allegro|http`, 2, 0, true},
		{`[a-z]+allegro`, 1, -1, false},
		{`[A-Z]{5,}[0-9]{4,}\.exe`, 1, -1, false},
		{`\x16\x03[\x00-\x03].{2}\x01`, 1, 0, false},
		{`https?://`, 2, 0, true},
		{`.{3}foo|bar\d*`, 2, 0, false},
		{`[a-z]{1,3}foo|bar\d*`, 2, 3, false},
		{`\bGET\b`, 1, 0, false},
		{`(?:abc){2,}`, 1, 0, false},
		{`(?:abc)?`, 0, 0, false},
		{`\d+`, 0, 0, false},
		{`foo|[a-z]+`, 0, 0, false},
	} {
		tree, err := parse(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		r := tree.required()
		if len(r.literals) != test.literals || r.before != test.before || r.exact != test.exact {
			t.Errorf("%q requires %q, before %d, exact %v; want %d literals, before %d, exact %v", test.pattern, r.literals, r.before, r.exact, test.literals, test.before, test.exact)
		}
	}
}

// TestManyLiterals has more literals than buckets, all found at any place.
func TestManyLiterals(t *testing.T) {
	var pattern bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&pattern, "|word%02d", i)
	}
	re, err := Compile(pattern.String()[1:])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		text := fmt.Appendf(bytes.Repeat([]byte("word"), i%40), "word%02d and more", i)
		if got, want := re.Match(text), i < 60; got != want {
			t.Errorf("%q matches %q = %v, want %v", re, text, got, want)
		}
	}
}
