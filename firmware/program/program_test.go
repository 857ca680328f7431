package program

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
)

// system returns this machine's mke2fs or, where there is none, another dynamic program, with the libraries beside it, as packages would have them.
func system(t *testing.T) (files map[string][]byte, name string) {
	t.Helper()
	files = map[string][]byte{}
	for _, candidate := range []string{"usr/sbin/mke2fs", "sbin/mke2fs", "usr/bin/env", "bin/sh"} {
		content, err := os.ReadFile("/" + candidate)
		if err == nil && dynamic(content) {
			files[candidate], name = content, candidate
			break
		}
	}
	if name == "" {
		need.Missing(t, "libc", "this machine has no dynamic program to look at")
	}
	patterns := []string{"/lib64/ld-*.so*", "/lib/ld-*.so*"}
	for _, library := range []string{"ld-linux-*", "libc", "libext2fs", "libcom_err", "libblkid", "libuuid", "libe2p"} {
		patterns = append(patterns, "/lib/*-linux-gnu/"+library+".so*")
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if content, err := os.ReadFile(path); err == nil {
				files[strings.TrimPrefix(path, "/")] = content
			}
		}
	}
	return files, name
}

func dynamic(content []byte) bool {
	_, interpreter, err := needed(content)
	return err == nil && interpreter != ""
}

func TestClose(t *testing.T) {
	files, name := system(t)
	parts, err := Close(files, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, p := range parts {
		paths = append(paths, filepath.Base(p.Path))
	}
	_, interpreter, err := needed(files[name])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{filepath.Base(name), "libc.so.6", filepath.Base(interpreter)} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s is not among %q", want, paths)
		}
	}
	// Nothing that is not needed, and each library once.
	slices.Sort(paths)
	if n := len(slices.Compact(slices.Clone(paths))); n != len(paths) || n > 20 {
		t.Errorf("files: %q", paths)
	}
}

func TestCloseRefuses(t *testing.T) {
	files, name := system(t)
	if _, err := Close(files, []string{"sbin/nothing"}); err == nil || !strings.Contains(err.Error(), "no package has sbin/nothing") {
		t.Errorf("%v", err)
	}
	for path := range files {
		if filepath.Base(path) == "libc.so.6" {
			delete(files, path)
		}
	}
	if _, err := Close(files, []string{name}); err == nil || !strings.Contains(err.Error(), "libc.so.6, which no package has") {
		t.Errorf("%v", err)
	}
	if _, err := Close(map[string][]byte{"sbin/x": []byte(elf.ELFMAG)}, []string{"sbin/x"}); err == nil {
		t.Error("took a file that is no program")
	}
}
