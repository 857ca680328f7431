package boot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
)

// A generator stands for the kernel's.
type generator struct {
	ready  bool
	fail   error
	got    []byte
	credit bool
}

func (g *generator) seed(path string) seed {
	return seed{path, func(b []byte, credit bool) error { g.got, g.credit = bytes.Clone(b), credit; return g.fail },
		func(b []byte) (bool, error) { b[0]++; return g.ready, nil }}
}

func marked(path string) bool {
	n, err := unix.Getxattr(path, seedMark, make([]byte, 1))
	return err == nil && n == 1
}

// A seed counts once, and only if it came from a generator that was ready.
func TestSeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "random-seed")
	os.WriteFile(path+".x", nil, 0o600)
	if err := unix.Setxattr(path+".x", seedMark, []byte("1"), 0); err != nil {
		need.Missing(t, "xattr", fmt.Sprintf("no attributes in %s: %v", filepath.Dir(path), err))
	}
	early := &generator{}
	if credited, err := early.seed(path).stirIn(); credited || err != nil || early.got != nil || marked(path) {
		t.Fatalf("first start: credited %t, %v, kernel got %x, marked %t", credited, err, early.got, marked(path))
	}
	first, _ := os.ReadFile(path)
	if len(first) != seedBytes {
		t.Fatalf("a seed of %d bytes", len(first))
	}
	// The end of that run, when the generator was ready.
	late := &generator{ready: true}
	if err := late.seed(path).save(); err != nil || !marked(path) {
		t.Fatalf("save: %v, marked %t", err, marked(path))
	}
	second, _ := os.ReadFile(path)
	if bytes.Equal(first, second) {
		t.Error("the seed is the same")
	}
	// The next start: it counts, and what is there afterwards, in case the power is cut, does not, since the generator was not ready.
	next := &generator{}
	if credited, err := next.seed(path).stirIn(); !credited || err != nil || !next.credit || !bytes.Equal(next.got, second) || marked(path) {
		t.Errorf("second start: credited %t, %v, marked %t", credited, err, marked(path))
	}
	if credited, err := next.seed(path).stirIn(); credited || err != nil || next.credit || next.got == nil {
		t.Errorf("after a power cut: credited %t, %v", credited, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// The mark is gone even when the kernel does not take the seed, and a short file never counts.
	late.seed(path).save()
	broken := &generator{fail: errors.New("no")}
	if credited, err := broken.seed(path).stirIn(); credited || err == nil || marked(path) {
		t.Errorf("a kernel that refuses: credited %t, %v, marked %t", credited, err, marked(path))
	}
	os.WriteFile(path, []byte("short"), 0o600)
	unix.Setxattr(path, seedMark, []byte("1"), 0)
	if credited, err := next.seed(path).stirIn(); credited || err != nil {
		t.Errorf("a short seed: credited %t, %v", credited, err)
	}
}
