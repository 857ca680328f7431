// Package version compares firmware versions: numbers that rise, as 1.2.3, with a suffix that says more and does not count, as 0.0.345-gabc1234.
package version

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// form is what sorts the same for people and machines, and can be part of a file's name beside a boot counter.
var form = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9}){1,3}(-[a-z0-9.]{1,40})?$`) })

// Check returns an error if v is no version.
func Check(v string) error {
	if !form().MatchString(v) {
		return fmt.Errorf("%q is not a version of the form 1.2.3 or 1.2.3-suffix", v)
	}
	return nil
}

// Compare returns a negative number if a is older than b, and 0 if their numbers are the same. Missing numbers are zero.
func Compare(a, b string) int {
	x, y := numbers(a), numbers(b)
	for i := range max(len(x), len(y)) {
		if c := cmp.Compare(at(x, i), at(y, i)); c != 0 {
			return c
		}
	}
	return 0
}

func at(n []int, i int) int {
	if i < len(n) {
		return n[i]
	}
	return 0
}

func numbers(v string) []int {
	v, _, _ = strings.Cut(v, "-")
	var out []int
	for _, field := range strings.Split(v, ".") {
		n, _ := strconv.Atoi(field) // of a version that was checked
		out = append(out, n)
	}
	return out
}
