package image

import (
	"bytes"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

func some() []File {
	return []File{{Path: "bin/galvo", Mode: 0o755, Content: []byte("program")}, {Path: "init", Link: "bin/galvo"}, {Path: "lib/modules/6.12/modules.dep", Content: []byte("none")}}
}

func TestWrite(t *testing.T) {
	archive, plain, err := Compressed(some())
	if err != nil {
		t.Fatal(err)
	}
	reversed := some()
	reversed[0], reversed[2] = reversed[2], reversed[0]
	if again, _, err := Compressed(reversed); err != nil || !bytes.Equal(again, archive) {
		t.Errorf("another order of the files gives other bytes, %v", err)
	}
	z, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	if err != nil || int64(len(text)) != plain {
		t.Fatalf("%d bytes, want %d, %v", len(text), plain, err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]cpio.Record{}
	for _, r := range records {
		if dir := path.Dir(r.Name); dir != "." && seen[dir].Mode&cpio.S_IFMT != cpio.S_IFDIR {
			t.Errorf("%s comes before its folder", r.Name)
		}
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s is not reproducible: %+v", r.Name, r.Info)
		}
		seen[r.Name] = r
	}
	for name, mode := range map[string]uint64{"bin/galvo": cpio.S_IFREG | 0o755, "init": cpio.S_IFLNK | 0o777, "lib/modules/6.12/modules.dep": cpio.S_IFREG | 0o644, "lib/modules/6.12": cpio.S_IFDIR | 0o755,
		"dev/console": cpio.S_IFCHR | 0o600, "proc": cpio.S_IFDIR | 0o755} {
		if r, ok := seen[name]; !ok || r.Mode != mode {
			t.Errorf("%s: mode %o, want %o", name, r.Mode, mode)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, files := range map[string][]File{
		"twice":             {{Path: "a"}, {Path: "/a"}},
		"file and folder":   {{Path: "bin"}},
		"above the archive": {{Path: "../"}},
	} {
		if err := Write(io.Discard, files); err == nil || !strings.Contains(err.Error(), "initramfs:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
