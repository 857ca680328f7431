package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Parts returns the names of the tables, which can be exported, imported and reset by themselves.
func Parts() []string { return schema()[""] }

// checkParts says which name is none of a part. No names at all are all parts.
func checkParts(parts []string) ([]string, error) {
	if len(parts) == 0 {
		return Parts(), nil
	}
	for _, p := range parts {
		if !slices.Contains(Parts(), p) {
			return nil, fmt.Errorf("%q is no part of the configuration; there are %s", p, strings.Join(Parts(), ", "))
		}
	}
	return parts, nil
}

// With returns a copy of c that has some parts of another configuration. It may be invalid: parts depend on each other.
func (c *Config) With(parts []string, from *Config) (*Config, error) {
	parts, err := checkParts(parts)
	if err != nil {
		return nil, err
	}
	out := *c
	to, other := reflect.ValueOf(&out).Elem(), reflect.ValueOf(from).Elem()
	for i := range to.NumField() {
		if slices.Contains(parts, key(to.Type().Field(i))) {
			to.Field(i).Set(other.Field(i))
		}
	}
	return &out, nil
}

// EncodeParts returns some parts of c as Encode writes them.
func (c *Config) EncodeParts(parts []string) ([]byte, error) {
	parts, err := checkParts(parts)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(preamble)
	c.encode(&b, parts)
	return b.Bytes(), nil
}
