package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	for path, limit := range map[string]string{"a": "4000\n", "a/b": "max\n", "a/c": "3000\n", "d": "nonsense", "galvo": "8000\n", "galvo/host": "2000\n"} {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(limit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for own, want := range map[string]uint64{
		"0::/a/b\n": 4000, "0::/a/c\n": 3000, "0::/\n": 9000, "0::/d\n": 9000, "5:memory:/a\n0::/gone\n": 9000, "": 9000, "0::/galvo/host\n": 8000,
	} {
		if got := groupLimit(root, own, 9000); got != want {
			t.Errorf("%q: %d, want %d", own, got, want)
		}
	}
}
