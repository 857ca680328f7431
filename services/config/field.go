package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
)

// A field is one setting in one configuration. Its path is as in the file, with ids from 1 for the entries of an array of tables:
// captures.max, port.2.link.
type field struct {
	path  string
	entry string // path of the table, or of the entry, that it is in
	value reflect.Value
	spec  reflect.StructField
}

func (f field) takes() string { return f.spec.Tag.Get("takes") }

// optional reports whether the field may be left out of the file.
func (f field) optional() bool { return isOptional(f.spec) }

func isOptional(f reflect.StructField) bool { return strings.Contains(f.Tag.Get("toml"), ",omitempty") }

// limit returns the least and greatest number that the field may hold.
func (f field) limit() (least, greatest int64, ok bool) {
	a, b, ok := strings.Cut(f.spec.Tag.Get("limit"), "..")
	if !ok {
		return 0, 0, false
	}
	least, _ = strconv.ParseInt(a, 10, 64)
	greatest, _ = strconv.ParseInt(b, 10, 64)
	return least, greatest, true
}

// fields returns every setting of c in the order of the file.
func (c *Config) fields() []field {
	var out []field
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name := key(v.Type().Field(i))
		if v.Field(i).Kind() == reflect.Struct {
			out = append(out, tableFields(name, v.Field(i))...)
			continue
		}
		for j := range v.Field(i).Len() {
			out = append(out, tableFields(fmt.Sprintf("%s.%d", name, j+1), v.Field(i).Index(j))...)
		}
	}
	return out
}

func tableFields(path string, v reflect.Value) []field {
	var out []field
	for i := range v.NumField() {
		spec := v.Type().Field(i)
		out = append(out, field{path + "." + key(spec), path, v.Field(i), spec})
	}
	return out
}

// key returns the name of a struct's field in the file.
func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

// text returns a value as it stands in the file.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "[]"
	}
	var b bytes.Buffer
	// The types of the schema are all ones that TOML has.
	toml.NewEncoder(&b).Encode(map[string]any{"v": v.Interface()})
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = "))
}

//go:embed config.go
var source string

// manual returns the comments of the schema by Type or Type.Field, one string per line of the file, each beginning with the key instead of the field's name.
var manual = sync.OnceValue(func() map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		panic(fmt.Sprintf("config: the embedded source of the schema: %v", err))
	}
	m := map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		spec := g.Specs[0].(*ast.TypeSpec)
		m[spec.Name.Name] = strings.TrimSpace(g.Doc.Text())
		fields := spec.Type.(*ast.StructType).Fields.List
		for _, f := range fields {
			for _, name := range f.Names {
				m[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
	}
	return m
})

// help returns the comment of a struct's field with the names of fields spelled as in the file.
func help(table reflect.Type, f reflect.StructField) string {
	words := strings.Fields(manual()[table.Name()+"."+f.Name])
	for i, w := range words {
		bare := strings.TrimRight(w, ".,;:")
		if other, ok := table.FieldByName(bare); ok {
			words[i] = key(other) + w[len(bare):]
		}
	}
	return strings.Join(words, " ")
}
