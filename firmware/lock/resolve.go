package lock

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// An Index is what the archive says of the packages of a suite, component and architecture: a field's name to its value, by the package's name, of the
// newest version.
type Index map[string]map[string]string

// ReadIndex reads a Packages file (deb822, one paragraph a package).
func ReadIndex(r io.Reader) (Index, error) {
	index := Index{}
	paragraph := map[string]string{}
	finish := func() {
		name := paragraph["Package"]
		if old, ok := index[name]; name != "" && (!ok || CompareVersions(paragraph["Version"], old["Version"]) > 0) {
			index[name] = paragraph
		}
		paragraph = map[string]string{}
	}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		if line == "" {
			finish()
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			paragraph[name] = strings.TrimSpace(value)
		}
	}
	finish()
	return index, s.Err()
}

// Resolve makes a lock of the table: index returns what the archive has of a want for an architecture.
func Resolve(wanted []Want, snapshot string, index func(w Want, architecture string) (Index, error)) (*Lock, error) {
	l := &Lock{Snapshot: snapshot}
	for _, arch := range architectures {
		for _, w := range wanted {
			if w.Arch != "" && w.Arch != arch {
				continue
			}
			x, err := index(w, arch)
			if err != nil {
				return nil, err
			}
			p, err := x.resolve(w, arch)
			if err != nil {
				return nil, err
			}
			l.Packages = append(l.Packages, p)
		}
	}
	return l, nil
}

func (x Index) resolve(w Want, arch string) (Package, error) {
	p, ok := x[w.Name]
	if !ok {
		return Package{}, fmt.Errorf("%s has no package %s for %s", w.Suite, w.Name, arch)
	}
	// A kernel's package only depends on the newest one.
	if strings.HasPrefix(w.Name, "linux-image-") {
		name, _, _ := strings.Cut(p["Depends"], " ")
		if p, ok = x[strings.TrimSuffix(name, ",")]; !ok {
			return Package{}, fmt.Errorf("%s depends on %q, which %s does not have for %s", w.Name, name, w.Suite, arch)
		}
	}
	size, err := strconv.ParseInt(p["Size"], 10, 64)
	if err != nil {
		return Package{}, fmt.Errorf("size of %s: %w", p["Package"], err)
	}
	return Package{Want: w.Name, Name: p["Package"], Architecture: arch, Version: p["Version"], Path: p["Filename"], Size: size, SHA256: p["SHA256"],
		License: w.License, Homepage: p["Homepage"], Source: source(p)}, nil
}

// source returns the source package with its version: GPL and LGPL entitle whoever gets an image to it.
func source(p map[string]string) string {
	name, version := p["Package"], p["Version"]
	if s := p["Source"]; s != "" {
		name = s
		if n, v, ok := strings.Cut(s, " ("); ok {
			name, version = n, strings.TrimSuffix(v, ")")
		}
	}
	return name + " " + version
}

// CompareVersions compares two versions as Debian does (deb-version(7)): negative if a is older.
func CompareVersions(a, b string) int {
	epoch := func(v string) (string, string) {
		if e, rest, ok := strings.Cut(v, ":"); ok {
			return e, rest
		}
		return "0", v
	}
	revision := func(v string) (string, string) {
		if i := strings.LastIndexByte(v, '-'); i >= 0 {
			return v[:i], v[i+1:]
		}
		return v, ""
	}
	ea, a := epoch(a)
	eb, b := epoch(b)
	ua, ra := revision(a)
	ub, rb := revision(b)
	for _, pair := range [][2]string{{ea, eb}, {ua, ub}, {ra, rb}} {
		if c := compareParts(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// order ranks a character of the non-digit parts: a tilde before everything, even the end; letters before the rest.
func order(s string, i int) int {
	switch {
	case i >= len(s) || isDigit(s[i]):
		return 0
	case s[i] == '~':
		return -1
	case s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

func compareParts(a, b string) int {
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		for i < len(a) && !isDigit(a[i]) || j < len(b) && !isDigit(b[j]) {
			if c := order(a, i) - order(b, j); c != 0 {
				return c
			}
			i, j = i+1, j+1
		}
		m, n := i, j
		for ; m < len(a) && isDigit(a[m]); m++ {
		}
		for ; n < len(b) && isDigit(b[n]); n++ {
		}
		x, y := strings.TrimLeft(a[i:m], "0"), strings.TrimLeft(b[j:n], "0")
		if c := len(x) - len(y); c != 0 {
			return c
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		i, j = m, n
	}
	return 0
}
