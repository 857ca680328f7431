package filter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"galvo/services/internal/spelling"
)

// An Error is why an expression does not compile. Pos and Len are in bytes of the UTF-8 expression, from 0; Pos+Len is at most its length.
type Error struct {
	Pos, Len int
	Message  string   // says what is wrong and, where one is near, the name that was probably meant
	Expected []string // what could stand there, most likely first; may be empty
	Syntax   bool     // the grammar is broken there; else a name or a value is wrong
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s, at byte %d", e.Message, e.Pos)
	if len(e.Expected) > 0 {
		text += "; expected " + orList(e.Expected)
	}
	return text
}

// Expression returns what an answer of the API says of the error.
func (e *Error) Expression() (text string, pos, len int, expected []string) {
	return e.Message, e.Pos, e.Len, e.Expected
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// didYouMean returns " (did you mean x or y?)", or "" where no known word is near.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return " (did you mean " + orList(near) + "?)"
}

// nearest returns at most n of the known words that are close enough to word to be what was meant, the best first.
func nearest(word string, known []string, n int) []string {
	word = strings.ToLower(word)
	if len(word) > 64 {
		return nil
	}
	far := make(map[string]int)
	var near []string
	for _, k := range known {
		lower := strings.ToLower(k)
		d := spelling.Distance(word, lower)
		if len(word) > 1 && (strings.HasPrefix(lower, word) || strings.HasPrefix(word, lower) && len(lower) > 2) {
			d = min(d, 2)
		}
		if d <= 1+len(word)/3 && d < len(word) {
			far[k] = d
			near = append(near, k)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int {
		return cmp.Or(cmp.Compare(far[a], far[b]), cmp.Compare(spelling.Begin(word, strings.ToLower(a)), spelling.Begin(word, strings.ToLower(b))))
	})
	near = slices.Compact(near)
	return near[:min(n, len(near))]
}
