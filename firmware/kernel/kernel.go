// Package kernel knows a Debian kernel package as it is unpacked: it finds the kernel, works out which modules a list of modules needs, and makes the tables
// that modprobe reads (modules.dep, modules.alias, modules.softdep), which the package itself has not: depmod makes them when it is installed.
//
// What a module depends on comes from its section .modinfo (include/linux/module.h). Modules are kept decompressed: the image is compressed as a whole.
package kernel

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Wanted reports whether a file of the package is of use. Sound, pictures and the like are half of the package, and no board asks for them.
func Wanted(file string) bool {
	if strings.HasPrefix(file, "boot/vmlinuz-") || strings.HasPrefix(file, "usr/share/doc/") && path.Base(file) == "copyright" {
		return true
	}
	_, rest, ok := strings.Cut(strings.TrimPrefix(file, "usr/"), "lib/modules/")
	if !ok {
		return false
	}
	_, rest, _ = strings.Cut(rest, "/")
	for _, never := range []string{"kernel/sound/", "kernel/drivers/gpu/", "kernel/drivers/media/", "kernel/drivers/staging/", "kernel/drivers/iio/", "kernel/drivers/comedi/"} {
		if strings.HasPrefix(rest, never) {
			return false
		}
	}
	return true
}

// A Tree is an unpacked kernel package.
type Tree struct {
	Release string // as 6.12.95+deb12-amd64

	root    string
	files   map[string]string // module's name to the file, below the folder of modules
	builtin map[string]bool   // names of what is in the kernel itself
	info    map[string]*Module
	aliases map[string][]string // exact aliases that stand for modules, see provider
}

// A Module is a kernel module.
type Module struct {
	Name     string // with underscores, as lsmod shows it
	File     string // below /lib/modules/RELEASE, as kernel/fs/ext4/ext4.ko
	Content  []byte // ELF, decompressed
	Depends  []string
	Soft     []string // softdep values, as "pre: crc32c"
	Aliases  []string
	Firmware []string
	License  string
}

// Open reads what is in an unpacked package.
func Open(root string) (*Tree, error) {
	t := &Tree{root: root, files: map[string]string{}, builtin: map[string]bool{}, info: map[string]*Module{}}
	releases, err := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if err != nil || len(releases) != 1 {
		releases, err = filepath.Glob(filepath.Join(root, "usr/lib/modules/*"))
	}
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("%s is not an unpacked kernel package: it has no folder lib/modules/RELEASE", root)
	}
	t.Release = filepath.Base(releases[0])
	err = filepath.WalkDir(releases[0], func(file string, d os.DirEntry, err error) error {
		if name, ok := moduleName(file); ok && err == nil {
			rel, err := filepath.Rel(releases[0], file)
			t.files[name] = rel
			return err
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(releases[0], "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list what is in the kernel: %w", err)
	}
	for file := range strings.Lines(string(list)) {
		if name, ok := moduleName(strings.TrimSpace(file)); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// moduleName returns the name of the module in a file.
func moduleName(file string) (string, bool) {
	name, _, ok := strings.Cut(filepath.Base(file), ".ko")
	return canonical(name), ok
}

// canonical is the kernel's way of writing a module's name.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

func (t *Tree) dir() string {
	if dir := filepath.Join(t.root, "lib/modules", t.Release); exists(dir) {
		return dir
	}
	return filepath.Join(t.root, "usr/lib/modules", t.Release)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Kernel returns the kernel, an EFI program.
func (t *Tree) Kernel() ([]byte, error) {
	return os.ReadFile(filepath.Join(t.root, "boot/vmlinuz-"+t.Release))
}

// Builtin returns the file modules.builtin, so that modprobe knows what needs no loading.
func (t *Tree) Builtin() ([]byte, error) {
	return os.ReadFile(filepath.Join(t.dir(), "modules.builtin"))
}

// Copyright returns the package's licence text.
func (t *Tree) Copyright() ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(t.root, "usr/share/doc/*/copyright"))
	if err != nil || len(files) == 0 {
		return nil, errors.New("the kernel package has no copyright file")
	}
	return os.ReadFile(files[0])
}

// module reads a module by its name.
func (t *Tree) module(name string) (*Module, error) {
	if m, ok := t.info[name]; ok {
		return m, nil
	}
	file, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("the kernel %s has no module %s", t.Release, name)
	}
	content, err := t.content(file)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	m, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	m.Name = name
	m.File = file[:strings.LastIndex(file, ".ko")] + ".ko"
	t.info[name] = m
	return m, nil
}

// content returns a module's file, decompressed. It is kept beside the compressed one: decompressing takes most of the time of a build.
func (t *Tree) content(file string) ([]byte, error) {
	full := filepath.Join(t.dir(), file)
	plain := full[:strings.LastIndex(full, ".ko")] + ".ko"
	if plain == full {
		return os.ReadFile(full)
	}
	kept := plain + ".plain"
	if content, err := os.ReadFile(kept); err == nil {
		return content, nil
	}
	f, err := os.Open(full)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := expand(filepath.Ext(full), bufio.NewReader(f))
	if err != nil {
		return nil, err
	}
	part, err := os.CreateTemp(filepath.Dir(kept), ".part-*")
	if err != nil {
		return content, nil // a cache that cannot be written is only slow
	}
	defer os.Remove(part.Name())
	if _, err := part.Write(content); errors.Join(err, part.Close()) == nil {
		os.Rename(part.Name(), kept)
	}
	return content, nil
}

func expand(ext string, r io.Reader) ([]byte, error) {
	switch ext {
	case ".xz":
		x, err := xz.NewReader(r, 0)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(x)
	case ".zst":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	return nil, fmt.Errorf("compression %s is not known here", ext)
}

// parse reads .modinfo: strings of the form key=value, each ended by a zero byte.
func parse(content []byte) (*Module, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("it has no .modinfo")
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	m := &Module{Content: content}
	for field := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, canonical(d))
				}
			}
		case "softdep":
			m.Soft = append(m.Soft, value)
		case "alias":
			m.Aliases = append(m.Aliases, value)
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		case "license":
			m.License = value
		}
	}
	slices.Sort(m.Aliases)
	return m, nil
}
