package disk

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"galvo/firmware/fat"
	"galvo/firmware/gpt"
)

const (
	systemBytes = 256 << 20
	diskBytes   = 512 << 20
)

// A cutDisk is a file that loses its power after some operations.
type cutDisk struct {
	*os.File
	left int // negative is never
}

var errCut = errors.New("power cut")

func (c *cutDisk) WriteAt(p []byte, off int64) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	c.left--
	return c.File.WriteAt(p, off)
}

func (c *cutDisk) Sync() error {
	if c.left == 0 {
		return errCut
	}
	c.left--
	return nil
}

// flashed returns a disk onto which an image was written.
func flashed(t *testing.T, size int64) *cutDisk {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	d := &cutDisk{f, -1}
	if _, err := Image(d, "test", systemBytes, []File{{"EFI/Linux/a.efi", bytes.Repeat([]byte("image"), 1000)}}); err != nil {
		t.Fatal(err)
	}
	return d
}

// The first boot may be cut off at each of its operations: the next one completes the disk, and what was there is there.
func TestAdoptIsCutOff(t *testing.T) {
	operations := 0
	for n := 0; ; n++ {
		d := flashed(t, diskBytes)
		d.left = n
		_, _, err := Adopt(d, diskBytes, systemBytes)
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("cut after %d: %v", n, err)
		}
		done := err == nil
		d.left = -1
		table, _, err := Adopt(d, diskBytes, systemBytes)
		if err != nil {
			t.Fatalf("cut after %d: %v", n, err)
		}
		complete(t, d, table, n)
		if done {
			break
		}
		operations++
	}
	if operations < 10 {
		t.Errorf("only %d operations", operations)
	}
}

func complete(t *testing.T, d *cutDisk, table *gpt.Table, n int) {
	t.Helper()
	if len(table.Partitions) != 2 || table.Partitions[0].Bytes() != systemBytes || table.Partitions[1].Name != DataName || table.Partitions[1].Bytes() < 200<<20 {
		t.Fatalf("cut after %d: %+v", n, table.Partitions)
	}
	if table.ID == gpt.NamedGUID("test") {
		t.Errorf("cut after %d: the disk has the image's identifier", n)
	}
	if _, whole, err := gpt.Read(d, diskBytes); err != nil || !whole {
		t.Fatalf("cut after %d: whole %v, %v", n, whole, err)
	}
	v, err := fat.Open(Section(d, table.Partitions[0]))
	if err != nil {
		t.Fatalf("cut after %d: %v", n, err)
	}
	if free, err := v.Free(); err != nil || free < 240<<20 {
		t.Errorf("cut after %d: %d bytes are free, %v", n, free, err)
	}
	r, err := v.Open("EFI/Linux/a.efi")
	if err != nil {
		t.Fatalf("cut after %d: %v", n, err)
	}
	if content, err := io.ReadAll(r); err != nil || !bytes.Equal(content, bytes.Repeat([]byte("image"), 1000)) {
		t.Errorf("cut after %d: the image changed, %v", n, err)
	}
}

func TestAdoptSmallDisks(t *testing.T) {
	for _, c := range []struct {
		size       int64
		partitions int
		system     int64 // at least
	}{
		{100 << 20, 1, 60 << 20},  // no room for data
		{180 << 20, 2, 60 << 20},  // room for data, but not for a larger system partition
		{400 << 20, 2, 256 << 20}, // room for both
	} {
		d := flashed(t, c.size)
		table, _, err := Adopt(d, c.size, systemBytes)
		if err != nil || len(table.Partitions) != c.partitions || table.Partitions[0].Bytes() < c.system {
			t.Errorf("%d MiB: %+v, %v", c.size>>20, table, err)
		}
	}
	d := &cutDisk{flashed(t, diskBytes).File, -1}
	if err := gpt.Write(d, diskBytes, &gpt.Table{Partitions: []gpt.Partition{{Type: gpt.LinuxType(), Name: "another", First: 2048, Last: 4095}}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(d, diskBytes, systemBytes); err == nil || !strings.Contains(err.Error(), "is not galvo-system") {
		t.Errorf("the disk of another system: %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	sys, dev := filepath.Join(dir, "sys"), filepath.Join(dir, "dev")
	make := func(name, size string, content []byte) {
		for path, text := range map[string][]byte{filepath.Join(sys, "block", name, "size"): []byte(size + "\n"), filepath.Join(dev, name): content} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := flashed(t, diskBytes)
	image, err := io.ReadAll(io.NewSectionReader(d, 0, 100<<20))
	if err != nil {
		t.Fatal(err)
	}
	make("nvme0n1", "204800", image)
	make("sda", "2048", bytes.Repeat([]byte{1}, 1<<20))
	make("loop0", "204800", image)
	make("sdb", "0", nil)
	if err := os.WriteFile(filepath.Join(dev, "nvme0n1p1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	disks, err := Find(sys, dev)
	if err != nil || len(disks) != 1 || disks[0].Name != "nvme0n1" || disks[0].Bytes != 100<<20 || disks[0].Partitions[0] != filepath.Join(dev, "nvme0n1p1") {
		t.Errorf("%+v, %v", disks, err)
	}
	if PartitionPath("/dev/sda", 2) != "/dev/sda2" || PartitionPath("/dev/mmcblk0", 2) != "/dev/mmcblk0p2" {
		t.Error("paths of partitions")
	}
}
