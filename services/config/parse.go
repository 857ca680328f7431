package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"

	"galvo/services/internal/spelling"
)

// maxText is the longest configuration that Parse reads, in bytes.
const maxText = 1 << 20

// An Error says what is wrong with a configuration, and where.
type Error struct {
	Line  int    // of the text, from 1; 0 if there is no text, or the field is not in it
	Field string // path of the field, as captures.max or port.2.link; may be empty
	Text  string // what is wrong and what is allowed
}

func (e *Error) Error() string {
	s := e.Text
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Line > 0 {
		s = fmt.Sprintf("line %d: %s", e.Line, s)
	}
	return s
}

// Parse reads a configuration. What the text does not name has its default. An unknown key and an impossible value are errors; every error is
// an *Error.
func Parse(text []byte) (*Config, error) {
	if len(text) > maxText {
		return nil, &Error{Text: fmt.Sprintf("the configuration has %d bytes, at most %d are allowed", len(text), maxText)}
	}
	c := Default()
	// The decoder would fill in what an entry of the text leaves out from the default's entry in the same place.
	usual := c.Storage
	c.Storage = nil
	meta, err := toml.Decode(string(text), c)
	if err != nil {
		return nil, syntaxError(err)
	}
	if !meta.IsDefined("storage") {
		c.Storage = usual
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, unknownKey(text, unknown[0])
	}
	if e := misspelled(meta, text); e != nil {
		return nil, e
	}
	if err := c.Validate(); err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Line = lineOf(text, e.Field)
		}
		return nil, err
	}
	return c, nil
}

func syntaxError(err error) *Error {
	var p toml.ParseError
	if errors.As(err, &p) {
		return &Error{Line: p.Position.Line, Field: p.LastKey, Text: p.Message}
	}
	// A value of the wrong type has its place only in the text of its error.
	if m := typeError().FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &Error{Line: line, Field: m[2], Text: m[3]}
	}
	return &Error{Text: strings.TrimPrefix(err.Error(), "toml: ")}
}

var typeError = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^toml: line ([0-9]+) \(last key "([^"]*)"\): (.*)$`)
})

// schema returns the keys of the file: the tables under "", and the fields of each table under its name.
func schema() map[string][]string {
	keys := map[string][]string{}
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		table, elem := key(t.Field(i)), t.Field(i).Type
		keys[""] = append(keys[""], table)
		if elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		for j := range elem.NumField() {
			keys[table] = append(keys[table], key(elem.Field(j)))
		}
	}
	return keys
}

// misspelled finds a key that the decoder took although its case is not the schema's: two spellings of one key would hide each other.
func misspelled(meta toml.MetaData, text []byte) *Error {
	keys := schema()
	for _, k := range meta.Keys() {
		parent := strings.Join(k[:len(k)-1], ".")
		if !slices.Contains(keys[parent], k[len(k)-1]) {
			return unknownKey(text, k)
		}
	}
	return nil
}

func unknownKey(text []byte, k toml.Key) *Error {
	parent, name := strings.Join(k[:len(k)-1], "."), k[len(k)-1]
	e := &Error{Line: lineOf(text, k.String()), Field: k.String(), Text: "there is no such setting"}
	candidates, ok := schema()[parent]
	if near := nearest(name, candidates); ok && near != "" {
		e.Text += fmt.Sprintf(", did you mean %s?", near)
	} else if ok {
		e.Text += "; there are " + strings.Join(candidates, ", ")
	}
	return e
}

// lineOf returns the line on which a field stands, from 1, or that of its table, or 0. It knows the form that Encode writes, and all others well
// enough to point near the place: the values were checked by then.
func lineOf(text []byte, path string) int {
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

// nearest returns the candidate that is closest to name, or "" if none is close.
func nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := spelling.Distance(strings.ToLower(name), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}
