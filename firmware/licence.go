package firmware

import (
	gobuild "go/build"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A goModule is a part of our binary, with its licence.
type goModule struct {
	path, version string
	licence       string // SPDX expression; NOASSERTION if it is not recognised
	text          []byte // nil if it is not in the module cache
}

// goModules returns what a binary was linked of, the standard library first.
func goModules(info *debug.BuildInfo) []goModule {
	out := []goModule{module("std", strings.Fields(info.GoVersion)[0], goRoot())}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, module(m.Path, m.Version, filepath.Join(moduleCache(), escape(m.Path)+"@"+escape(m.Version))))
	}
	return out
}

// goRoot returns where the go command has its standard library; empty if there is no go command.
func goRoot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func moduleCache() string {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	return filepath.Join(filepath.SplitList(gobuild.Default.GOPATH)[0], "pkg/mod")
}

// escape spells a module's path as the cache does: file systems may not tell capital letters from small ones (go.dev/ref/mod, "Module cache").
func escape(path string) string {
	var b strings.Builder
	for _, r := range path {
		if unicode.IsUpper(r) {
			b.WriteByte('!')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func module(path, version, dir string) goModule {
	m := goModule{path: path, version: version, licence: "NOASSERTION", text: licenceText(dir)}
	if m.text != nil {
		m.licence = recognise(string(m.text))
	}
	return m
}

// licenceText returns the licence that lies in a folder, or nil.
func licenceText(dir string) []byte {
	for _, pattern := range []string{"LICEN[CS]E*", "License*", "license*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			continue
		}
		if text, err := os.ReadFile(files[0]); err == nil {
			return text
		}
	}
	return nil
}

// sentences are what licences are recognised by. Of those with the same beginning the first that fits counts.
var sentences = sync.OnceValue(func() []struct {
	spdx string
	form *regexp.Regexp
} {
	form := func(s string) *regexp.Regexp { return regexp.MustCompile(`(?is)` + s) }
	return []struct {
		spdx string
		form *regexp.Regexp
	}{
		{"BSD-3-Clause OR GPL-2.0-only", form(`Redistribution and use in source and binary forms.*ALTERNATIVELY.*GNU General Public License`)},
		{"Apache-2.0", form(`Apache License.{0,200}Version 2\.0`)},
		{"MPL-2.0", form(`Mozilla Public License.{0,50}2\.0`)},
		{"BSD-3-Clause", form(`Redistribution and use in source and binary forms.*(Neither the name|names? of .{0,200}may not be used|nor the names)`)},
		{"BSD-2-Clause", form(`Redistribution and use in source and binary forms`)},
		{"MIT", form(`Permission is hereby granted, free of charge`)},
		{"ISC", form(`Permission to use, copy, modify, and(/or)? distribute this software`)},
		{"Unlicense", form(`This is free and unencumbered software`)},
	}
})

// recognise returns the SPDX expression of a licence's text. A text with several licences, for several parts, is all of them.
func recognise(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	var found []string
	redistribution := false
	for _, s := range sentences() {
		family := strings.HasPrefix(s.spdx, "BSD-")
		if family && redistribution || !s.form.MatchString(text) {
			continue
		}
		redistribution = redistribution || family
		found = append(found, s.spdx)
	}
	if len(found) == 0 {
		return "NOASSERTION"
	}
	slices.Sort(found)
	return strings.Join(found, " AND ")
}
