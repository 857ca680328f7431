package regexp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"galvo/ci/need"
)

// perl reads lines of hexadecimal words, a pattern and texts, and prints a line of 0 and 1 for each: over bytes, without a locale.
const perl = `
no warnings;
while (<STDIN>) {
	chomp;
	my ($pattern, @texts) = split / /, $_, -1;
	$pattern = pack "H*", $pattern;
	$pattern = "(?:)" if $pattern eq "";
	my $re = eval { qr/$pattern/ };
	print defined $re ? join("", map { pack("H*", $_) =~ $re ? 1 : 0 } @texts) : "refused: $@" =~ s/\n/ /r, "\n";
}`

// TestPerl compares the engine with perl on the table of meanings and on random patterns and texts, newlines and high bytes included.
func TestPerl(t *testing.T) {
	perlPath := need.Tool(t, "perl")
	type question struct {
		pattern string
		texts   [][]byte
	}
	var all []question
	for _, test := range meanings {
		if notPerl := strings.Contains(test.pattern, `\Q`) || strings.Contains(test.pattern, "ü") || strings.Contains(test.pattern, "ä"); !notPerl {
			all = append(all, question{test.pattern, [][]byte{[]byte(test.text)}})
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		// To perl a quantifier behind a character beyond ASCII is about its last byte.
		q := question{pattern: strings.ReplaceAll(randomPattern(r, 2), "é", "z")}
		for range 10 {
			q.texts = append(q.texts, randomText(r, 8))
		}
		all = append(all, q)
	}
	var in, out bytes.Buffer
	for _, q := range all {
		fmt.Fprintf(&in, "%x", q.pattern)
		for _, text := range q.texts {
			fmt.Fprintf(&in, " %x", text)
		}
		in.WriteByte('\n')
	}
	cmd := exec.Command(perlPath, "-e", perl)
	cmd.Stdin, cmd.Stdout = &in, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("run perl: %v", err)
	}
	answers := strings.Split(out.String(), "\n")
	compared := 0
	for i, q := range all {
		if strings.HasPrefix(answers[i], "refused") {
			continue
		}
		re, err := Compile(q.pattern)
		if err != nil {
			t.Errorf("Compile(%q): %v; perl accepts it", q.pattern, err)
			continue
		}
		for j, text := range q.texts {
			compared++
			if got, want := re.Match(text), answers[i][j] == '1'; got != want {
				t.Errorf("%q matches %q = %v, perl says %v", q.pattern, text, got, want)
			}
		}
	}
	if compared < 45000 {
		t.Errorf("perl answered %d questions of about 50000: %.200s", compared, out.String())
	}
}

// TestGrep compares the engine with PCRE itself, through grep -P: lines of text, so without newlines.
func TestGrep(t *testing.T) {
	grep := need.Tool(t, "grep")
	if exec.Command(grep, "-P", "a", "/dev/null").Run().(*exec.ExitError).ExitCode() != 1 {
		need.Missing(t, "grep", "it has no -P")
	}
	r := rand.New(rand.NewPCG(5, 6))
	var texts [][]byte
	for range 200 {
		text := bytes.ReplaceAll(randomText(r, 12), []byte("\n"), []byte("a"))
		texts = append(texts, text)
	}
	in := append(bytes.Join(texts, []byte("\n")), '\n')
	patterns := []string{`allegr[o,a]|HTTP`, `(?i)allegro|http`, `[a-z]+allegro`, `[A-Z]{3,}[0-9]+|[[:^print:]]{2}`, `\x16\x03.{2}`, `\Qa.\E|\x{e9}`}
	for range 150 {
		// PCRE refuses quantifiers behind assertions, and takes \N before \R for possessive.
		pattern := strings.NewReplacer("é", "z", `\R`, `\r`).Replace(randomPattern(r, 2))
		patterns = append(patterns, pattern)
	}
	for _, pattern := range patterns {
		cmd := exec.Command(grep, "-aPn", "-e", pattern)
		cmd.Env = []string{"LC_ALL=C"}
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() > 1 {
			continue
		}
		re, err := Compile(pattern)
		if err != nil {
			t.Errorf("Compile(%q): %v; grep -P accepts it", pattern, err)
			continue
		}
		var want bytes.Buffer
		for i, text := range texts {
			if re.Match(text) {
				fmt.Fprintf(&want, "%d:%s\n", i+1, text)
			}
		}
		if !bytes.Equal(out, want.Bytes()) {
			t.Errorf("%q: grep -P finds\n%q\nthe engine finds\n%q", pattern, out, want.Bytes())
		}
	}
}
