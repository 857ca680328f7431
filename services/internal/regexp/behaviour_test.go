package regexp

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestErrors has one of each thing that is refused: where it is, how long, and a word of the message.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		pos, len int
		word     string
	}{
		{`ab(?=c)`, 2, 3, "lookahead"},
		{`a(?!c)`, 1, 3, "negative lookahead"},
		{`(?<=a)b`, 0, 4, "lookbehind"},
		{`(?<!a)b`, 0, 4, "negative lookbehind"},
		{`x(?>a)`, 1, 3, "atomic"},
		{`ba++`, 2, 2, "possessive"},
		{`ba{2}+`, 2, 4, "possessive"},
		{`(a)\1`, 3, 2, "back-reference"},
		{`(?<n>a)\k<n>`, 7, 2, "back-reference"},
		{`a\g{1}`, 1, 2, "back-reference or recursion"},
		{`(?P<n>a)(?P=n)`, 8, 4, "back-reference"},
		{`a\Kb`, 1, 2, `\K`},
		{`a(?R)`, 1, 3, "recursion"},
		{`a(?1)`, 1, 3, "recursion"},
		{`a(?-1)`, 1, 3, "recursion"},
		{`a(?&n)`, 1, 3, "recursion"},
		{`(a)?(?(1)b)`, 4, 3, "conditional"},
		{`(*UTF)a`, 0, 2, "verb"},
		{`(?C)`, 0, 3, "callout"},
		{`a{1001}`, 1, 6, "1000"},
		{`a{3,2}`, 1, 5, "order"},
		{`(?:[a-z]{1000}){1000}`, 0, 21, "too large"},
		{`a**`, 0, 3, "nested quantifiers"},
		{`*a`, 0, 1, "nothing to repeat"},
		{`a|+`, 2, 1, "nothing to repeat"},
		{`(a`, 0, 1, "without a closing"},
		{`a)`, 1, 1, "without an opening"},
		{`a[bc`, 1, 1, "without a closing"},
		{`[z-a]`, 1, 3, "out of order"},
		{`[\d-z]`, 1, 4, "byte to byte"},
		{`[^ü]`, 2, 2, "several"},
		{`[[:foo:]]`, 1, 7, "unknown class"},
		{`[:digit:]`, 0, 9, "[[:digit:]]"},
		{`a\`, 1, 1, "backslash"},
		{`\y`, 0, 2, "unknown escape"},
		{`\x{100}`, 0, 7, "above 255"},
		{`\777`, 0, 4, "above 255"},
		{`\p{L}`, 0, 2, "Unicode"},
		{`\N{U+20}`, 0, 2, "named character"},
		{`(?y)`, 2, 1, "unknown option"},
		{`(?i`, 0, 3, "not complete"},
		{`(?#x`, 0, 3, "comment"},
		{`(?<1>a)`, 0, 5, "group name"},
		{strings.Repeat("(", 251), 250, 1, "deeper"},
	} {
		_, err := Compile(test.pattern)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("Compile(%q) = %v, want an *Error", test.pattern, err)
			continue
		}
		if e.Pos != test.pos || e.Len != test.len || !strings.Contains(e.Message, test.word) {
			t.Errorf("Compile(%q) = %d+%d %q, want %d+%d with %q", test.pattern, e.Pos, e.Len, e.Message, test.pos, test.len, test.word)
		}
	}
}

// TestNoAllocation is about the steady state: all states are known.
func TestNoAllocation(t *testing.T) {
	text := bytes.Repeat([]byte("GET /index.html HTTP/1.1\r\nHost: abcdefgh12\r\n"), 30)
	for _, pattern := range []string{`allegr[o,a]|HTTQ`, `(?i)allegro|htto`, `[a-z]+allegro`, `[A-Z]{5,}[0-9]{4,}\.exe`, `HTTP/1\.[01] 404`, `\bfoo\d+$`, `\d{5}`} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		re.Match(text)
		if n := testing.AllocsPerRun(100, func() { re.Match(text) }); n != 0 {
			t.Errorf("%q: %v allocations per match, want 0", pattern, n)
		}
	}
}

