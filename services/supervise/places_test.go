package supervise

import (
	"os"
	"path/filepath"
	"testing"
)

// A run that begins while others end has its runtime directory, although they remove the one above it.
func TestMakeShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "galvo", "run")
	ends := 3
	err := makeShared(path, func(path string, mode os.FileMode) error {
		if ends--; ends < 0 {
			return os.MkdirAll(path, mode)
		}
		return os.Mkdir(path, mode) // the directory above has just gone
	})
	if info, statErr := os.Stat(path); err != nil || statErr != nil || !info.IsDir() {
		t.Errorf("%v, %v", err, statErr)
	}
	if err := makeShared("/dev/null/run", os.MkdirAll); err == nil {
		t.Error("a directory in a file was made")
	}
}
