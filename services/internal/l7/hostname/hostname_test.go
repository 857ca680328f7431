package hostname

import (
	"strings"
	"testing"
)

// TestHostFile finds entries of the program's table that cannot matter, because a shorter one says the same.
func TestHostFile(t *testing.T) {
	owner := make(map[string]string)
	app := ""
	for _, l := range lines(file) {
		if l.begins {
			app = l.words[0]
			continue
		}
		for _, name := range l.words {
			if owner[name] != "" {
				t.Errorf("line %d: %s belongs to %s already", l.number, name, owner[name])
			}
			owner[name] = app
		}
	}
	for name, app := range owner {
		for rest := name; ; {
			_, after, ok := strings.Cut(rest, ".")
			if rest = after; !ok {
				break
			}
			if other := owner[rest]; other != "" {
				if other == app {
					t.Errorf("%s: %s is enough", name, rest)
				}
				break
			}
		}
	}
}
