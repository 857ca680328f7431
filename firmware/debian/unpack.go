package debian

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"galvo/firmware/lock"
)

// Unpack returns a folder with the package's regular files that want names, which is in the cache and made once: want must not change while
// its name stays. A folder that a crash left half is not found again.
func (s *Source) Unpack(deb string, p lock.Package, name string, want func(path string) bool) (string, error) {
	dir := filepath.Join(s.Cache, "unpacked", p.SHA256+"-"+name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	err = Files(deb, func(h *tar.Header, content io.Reader) error {
		if h.Typeflag != tar.TypeReg || !want(h.Name) {
			return nil
		}
		return writeFile(filepath.Join(part, h.Name), content)
	})
	if err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("unpack %s: %w", p.Name, err)
	}
	return dir, nil
}

func writeFile(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
