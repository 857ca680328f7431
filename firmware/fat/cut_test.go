package fat

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// memory is a device that loses its power after some writes: of those since the last Sync it keeps any.
type memory struct {
	b       []byte
	over    map[int64][]byte // what reads find instead, for the fuzzer
	left    int              // operations until the power cut; negative is never
	pending []pending
	rnd     *rand.Rand
}

type pending struct {
	at  int64
	old []byte
}

var errCut = errors.New("power cut")

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	for at, b := range m.over {
		if at < off+int64(n) && at+int64(len(b)) > off {
			from := max(at, off)
			copy(p[from-off:n], b[from-at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.over != nil {
		return 0, errors.New("read only")
	}
	if m.left == 0 {
		return 0, errCut
	}
	m.left--
	if m.rnd != nil {
		for i := 0; i < len(p); i += sectorSize {
			at := off + int64(i)
			m.pending = append(m.pending, pending{at, slices.Clone(m.b[at : at+int64(min(sectorSize, len(p)-i))])})
		}
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Sync() error {
	if m.left == 0 {
		return errCut
	}
	m.left--
	m.pending = nil
	return nil
}

// cut takes back any of the sectors that were written since the last Sync.
func (m *memory) cut() {
	for _, p := range slices.Backward(m.pending) {
		if m.rnd.IntN(2) == 0 {
			copy(m.b[p.at:], p.old)
		}
	}
	m.pending, m.left = nil, -1
}

// At whatever operation the power is cut, other files are whole, and the changed one is the old or the new one. And it can go on from there.
func TestPowerCut(t *testing.T) {
	kept, before, after := random(30000), random(5000), random(70000)
	base := &memory{b: make([]byte, testBytes), left: -1}
	if err := Format(base, options()); err != nil {
		t.Fatal(err)
	}
	v, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.MakeFolder("EFI/Linux"); err != nil {
		t.Fatal(err)
	}
	write(t, v, "EFI/Linux/galvo-0001-1.0.efi", kept)
	write(t, v, "EFI/Linux/galvo-0002-1.1+2-1.efi", before)
	for i := range 6 { // so that the next name does not fit into the sector, or the cluster
		write(t, v, "EFI/Linux/filler with a long name "+string(rune('a'+i)), nil)
	}
	changes := map[string]struct {
		do    func(v *Volume) error
		names []string // one of these is there
		want  [][]byte // its content is one of these
	}{
		"new": {func(v *Volume) error {
			return v.WriteFile("EFI/Linux/galvo-0003-1.2+3-0.efi", int64(len(after)), bytes.NewReader(after))
		},
			[]string{"galvo-0003-1.2+3-0.efi", ""}, [][]byte{after}},
		"replace": {func(v *Volume) error {
			return v.WriteFile("EFI/Linux/galvo-0002-1.1+2-1.efi", int64(len(after)), bytes.NewReader(after))
		},
			[]string{"galvo-0002-1.1+2-1.efi"}, [][]byte{before, after}},
		"rename": {func(v *Volume) error { return v.Rename("EFI/Linux/galvo-0002-1.1+2-1.efi", "galvo-0002-1.1.efi") },
			[]string{"galvo-0002-1.1+2-1.efi", "galvo-0002-1.1.efi"}, [][]byte{before}},
		"rename to a longer name": {func(v *Volume) error {
			return v.Rename("EFI/Linux/galvo-0002-1.1+2-1.efi", "galvo-0002-1.1 with a longer name than before.efi")
		},
			[]string{"galvo-0002-1.1+2-1.efi", "galvo-0002-1.1 with a longer name than before.efi"}, [][]byte{before}},
		"remove": {func(v *Volume) error { return v.Remove("EFI/Linux/galvo-0002-1.1+2-1.efi") },
			[]string{"galvo-0002-1.1+2-1.efi", ""}, [][]byte{before}},
		"folder": {func(v *Volume) error { return v.MakeFolder("EFI/Linux/new/er") }, []string{"galvo-0002-1.1+2-1.efi"}, [][]byte{before}},
	}
	work := make([]byte, testBytes)
	for name, c := range changes {
		for n := 0; ; n++ {
			copy(work, base.b)
			m := &memory{b: work, left: n, rnd: rand.New(rand.NewPCG(uint64(n), 1))}
			v, err := Open(m)
			if err != nil {
				t.Fatal(err)
			}
			err = c.do(v)
			if err != nil && !errors.Is(err, errCut) {
				t.Fatalf("%s, cut after %d: %v", name, n, err)
			}
			m.cut()
			check(t, m, name, n, kept, c.names, c.want)
			if err == nil {
				if n < 2 {
					t.Errorf("%s: only %d operations", name, n)
				}
				break
			}
		}
	}
}

func check(t *testing.T, m *memory, name string, n int, kept []byte, names []string, want [][]byte) {
	t.Helper()
	v, err := Open(m)
	if err != nil {
		t.Fatalf("%s, cut after %d: %v", name, n, err)
	}
	all, err := v.List("EFI/Linux")
	if err != nil {
		t.Fatalf("%s, cut after %d: %v", name, n, err)
	}
	found := slices.Contains(names, "")
	for _, e := range all {
		if !slices.Contains(names, e.Name) {
			continue
		}
		found = true
		got := read(t, v, "EFI/Linux/"+e.Name)
		if !slices.ContainsFunc(want, func(b []byte) bool { return bytes.Equal(b, got) }) {
			t.Errorf("%s, cut after %d: %s has %d bytes that are neither old nor new", name, n, e.Name, len(got))
		}
	}
	if !found {
		t.Errorf("%s, cut after %d: none of %q is there", name, n, names)
	}
	// A later change must not touch what is there now.
	was := map[string][]byte{}
	for _, e := range all {
		if !e.Folder {
			was[e.Name] = read(t, v, "EFI/Linux/"+e.Name)
		}
	}
	write(t, v, "EFI/Linux/later.efi", random(90000))
	if v, err = Open(m); err != nil {
		t.Fatal(err)
	}
	for file, content := range was {
		if !bytes.Equal(read(t, v, "EFI/Linux/"+file), content) {
			t.Errorf("%s, cut after %d: a later change touched %s", name, n, file)
		}
	}
	if !bytes.Equal(read(t, v, "EFI/Linux/galvo-0001-1.0.efi"), kept) {
		t.Errorf("%s, cut after %d: another file changed", name, n)
	}
}
