package gpt

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"galvo/ci/need"
)

const size = 64 << 20

func table() *Table {
	return &Table{ID: NamedGUID("disk"), Partitions: []Partition{
		{Type: SystemType(), ID: NamedGUID("one"), Name: "galvo-system", First: 2048, Last: 40959}, {},
		{Type: LinuxType(), ID: NamedGUID("three"), Name: "données", First: 40960, Last: 100000, Attributes: 4},
	}}
}

type disk []byte

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(d)) {
		return 0, io.EOF
	}
	n := copy(p, d[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d disk) WriteAt(p []byte, off int64) (int, error) { return copy(d[off:], p), nil }
func (d disk) Sync() error                              { return nil }

func same(t *testing.T, got *Table, want *Table) {
	t.Helper()
	if got == nil || got.ID != want.ID || len(got.Partitions) != len(want.Partitions) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range got.Partitions {
		if got.Partitions[i] != want.Partitions[i] {
			t.Errorf("partition %d: %+v, want %+v", i+1, got.Partitions[i], want.Partitions[i])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	d := make(disk, size)
	if err := Write(d, size, table()); err != nil {
		t.Fatal(err)
	}
	got, whole, err := Read(d, size)
	if err != nil || !whole {
		t.Fatalf("whole %v, %v", whole, err)
	}
	same(t, got, table())
	// Whichever copy is damaged, the other is taken.
	for _, at := range []int{SectorSize + 60, 2*SectorSize + 5, size - SectorSize + 60, size - 33*SectorSize + 5} {
		damaged := bytes.Clone(d)
		damaged[at] ^= 1
		got, whole, err := Read(disk(damaged), size)
		if err != nil || whole {
			t.Errorf("damaged at %d: whole %v, %v", at, whole, err)
		}
		same(t, got, table())
	}
	// Behind an image on a larger disk there is no backup.
	if got, whole, err := Read(append(disk(bytes.Clone(d)), make(disk, size)...), 2*size); err != nil || whole {
		t.Errorf("on a larger disk: %+v, whole %v, %v", got, whole, err)
	}
}

func TestOthersReadIt(t *testing.T) {
	sgdisk := need.Tool(t, "sgdisk")
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, size, table()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sgdisk, "-v", "-p", "-i", "1", path).CombinedOutput()
	for _, want := range []string{"No problems found", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B (EFI system partition)", NamedGUID("one").String(), "'galvo-system'", "données"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("sgdisk does not say %q (%v):\n%s", want, err, out)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*Table)
		want   string
	}{
		{func(t *Table) { t.Partitions[2].First = 40000 }, "overlap"},
		{func(t *Table) { t.Partitions[2].Last = size / SectorSize }, "does not fit"},
		{func(t *Table) { t.Partitions[0].First = 10 }, "does not fit"},
		{func(t *Table) { t.Partitions[0].Last = 1000 }, "does not fit"},
		{func(t *Table) { t.Partitions = make([]Partition, 200) }, "too many"},
	} {
		x := table()
		c.change(x)
		d := make(disk, size)
		if err := Write(d, size, x); err == nil || !strings.Contains(err.Error(), c.want) || !bytes.Equal(d, make(disk, size)) {
			t.Errorf("%v, want %q and nothing written", err, c.want)
		}
	}
}

func TestGUID(t *testing.T) {
	const text = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	g, err := ParseGUID(text)
	if err != nil || g.String() != text || g[0] != 0x28 {
		t.Errorf("%v, %v", g, err)
	}
	if _, err := ParseGUID("C12A7328"); err == nil {
		t.Error("half a GUID was taken")
	}
}

func FuzzRead(f *testing.F) {
	d := make(disk, size)
	if err := Write(d, size, table()); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(d[:4*SectorSize]))
	f.Fuzz(func(t *testing.T, b []byte) {
		Read(disk(b), int64(len(b)))
	})
}
