package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

const preamble = `# The configuration of Galvo. It is rewritten at every change made through the page or the API, with the comments
# of its fields; comments written by hand are not kept.
`

// lineWidth is where comments are wrapped.
const lineWidth = 100

// Encode returns c as the text of a configuration file, with the manual of every field above it. A list of tables that is empty is shown
// as a comment, so that the file names every setting there is.
func (c *Config) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	v := reflect.ValueOf(c).Elem()
	writeNone(&b, v)
	for i := range v.NumField() {
		name := key(v.Type().Field(i))
		if v.Field(i).Kind() == reflect.Struct {
			writeTable(&b, "["+name+"]", v.Field(i), true)
			continue
		}
		for j := range v.Field(i).Len() {
			writeTable(&b, "[["+name+"]]", v.Field(i).Index(j), j == 0)
		}
		if v.Field(i).Len() == 0 {
			var example bytes.Buffer
			writeTable(&example, "[["+name+"]]", reflect.Zero(v.Field(i).Type().Elem()), true)
			b.WriteString(commentOut(example.String()))
		}
	}
	return b.Bytes()
}

// writeNone writes the lists of tables that are empty and would have a default if nothing was said. TOML wants them before all tables.
func writeNone(b *bytes.Buffer, v reflect.Value) {
	usual := reflect.ValueOf(Default()).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && f.Len() == 0 && usual.Field(i).Len() > 0 {
			fmt.Fprintf(b, "\n%s = []\n", key(v.Type().Field(i)))
		}
	}
}

// writeTable writes one table, with its comments if withManual is set. Optional fields that are not set are left out, except in an entry that is
// an example.
func writeTable(b *bytes.Buffer, header string, v reflect.Value, withManual bool) {
	b.WriteByte('\n')
	t := v.Type()
	if withManual {
		writeComment(b, manual()[t.Name()])
	}
	fmt.Fprintln(b, header)
	for i := range v.NumField() {
		f := t.Field(i)
		if withManual {
			writeComment(b, help(t, f))
		}
		if isOptional(f) && v.Field(i).IsZero() && !v.IsZero() {
			continue
		}
		fmt.Fprintf(b, "%s = %s\n", key(f), text(v.Field(i)))
	}
}

func writeComment(b *bytes.Buffer, s string) {
	line := "#"
	for _, word := range strings.Fields(s) {
		if len(line)+1+len(word) > lineWidth {
			fmt.Fprintln(b, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
}

func commentOut(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		if l != "" && !strings.HasPrefix(l, "#") {
			lines[i] = "# " + l
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
