package kernel

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Set is modules with everything that they need, sorted by file.
type Set struct {
	Release string
	Modules []*Module

	byName map[string]*Module
}

// Close returns the named modules with all that they depend on, hard and soft. What is in the kernel itself may be named and is left out. A name that the
// kernel does not have is an error; a soft dependency that it does not have is none, as for modprobe.
func (t *Tree) Close(names []string) (*Set, error) {
	s := &Set{Release: t.Release, byName: map[string]*Module{}}
	for _, name := range names {
		name = canonical(name)
		if t.builtin[name] {
			continue
		}
		if err := t.add(s, name); err != nil {
			return nil, err
		}
	}
	s.Modules = slices.SortedFunc(maps.Values(s.byName), func(a, b *Module) int { return strings.Compare(a.File, b.File) })
	return s, nil
}

func (t *Tree) add(s *Set, name string) error {
	if s.byName[name] != nil {
		return nil
	}
	m, err := t.module(name)
	if err != nil {
		return err
	}
	s.byName[name] = m
	for _, d := range m.Depends {
		if t.builtin[d] {
			continue
		}
		if err := t.add(s, d); err != nil {
			return fmt.Errorf("%s needs %s: %w", name, d, err)
		}
	}
	for _, d := range softNames(m.Soft) {
		for _, p := range t.providers(d) {
			if err := t.add(s, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// softNames returns the names in softdep values as "pre: a b post: c".
func softNames(values []string) []string {
	var out []string
	for _, v := range values {
		for _, word := range strings.Fields(v) {
			if !strings.HasSuffix(word, ":") {
				out = append(out, word)
			}
		}
	}
	return out
}

// providers returns the modules that a soft dependency stands for: a module's name, or else an alias. Such aliases are of the kernel's cryptography and
// library functions; only the modules of these are looked at, since looking at all takes half a minute.
func (t *Tree) providers(name string) []string {
	if n := canonical(name); t.builtin[n] {
		return nil
	} else if t.files[n] != "" {
		return []string{n}
	}
	if t.aliases == nil {
		t.aliases = map[string][]string{}
		for _, module := range slices.Sorted(maps.Keys(t.files)) {
			if !cryptography(t.files[module]) {
				continue
			}
			m, err := t.module(module)
			if err != nil {
				continue // a module that nobody asked for
			}
			for _, a := range m.Aliases {
				t.aliases[a] = append(t.aliases[a], module)
			}
		}
	}
	return t.aliases[name]
}

func cryptography(file string) bool {
	return strings.HasPrefix(file, "kernel/crypto/") || strings.HasPrefix(file, "kernel/lib/") || strings.HasPrefix(file, "kernel/arch/") && path.Base(path.Dir(file)) == "crypto"
}

// Has reports whether the named module is in the set.
func (s *Set) Has(name string) bool { return s.byName[canonical(name)] != nil }

// Dep returns modules.dep: each module's file and those of everything that it depends on, what is loaded first last (modules.dep(5)).
func (s *Set) Dep() []byte {
	var b bytes.Buffer
	for _, m := range s.Modules {
		b.WriteString(m.File + ":")
		for _, d := range s.order(m) {
			b.WriteString(" " + d.File)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// order returns what m depends on, directly or not, each before what it depends on itself.
func (s *Set) order(m *Module) []*Module {
	var out []*Module
	var visit func(m *Module)
	visit = func(m *Module) {
		for _, name := range slices.Backward(m.Depends) {
			d := s.byName[name]
			if d == nil || slices.Contains(out, d) {
				continue
			}
			visit(d)
			out = append(out, d)
		}
	}
	visit(m)
	slices.Reverse(out)
	return out
}

// Alias returns modules.alias: what a device calls itself, and the module for it.
func (s *Set) Alias() []byte {
	var b bytes.Buffer
	for _, m := range s.Modules {
		for _, a := range m.Aliases {
			fmt.Fprintf(&b, "alias %s %s\n", a, m.Name)
		}
	}
	return b.Bytes()
}

// Softdep returns modules.softdep.
func (s *Set) Softdep() []byte {
	var b bytes.Buffer
	for _, m := range s.Modules {
		for _, d := range m.Soft {
			fmt.Fprintf(&b, "softdep %s %s\n", m.Name, d)
		}
	}
	return b.Bytes()
}

// Firmware returns the files that the modules of the set may ask for, sorted.
func (s *Set) Firmware() []string {
	var out []string
	for _, m := range s.Modules {
		out = append(out, m.Firmware...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Bytes is the size of the modules together.
func (s *Set) Bytes() int64 {
	var n int64
	for _, m := range s.Modules {
		n += int64(len(m.Content))
	}
	return n
}
