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
		{"\n[captures]\nmax = \"four\"", `line 3: captures.max: incompatible types: TOML value has type string; destination has type integer`},
	} {
		var v struct {
			A, B     int
			Captures struct{ Max int }
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
