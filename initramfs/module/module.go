// Package module loads kernel modules: by name, by alias as the kernel asks for them, and for every device that is there (coldplug).
//
// It reads the indexes that depmod(8) describes below /lib/modules/RELEASE: modules.dep, modules.alias, modules.softdep, modules.builtin and
// modules.order. modules.dep lists the whole closure of a module, so that nothing is followed. Modules lie there uncompressed. The package keeps no process of its own
// and watches nothing; Events tells what the kernel says of new devices.
package module

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// An Index knows the modules of one kernel.
type Index struct {
	dir     string
	order   []string            // names, as modules.dep has them
	modules map[string]entry    // by name, with underscores
	soft    map[string]softdeps // by name
	aliases map[string][]alias  // by what stands before the first wildcard or colon
	builtin map[string]bool

	insert func(path string) error // loads one file; for tests

	mu     sync.Mutex
	loaded map[string]bool
}

// An entry is one line of modules.dep.
type entry struct {
	path string   // relative to the index's folder
	deps []string // paths, the one that is needed first last
}

type softdeps struct{ before, after []string }

// An alias is a pattern and the module that it stands for.
type alias struct{ pattern, module string }

// Open reads the indexes in dir. Only modules.dep must be there.
func Open(dir string) (*Index, error) {
	x := &Index{
		dir: dir, modules: map[string]entry{}, soft: map[string]softdeps{}, aliases: map[string][]alias{}, builtin: map[string]bool{},
		loaded: map[string]bool{}, insert: insert,
	}
	files := []struct {
		name string
		line func(string)
	}{
		{"modules.dep", x.addDep}, {"modules.alias", x.addAlias}, {"modules.softdep", x.addSoftdep}, {"modules.builtin", x.addBuiltin},
	}
	for i, f := range files {
		err := eachLine(filepath.Join(dir, f.name), f.line)
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("read the index of kernel modules: %w", err)
		}
	}
	return x, nil
}

// Here opens the index of the running kernel.
func Here() (*Index, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return Open(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:])))
}

func eachLine(path string, f func(string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if line := in.Text(); line != "" && line[0] != '#' {
			f(line)
		}
	}
	return in.Err()
}

// nameOf returns the name of a module from its path or another spelling: the kernel takes - and _ for the same.
func nameOf(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (x *Index) addDep(line string) {
	path, deps, ok := strings.Cut(line, ":")
	if !ok {
		return
	}
	name := nameOf(path)
	x.order = append(x.order, name)
	x.modules[name] = entry{path, strings.Fields(deps)}
}

func (x *Index) addAlias(line string) {
	f := strings.Fields(line)
	if len(f) == 3 && f[0] == "alias" {
		key := aliasKey(f[1])
		x.aliases[key] = append(x.aliases[key], alias{f[1], nameOf(f[2])})
	}
}

// aliasKey is the part of a pattern that every alias which it matches begins with: the bus, as in pci:, or all of it up to a wildcard.
func aliasKey(s string) string {
	if i := strings.IndexAny(s, ":*?["); i >= 0 {
		return s[:i]
	}
	return s
}

func (x *Index) addSoftdep(line string) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "softdep" {
		return
	}
	name := nameOf(f[1])
	s, list := x.soft[name], &[]string{}
	for _, word := range f[2:] {
		switch word {
		case "pre:":
			list = &s.before
		case "post:":
			list = &s.after
		default:
			*list = append(*list, word)
		}
	}
	x.soft[name] = s
}

func (x *Index) addBuiltin(line string) { x.builtin[nameOf(line)] = true }

// resolve returns the modules that a name or an alias stands for.
func (x *Index) resolve(name string) []string {
	if n := nameOf(name); x.builtin[n] {
		return nil
	} else if _, ok := x.modules[n]; ok {
		return []string{n}
	}
	var found []string
	for key := aliasKey(name); ; {
		for _, a := range x.aliases[key] {
			if match(a.pattern, name) {
				found = append(found, a.module)
			}
		}
		// A pattern with a wildcard before the first colon has a shorter key.
		if key == "" {
			return found
		}
		key = key[:len(key)-1]
	}
}

// ErrUnknown is what Load returns for a name that no module and no alias has.
var ErrUnknown = errors.New("there is no such kernel module")

// Load loads the modules that names or aliases stand for, with what they need and what their authors want before and after them. A module that
// is there already, or is part of the kernel, is no error.
func (x *Index) Load(names ...string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs error
	p := plan{index: x, jobs: map[string]*job{}}
	for _, name := range names {
		found := x.resolve(name)
		if len(found) == 0 && !x.builtin[nameOf(name)] {
			errs = errors.Join(errs, fmt.Errorf("load %s: %w", name, ErrUnknown))
		}
		p.want(found)
	}
	return errors.Join(append(p.run(), errs)...)
}

// LoadFor loads the drivers of devices by their aliases. A device without a driver is no error, and neither is a driver that finds nothing to drive (ENODEV):
// firmware names devices that a machine does not have.
func (x *Index) LoadFor(aliases ...string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := plan{index: x, jobs: map[string]*job{}}
	for _, a := range aliases {
		p.want(x.resolve(a))
	}
	return errors.Join(slices.DeleteFunc(p.run(), func(err error) bool { return errors.Is(err, unix.ENODEV) })...)
}

// insert gives a module to the kernel (finit_module(2)).
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// match reports whether an alias matches a pattern of modules.alias, in which * is any text, ? any character and [..] any of several.
func match(pattern, s string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			pattern = strings.TrimLeft(pattern, "*")
			if pattern == "" {
				return true
			}
			for i := 0; i <= len(s); i++ {
				if match(pattern, s[i:]) {
					return true
				}
			}
			return false
		case '?':
			if s == "" {
				return false
			}
			pattern, s = pattern[1:], s[1:]
		case '[':
			set, rest, ok := strings.Cut(pattern[1:], "]")
			if !ok || s == "" || !inSet(set, s[0]) {
				return false
			}
			pattern, s = rest, s[1:]
		default:
			if s == "" || s[0] != pattern[0] {
				return false
			}
			pattern, s = pattern[1:], s[1:]
		}
	}
	return s == ""
}

func inSet(set string, c byte) bool {
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= c && c <= set[i+2] {
				return true
			}
			i += 2
			continue
		}
		if set[i] == c {
			return true
		}
	}
	return false
}
