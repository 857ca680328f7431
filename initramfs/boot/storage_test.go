package boot

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"galvo/ci/need"
)

// A power cut between the two sectors of a superblock leaves its checksum wrong: e2fsck does not open such a file system when it is to do only what is safe.
func TestTornSuperblock(t *testing.T) {
	need.Tool(t, "mkfs.ext4")
	m := newMachine(Options{Console: io.Discard})
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := m.format(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1, 2, 3, 4}, superOffset+0x3fc); err != nil {
		t.Fatal(err)
	}
	if err := m.repair(path); err != nil {
		t.Error(err)
	}
	if kind, err := fileSystem(path); kind != ext4 || err != nil {
		t.Errorf("then it holds %d, %v", kind, err)
	}
	if code, err := m.program("/sbin/e2fsck", "-n", path); err != nil {
		t.Errorf("e2fsck -n ends with %d: %v", code, err)
	}
}
