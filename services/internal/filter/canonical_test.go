package filter

import (
	"strings"
	"testing"
)

// TestCanonicalLength holds the canonical form to the bound of an expression: what is accepted reads back.
func TestCanonicalLength(t *testing.T) {
	for _, n := range []int{100, 4600, 5400} {
		expression := strings.Repeat("port==80||", n) + "port==81"
		f, err := Compile(expression, nil)
		if err != nil {
			if n == 100 || !strings.Contains(err.Error(), "canonical form") {
				t.Errorf("%d comparisons: %v", n, err)
			}
			continue
		}
		again, err := Compile(f.String(), nil)
		if err != nil {
			t.Errorf("%d comparisons: the canonical form does not read back: %v", n, err)
		} else if again.String() != f.String() {
			t.Errorf("%d comparisons: the canonical form has another one", n)
		}
	}
}
