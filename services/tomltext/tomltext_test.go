package tomltext

import (
	"testing"

	"github.com/BurntSushi/toml"
)

const text = `# [port] is not this
top = 1
[captures]
# max = 3
max = 4
[[port]]
name = "eth1"
[[port]]
"name" = "eth2"
link = 1
`

func TestLineOf(t *testing.T) {
	for path, want := range map[string]int{
		"top": 2, "captures": 3, "captures.max": 5, "captures.splitBytes": 3, "port.1.name": 7, "port.2.name": 9, "port.2.link": 10, "port.1.link": 6,
		"port.name": 7, "port.2": 8, "clock": 0, "": 0,
	} {
		if got := LineOf([]byte(text), path); got != want {
			t.Errorf("%q stands on line %d, want %d", path, got, want)
		}
	}
}

func TestSyntax(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a = 1\nb = [", "line 2: b: unexpected EOF; expected value"},
		{"\n[captures]\nmax = \"four\"", `line 3: captures.max: a text in quotes stands here, and it must be a whole number`},
		{"[captures]\nmax = 4.5", `line 2: captures.max: a number with a point stands here, and it must be a whole number`},
		{"[captures]\nmax = [4]", `line 2: captures.max: a list in [ ] stands here, and it must be a whole number`},
		{"[captures]\nmax = true", `line 2: captures.max: true or false stands here, and it must be a whole number`},
		{"[captures]\nmax = 2026-01-01", `line 2: captures.max: a date or time stands here, and it must be a whole number`},
		{"[captures]\non = 1", `line 2: captures.on: a whole number stands here, and it must be true or false`},
		{"[captures]\nnames = \"a\"", `line 2: captures.names: a text in quotes stands here, and it must be a list in [ ]`},
		{"[captures]\nname = 1", `line 2: captures.name: a whole number stands here, and it must be a text in quotes`},
		{"captures = 1", `line 1: captures: a whole number stands here, and it must be a table`},
	} {
		var v struct {
			A, B     int
			Captures struct {
				Max   int
				On    bool
				Name  string
				Names []string
			}
		}
		_, err := toml.Decode(c.text, &v)
		if err == nil {
			t.Fatalf("%q is no error", c.text)
		}
		if got := Syntax(err).Error(); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
