// Package program takes programs of Debian packages with the shared libraries that they need, for an image without a Debian beneath.
//
// What a program needs is in its dynamic section (DT_NEEDED, PT_INTERP; System V ABI); libraries are looked for by name in the packages given.
package program

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Part is a file of the image.
type Part struct {
	Path    string // without a leading slash
	Content []byte
}

// Wanted reports whether a package's file may be part of a program: programs, libraries and licences.
func Wanted(file string) bool {
	dir := path.Dir(file)
	switch {
	case strings.HasPrefix(file, "usr/share/doc/"):
		return path.Base(file) == "copyright"
	case dir == "sbin" || dir == "usr/sbin" || dir == "etc":
		return true
	}
	return strings.Contains(path.Base(file), ".so") && strings.Contains("/"+dir, "/lib")
}

// Close returns the named programs, each with the libraries and the interpreter that they need, sorted by path. The files are those of all packages, by path.
func Close(files map[string][]byte, programs []string) ([]Part, error) {
	// Several paths may have one library: the shortest is the one that is asked for.
	libraries := map[string]string{}
	for _, p := range slices.SortedFunc(maps.Keys(files), func(a, b string) int { return len(a) - len(b) }) {
		if name := path.Base(p); libraries[name] == "" && strings.Contains(name, ".so") {
			libraries[name] = p
		}
	}
	parts := map[string][]byte{}
	loader := "" // the programs' interpreter, which libraries name as a library
	var add func(name string) error
	add = func(name string) error {
		if parts[name] != nil {
			return nil
		}
		content, ok := files[name]
		if !ok {
			return fmt.Errorf("no package has %s", name)
		}
		parts[name] = content
		needs, interpreter, err := needed(content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if interpreter != "" {
			// It must lie where the program says, wherever the package has it.
			loader = path.Base(interpreter)
			if parts[interpreter] = files[libraries[loader]]; parts[interpreter] == nil {
				return fmt.Errorf("%s needs /%s, which no package has", name, interpreter)
			}
		}
		for _, l := range needs {
			if l == loader {
				continue
			}
			if libraries[l] == "" {
				return fmt.Errorf("%s needs %s, which no package has", name, l)
			}
			if err := add(libraries[l]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range programs {
		if err := add(p); err != nil {
			return nil, err
		}
	}
	var out []Part
	for _, p := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, Part{p, parts[p]})
	}
	return out, nil
}

// needed returns the libraries that an ELF file names, and its interpreter without a leading slash.
func needed(content []byte) (libraries []string, interpreter string, err error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, "", err
			}
			interpreter = strings.TrimPrefix(strings.TrimRight(string(b), "\x00"), "/")
		}
	}
	libraries, err = f.ImportedLibraries()
	return libraries, interpreter, err
}
