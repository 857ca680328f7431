package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"galvo/firmware/gpt"
)

// A Disk is one of this machine on which Galvo is.
type Disk struct {
	Name       string // as sda or nvme0n1
	Path       string // as /dev/sda
	Bytes      int64
	Partitions []string // paths of the partitions' devices, in order of their numbers; a hole is empty
	Table      *gpt.Table
}

// Find returns the disks of this machine that begin with a system partition of Galvo, sorted by name. Sys and dev are /sys and /dev.
func Find(sys, dev string) ([]Disk, error) {
	names, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var out []Disk
	for _, n := range names {
		if skip(n.Name()) {
			continue
		}
		d, err := look(sys, dev, n.Name())
		if err == nil && len(d.Table.Partitions) > 0 && d.Table.Partitions[0].Name == SystemName && d.Table.Partitions[0].Type == gpt.SystemType() {
			out = append(out, *d)
		}
	}
	return out, nil
}

// skip reports whether a block device is none that could be booted from.
func skip(name string) bool {
	return slices.ContainsFunc([]string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

func look(sys, dev, name string) (*Disk, error) {
	text, err := os.ReadFile(filepath.Join(sys, "block", name, "size"))
	if err != nil {
		return nil, err
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return nil, err
	}
	d := &Disk{Name: name, Path: filepath.Join(dev, name), Bytes: sectors * 512}
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if d.Table, _, err = gpt.Read(f, d.Bytes); err != nil {
		return nil, err
	}
	d.Partitions = make([]string, len(d.Table.Partitions))
	for i := range d.Partitions {
		if p := PartitionPath(d.Path, i+1); exists(p) {
			d.Partitions[i] = p
		}
	}
	return d, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// PartitionPath returns the path of a partition's device: a digit at the end of the disk's name is kept apart by a p.
func PartitionPath(disk string, n int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", disk, n)
	}
	return fmt.Sprintf("%s%d", disk, n)
}

// Reread makes the kernel read the partition table of an open disk again. No partition of it may be in use.
func Reread(f *os.File) error {
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("read the partition table of %s again: %w", f.Name(), err)
	}
	return nil
}
