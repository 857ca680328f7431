// Package disk makes the disk image that is flashed, and makes itself at home on the disk at the first boot.
//
//	sector 0      protective MBR, GPT
//	1 MiB         galvo-system: FAT32, the EFI system partition, with systemd-boot and the unified kernel images
//	behind it     galvo-data: made at the first boot by Adopt, up to the end of the disk
//
// The image is as small as its content; its FAT has room to grow, so that Adopt only has to write sizes.
package disk

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"

	"galvo/firmware/fat"
	"galvo/firmware/gpt"
)

// Names of the partitions.
const (
	SystemName = "galvo-system"
	DataName   = "galvo-data"
)

const (
	mib          = 1 << 20
	clusterBytes = 1024
	// minContent is what the clusters of the smallest FAT32 hold.
	minContent = 65536 * clusterBytes
	// minData is the smallest data partition that is worth to be made.
	minData = 64 * mib
)

// A File of the system partition.
type File struct {
	Path    string
	Content []byte
}

// Image writes the disk image and returns its size in bytes. The device must read as zeros. The name makes the identifiers of disk and partitions.
func Image(d fat.Device, name string, growBytes int64, files []File) (int64, error) {
	var content int64
	for _, f := range files {
		content += (int64(len(f.Content))+clusterBytes-1)/clusterBytes*clusterBytes + 2*clusterBytes
	}
	tables := 2 * max(growBytes, content) / clusterBytes * 4
	system := align(max(minContent, content)+tables+mib, mib)
	total := mib + system + mib // the last one for the backup of the GPT
	t := &gpt.Table{ID: gpt.NamedGUID(name), Partitions: []gpt.Partition{{
		Type: gpt.SystemType(), ID: gpt.NamedGUID(name + " system"), Name: SystemName, First: gpt.Align, Last: uint64(mib+system)/gpt.SectorSize - 1,
	}}}
	if err := gpt.Write(d, total, t); err != nil {
		return 0, err
	}
	s := Section(d, t.Partitions[0])
	id := gpt.NamedGUID(name + " volume")
	o := fat.Options{Bytes: system, GrowBytes: max(growBytes, system), ClusterBytes: clusterBytes, Label: "GALVO", ID: uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3])}
	if err := fat.Format(s, o); err != nil {
		return 0, err
	}
	v, err := fat.Open(s)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if err := v.MakeFolder(path.Dir(f.Path)); err != nil {
			return 0, err
		}
		if err := v.WriteFile(f.Path, int64(len(f.Content)), bytes.NewReader(f.Content)); err != nil {
			return 0, err
		}
	}
	return total, nil
}

func align(n, to int64) int64 { return (n + to - 1) / to * to }

// Section returns a partition of a disk as a device of its own.
func Section(d fat.Device, p gpt.Partition) fat.Device {
	return section{io.NewSectionReader(d, p.Offset(), p.Bytes()), d, p}
}

type section struct {
	*io.SectionReader
	d fat.Device
	p gpt.Partition
}

func (s section) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > s.p.Bytes() {
		return 0, errors.New("write beyond the end of the partition")
	}
	return s.d.WriteAt(b, s.p.Offset()+off)
}

func (s section) Sync() error { return s.d.Sync() }

// Adopt makes the disk's own what an image left open: identifiers, a system partition of up to systemBytes, a data partition over the rest, and the backup of
// the partition table at the disk's end. Changed says that the kernel must read the table again. It may be cut off at any moment and called again; on a disk
// that is complete it changes nothing.
//
// A disk with no room for a data partition gets none; the returned table says which partitions there are.
func Adopt(d fat.Device, size, systemBytes int64) (t *gpt.Table, changed bool, err error) {
	t, whole, err := gpt.Read(d, size)
	if err != nil {
		return nil, false, err
	}
	if len(t.Partitions) == 0 || t.Partitions[0].Name != SystemName || t.Partitions[0].Type != gpt.SystemType() {
		return nil, false, fmt.Errorf("the first partition of the disk is not %s", SystemName)
	}
	if len(t.Partitions) == 1 {
		if grown := addData(t, size, systemBytes); grown {
			whole = false
		}
	}
	if !whole {
		if err := gpt.Write(d, size, t); err != nil {
			return nil, false, err
		}
	}
	// After a cut the table may be the new one and the file system the old one.
	system := t.Partitions[0]
	if err := fat.Grow(Section(d, system), system.Bytes()); err != nil {
		return nil, false, fmt.Errorf("grow the system partition: %w", err)
	}
	return t, !whole, nil
}

// addData gives the disk identifiers, a larger system partition and a data partition, if there is room.
func addData(t *gpt.Table, size, systemBytes int64) bool {
	_, to := gpt.Usable(size)
	end := int64(to+1) * gpt.SectorSize / mib * mib
	system := &t.Partitions[0]
	after := align(system.Offset()+max(system.Bytes(), systemBytes), mib)
	if after+minData > end {
		after = align(system.Offset()+system.Bytes(), mib)
	}
	if after+minData > end {
		return false
	}
	t.ID, system.ID = randomGUID(), randomGUID()
	system.Last = uint64(after)/gpt.SectorSize - 1
	t.Partitions = append(t.Partitions, gpt.Partition{Type: gpt.LinuxType(), ID: randomGUID(), Name: DataName, First: uint64(after) / gpt.SectorSize, Last: uint64(end)/gpt.SectorSize - 1})
	return true
}

// randomGUID returns a GUID of version 4 (RFC 9562).
func randomGUID() gpt.GUID {
	var g gpt.GUID
	rand.Read(g[:])
	g[7] = g[7]&0x0f | 0x40 // as stored, the version is in this byte
	g[8] = g[8]&0x3f | 0x80
	return g
}