// threadTime returns the processor time of the thread, which does not grow while others have the processors.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestLinear measures patterns that take a backtracking engine exponential time, and one with exponentially many states.
func TestLinear(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, pattern := range []string{`(a|a)*b`, `(a*)*b`, `(a|aa)+$b`, `(?:a?){30}a{30}b`, `(?s)a.{40}x.{40}[cx]\z[a-z]`, `(x+x+)+y`} {
		r := rand.New(rand.NewPCG(7, 8))
		text := make([]byte, 1<<17)
		for i := range text {
			text[i] = "acx"[r.IntN(3)]
		}
		measure := func(n int) time.Duration {
			best := time.Hour
			for range 3 {
				re, err := Compile(pattern) // anew, because known states would make it faster
				if err != nil {
					t.Fatal(err)
				}
				start := threadTime(t)
				if re.Match(text[:n]) {
					t.Fatalf("%q matches", pattern)
				}
				best = min(best, threadTime(t)-start)
			}
			return best
		}
		short, long := measure(1<<13), measure(1<<17)
		if limit := 64*short + 20*time.Millisecond; long > limit {
			t.Errorf("%q: %v for 8 KiB and %v for 128 KiB, want less than %v", pattern, short, long, limit)
		}
	}
}

// TestBounded drives a pattern with more states than memory: the answers stay right, the memory bounded, and the states are renewed.
func TestBounded(t *testing.T) {
	const pattern = `(?s)[aX].{20}a[^a]{3}[b-z]`
	re, err := Compile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	tree, _ := parse(pattern)
	first := re.dfa.Load()
	r := rand.New(rand.NewPCG(9, 10))
	fill := func(text []byte, alphabet string) []byte {
		for i := range text {
			text[i] = alphabet[r.IntN(len(alphabet))]
		}
		return text
	}
	for range 100 {
		if text := fill(make([]byte, r.IntN(60)), "aaXXb\n"); re.Match(text) != oracleMatch(tree, text) {
			t.Fatalf("%q matches %q = %v, want %v", pattern, text, re.Match(text), oracleMatch(tree, text))
		}
		if text := fill(make([]byte, 1<<14), "aX{\n"); re.Match(text) {
			t.Fatalf("%q matches %q", pattern, text)
		}
	}
	d := re.dfa.Load()
	if d == first {
		t.Errorf("the states were never renewed: %d bytes used, %d left to the simulation", d.used, d.slow.Load())
	}
	if d.used > maxCache {
		t.Errorf("states take %d bytes, want at most %d", d.used, maxCache)
	}
}

// TestWorkers lets several workers share patterns from their first use on.
func TestWorkers(t *testing.T) {
	for _, pattern := range []string{`(?i)foo\d+bar|x{2,}y$`, `(?s)a.{14}b`, `\b[a-c]+\b.*1$`} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		tree, _ := parse(pattern)
		var workers sync.WaitGroup
		for seed := range uint64(4) {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 0))
				for range 100 {
					text := randomText(r, 30)
					if got, want := re.Match(text), oracleMatch(tree, text); got != want {
						t.Errorf("%q matches %q = %v, want %v", pattern, text, got, want)
					}
				}
			})
		}
		workers.Wait()
	}
}

// FuzzMatch compiles anything, and compares the engine with the oracle where it compiles.
func FuzzMatch(f *testing.F) {
	for _, test := range meanings {
		f.Add(test.pattern, []byte(test.text))
	}
	for _, pattern := range []string{`(?=a)`, `[z-a]`, `a{1001}`, `\x{`, `[[:`, `(?<n`, "\xff[\xff", `(?xx)[ a ]`, `\Q`, `(?:a{30}){30}`, `(((((((a){9}){9}){9}){9}){9}){9}){9}`} {
		f.Add(pattern, []byte("a\n"))
	}
	f.Fuzz(func(t *testing.T, pattern string, text []byte) {
		if len(pattern) > 200 || len(text) > 300 {
			return
		}
		_, err := Compile(pattern)
		var e *Error
		switch {
		case err == nil:
			check(t, pattern, text)
		case !errors.As(err, &e):
			t.Fatalf("Compile(%q): %T, want *Error", pattern, err)
		case e.Pos < 0 || e.Len < 0 || e.Pos+e.Len > len(pattern) || e.Message == "":
			t.Fatalf("Compile(%q): error at %d+%d outside of the pattern: %s", pattern, e.Pos, e.Len, e.Message)
		}
	})
}
