package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"galvo/services/internal/spelling"
	"galvo/services/tomltext"
)

// maxText is the longest configuration that Parse reads, in bytes.
const maxText = 1 << 20

// An Error says what is wrong with a configuration, and where.
type Error = tomltext.Error

// Parse reads a configuration. What the text does not name has its default. An unknown key and an impossible value are errors; every error is
// an *Error.
func Parse(text []byte) (*Config, error) {
	if len(text) > maxText {
		return nil, &Error{Text: fmt.Sprintf("the configuration has %d bytes, at most %d are allowed", len(text), maxText)}
	}
	if !utf8.Valid(text) { // the decoder takes some of what other encodings begin with for nothing
		line := 1 + bytes.Count(text[:validUntil(text)], []byte("\n"))
		return nil, &Error{Line: line, Text: "the configuration is not UTF-8"}
	}
	c := Default()
	// The decoder would fill in what an entry of the text leaves out from the default's entry in the same place.
	usual := c.Storage
	c.Storage = nil
	meta, err := toml.Decode(string(text), c)
	if err != nil {
		return nil, tomltext.Syntax(err)
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
			e.Line = tomltext.LineOf(text, e.Key)
		}
		return nil, err
	}
	return c, nil
}

// validUntil returns the index of the first byte that is not UTF-8.
func validUntil(text []byte) int {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return len(text)
}

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
	e := &Error{Line: tomltext.LineOf(text, k.String()), Key: k.String(), Text: "there is no such setting"}
	candidates, ok := schema()[parent]
	if near := nearest(name, candidates); ok && near != "" {
		e.Text += fmt.Sprintf(", did you mean %s?", near)
	} else if ok {
		e.Text += "; there are " + strings.Join(candidates, ", ")
	}
	return e
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
