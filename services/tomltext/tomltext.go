// Package tomltext says what is wrong with a TOML file that a person wrote, and where. It knows no schema.
package tomltext

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
)

// An Error says what is wrong with a file, and where.
type Error struct {
	Line int    // of the text, from 1; 0 if there is no text, or the key is not in it
	Key  string // path of the key, as captures.max or port.2.link; may be empty
	Text string // what is wrong and what is allowed
}

// Error returns "line 3: captures.max: ...", without what is not known.
func (e *Error) Error() string {
	s := e.Text
	if e.Key != "" {
		s = e.Key + ": " + s
	}
	if e.Line > 0 {
		s = fmt.Sprintf("line %d: %s", e.Line, s)
	}
	return s
}

// Syntax returns an error of the decoder with its place.
func Syntax(err error) *Error {
	var p toml.ParseError
	if errors.As(err, &p) {
		return &Error{Line: p.Position.Line, Key: p.LastKey, Text: p.Message}
	}
	// A value of the wrong type has its place only in the text of its error.
	if m := typeError().FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &Error{Line: line, Key: m[2], Text: inWords(m[3])}
	}
	return &Error{Text: strings.TrimPrefix(err.Error(), "toml: ")}
}

var typeError = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^toml: line ([0-9]+) \(last key "([^"]*)"\): (.*)$`)
})

// inWords says what the decoder says of a value of the wrong type without the names of Go's types.
func inWords(s string) string {
	if m := wrongType().FindStringSubmatch(s); m != nil {
		return fmt.Sprintf("%s stands here, and it must be %s", kind(m[1]), kind(m[2]))
	}
	if m := noTable().FindStringSubmatch(s); m != nil {
		return fmt.Sprintf("%s stands here, and it must be a table", kind(m[1]))
	}
	return s
}

var (
	wrongType = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^incompatible types: TOML value has type (.*); destination has type (.*)$`)
	})
	noTable = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?s)^type mismatch for .*: expected table but found (.*)$`)
	})
)

// kind is what a person calls a type of the decoder.
func kind(of string) string {
	switch of {
	case "string":
		return "a text in quotes"
	case "int64", "integer":
		return "a whole number"
	case "float64", "float":
		return "a number with a point"
	case "bool", "boolean":
		return "true or false"
	case "time.Time":
		return "a date or time"
	case "map", "map[string]any":
		return "a table"
	}
	if of == "slice" || strings.HasPrefix(of, "[]") {
		return "a list in [ ]"
	}
	return of
}

// LineOf returns the line on which a key stands, from 1, or that of its table, or 0. In the path of an entry of a list of tables its number may be given, from 1.
// It knows tables with a key a line, and all other forms well enough to point near the place: the values were checked by then.
func LineOf(text []byte, path string) int {
	best, table := 0, ""
	count := map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "[["); ok {
			name, _, _ = strings.Cut(name, "]]")
			name = strings.TrimSpace(name)
			count[name]++
			table = fmt.Sprintf("%s.%d", name, count[name])
		} else if name, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			table = strings.TrimSpace(name)
		} else if name, _, ok := strings.Cut(line, "="); ok {
			name = strings.Trim(strings.TrimSpace(name), `"'`)
			if matches(path, table, name) {
				return i + 1
			}
			continue
		}
		if best == 0 && table != "" && (path == table || strings.HasPrefix(path, table+".") || path == strings.Split(table, ".")[0]) {
			best = i + 1
		}
	}
	return best
}

// matches reports whether path is the key name in table. Paths from the decoder have no entry's number.
func matches(path, table, name string) bool {
	if table == "" {
		return path == name || path == strings.Split(name, ".")[0]
	}
	bare, _, _ := strings.Cut(table, ".")
	return path == table+"."+name || path == bare+"."+name
}
