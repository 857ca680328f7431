// Package image writes an initramfs: a cpio archive of the kernel's newc format (Documentation/driver-api/early-userspace/buffer-format.rst), compressed
// with zstd. The same files give the same bytes.
package image

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// A File is one file of the archive; folders come by themselves.
type File struct {
	Path    string // without a leading slash
	Mode    uint64 // permissions, as 0o755; 0 is 0o644
	Content []byte
	Link    string // what a symbolic link points to; empty for other files
}

// folders are there besides those that files need: what init mounts over, and what programs expect.
var folders = []string{"bin", "dev", "etc", "lib", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var", "var/lib"}

// devices are there before devtmpfs is: without /dev/console the kernel starts init without a standard error.
func devices() []cpio.Record {
	return []cpio.Record{cpio.CharDev("dev/console", 0o600, 5, 1), cpio.CharDev("dev/null", 0o666, 1, 3), cpio.CharDev("dev/kmsg", 0o600, 1, 11)}
}

// Write writes the archive. Every path is there once.
func Write(w io.Writer, files []File) error {
	records := devices()
	seen := map[string]bool{}
	for _, f := range files {
		name := strings.Trim(path.Clean("/"+f.Path), "/")
		if name == "" || seen[name] {
			return fmt.Errorf("initramfs: %q is there twice, or is no file", f.Path)
		}
		seen[name] = true
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if f.Link != "" {
			records = append(records, cpio.Symlink(name, f.Link))
		} else {
			records = append(records, cpio.StaticFile(name, string(f.Content), mode))
		}
	}
	for _, name := range parents(records) {
		if seen[name] {
			return fmt.Errorf("initramfs: %q is a file and a folder", name)
		}
		records = append(records, cpio.Directory(name, 0o755))
	}
	// A folder sorts before what is in it, as the kernel needs it.
	slices.SortFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	out := cpio.Newc.Writer(w)
	for i, r := range records {
		r = cpio.MakeReproducible(r)
		r.Ino = uint64(i + 1)
		if err := out.WriteRecord(r); err != nil {
			return fmt.Errorf("initramfs: %s: %w", r.Name, err)
		}
	}
	return cpio.WriteTrailer(out)
}

// parents returns the folders that the records and folders need, sorted.
func parents(records []cpio.Record) []string {
	need := map[string]bool{}
	add := func(name string) {
		for ; name != "." && name != "/"; name = path.Dir(name) {
			need[name] = true
		}
	}
	for _, name := range folders {
		add(name)
	}
	for _, r := range records {
		add(path.Dir(r.Name))
	}
	var out []string
	for name := range need {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Compressed returns the archive, compressed so that the kernel can read it: with a window of at most 8 MiB and a check sum.
func Compressed(files []File) (archive []byte, plainBytes int64, err error) {
	var plain bytes.Buffer
	if err := Write(&plain, files); err != nil {
		return nil, 0, err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, 0, err
	}
	defer z.Close()
	return z.EncodeAll(plain.Bytes(), nil), int64(plain.Len()), nil
}
