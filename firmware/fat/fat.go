// Package fat makes and changes FAT32 file systems, for the system partition of an appliance (Microsoft, FAT32 File System Specification 1.03; UEFI 2.10,
// section 13.3).
//
// It works on a device and never through the kernel, for the sake of power cuts: a change is one write of one sector, so a file is there whole under its name
// or is not there. Data comes first, then the chain of clusters, then the directory entry, with a Sync after each; names that do not fit into the rest of a
// sector begin in the next one. What a cut leaves is clusters that no file reaches, which count as free: free is what no directory entry leads to. So two
// entries of one file, as a cut in a rename may leave, do no harm either.
//
// It assumes that a device writes a sector of 512 bytes whole or not at all, and that nobody else has the file system mounted. Names are ASCII.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Device holds a file system from its first byte on. Sync returns when everything that was written survives a power cut.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

const (
	sectorSize      = 512
	entrySize       = 32
	reservedSectors = 32
	fats            = 2
	infoSector      = 1
	backupSector    = 6
	rootCluster     = 2
	minClusters     = 65525 // with less it would be FAT16
	maxClusters     = 0x0ffffff5
	endOfChain      = 0x0fffffff
	clusterMask     = 0x0fffffff
	unknown         = 0xffffffff
)

// Options are what Format makes.
type Options struct {
	Bytes        int64  // size of the file system
	GrowBytes    int64  // size to which Grow can take it later; at least Bytes
	ClusterBytes int    // power of two, 512 to 32768
	Label        string // up to 11 capital letters
	ID           uint32 // serial number
}

// geometry is what the boot sector says.
type geometry struct {
	clusterSectors uint32
	reserved       uint32
	fatSectors     uint32 // of one copy
	totalSectors   uint32
	root           uint32
}

func (g geometry) dataStart() uint32 { return g.reserved + fats*g.fatSectors }

// clusters is how many there are; their numbers begin with 2.
func (g geometry) clusters() uint32 { return (g.totalSectors - g.dataStart()) / g.clusterSectors }

func (g geometry) clusterBytes() int { return int(g.clusterSectors) * sectorSize }

// offset returns where a cluster begins, in bytes.
func (g geometry) offset(cluster uint32) int64 {
	return (int64(g.dataStart()) + int64(cluster-2)*int64(g.clusterSectors)) * sectorSize
}

// Format makes an empty file system. The device must read as zeros where nothing was written.
func Format(d Device, o Options) error {
	grow := max(o.Bytes, o.GrowBytes)
	if o.ClusterBytes < sectorSize || o.ClusterBytes > 32768 || o.ClusterBytes&(o.ClusterBytes-1) != 0 {
		return fmt.Errorf("a cluster of %d bytes cannot be", o.ClusterBytes)
	}
	if o.Bytes <= 0 || grow/sectorSize > 0xffffffff {
		return fmt.Errorf("a file system of %d bytes cannot be", o.Bytes)
	}
	g := geometry{clusterSectors: uint32(o.ClusterBytes / sectorSize), reserved: reservedSectors, totalSectors: uint32(o.Bytes / sectorSize), root: rootCluster}
	// Enough entries for the grown size; a multiple of eight sectors keeps data on pages of 4 KiB.
	most := grow/int64(o.ClusterBytes) + 2
	g.fatSectors = uint32((most*4+8*sectorSize-1)/(8*sectorSize)) * 8
	if g.totalSectors <= g.dataStart() || g.clusters() < minClusters || most > maxClusters {
		return fmt.Errorf("FAT32 with clusters of %d bytes has at least %d and at most %d of them: %d bytes do not fit", o.ClusterBytes, minClusters, maxClusters, o.Bytes)
	}
	boot := g.bootSector(o)
	table := make([]byte, sectorSize)
	binary.LittleEndian.PutUint32(table[0:], 0x0ffffff8)
	binary.LittleEndian.PutUint32(table[4:], 0x0fffffff)
	binary.LittleEndian.PutUint32(table[8:], endOfChain) // the root folder
	root := make([]byte, sectorSize)
	copy(root, volumeLabel(o.Label))
	root[11] = attrVolume
	putDates(root)
	for _, w := range []struct {
		sector  uint32
		content []byte
	}{
		{0, boot}, {infoSector, infoSectorOf(g.clusters()-1, 3)}, {2, endSector()},
		{backupSector, boot}, {backupSector + infoSector, infoSectorOf(g.clusters()-1, 3)}, {backupSector + 2, endSector()},
		{g.reserved, table}, {g.reserved + g.fatSectors, table}, {g.dataStart(), root},
	} {
		if _, err := d.WriteAt(w.content, int64(w.sector)*sectorSize); err != nil {
			return fmt.Errorf("format: %w", err)
		}
	}
	return d.Sync()
}

func volumeLabel(label string) []byte {
	b := []byte("           ")
	copy(b, label)
	return b
}

func (g geometry) bootSector(o Options) []byte {
	b := make([]byte, sectorSize)
	copy(b, "\xeb\x58\x90GALVO   ")
	le := binary.LittleEndian
	le.PutUint16(b[11:], sectorSize)
	b[13] = byte(g.clusterSectors)
	le.PutUint16(b[14:], uint16(g.reserved))
	b[16] = fats
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], g.totalSectors)
	le.PutUint32(b[36:], g.fatSectors)
	le.PutUint32(b[44:], g.root)
	le.PutUint16(b[48:], infoSector)
	le.PutUint16(b[50:], backupSector)
	b[64] = 0x80
	b[66] = 0x29
	le.PutUint32(b[67:], o.ID)
	copy(b[71:], volumeLabel(o.Label))
	copy(b[82:], "FAT32   ")
	copy(b[90:], "\xfa\xf4\xeb\xfd") // cli; hlt; jmp: this disk is booted by UEFI only
	b[510], b[511] = 0x55, 0xaa
	return b
}

func endSector() []byte {
	b := make([]byte, sectorSize)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// infoSectorOf returns an FSInfo sector.
func infoSectorOf(free, next uint32) []byte {
	b := endSector()
	le := binary.LittleEndian
	le.PutUint32(b[0:], 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], free)
	le.PutUint32(b[492:], next)
	return b
}

// A Volume is a file system that is open. It may be used by one goroutine at a time.
type Volume struct {
	d     Device
	g     geometry
	table []byte // the first FAT
}

// Open reads a file system.
func Open(d Device) (*Volume, error) {
	b := make([]byte, sectorSize)
	if _, err := d.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read the boot sector: %w", err)
	}
	g, err := parseBoot(b)
	if err != nil {
		// Only Grow writes the boot sector, and the backup after it.
		if _, e := d.ReadAt(b, backupSector*sectorSize); e != nil {
			return nil, err
		}
		if g, err = parseBoot(b); err != nil {
			return nil, err
		}
	}
	// A size that is not the device's would make a table of any size.
	if _, err := d.ReadAt(b, int64(g.totalSectors-1)*sectorSize); err != nil {
		return nil, fmt.Errorf("the FAT32 file system is larger than its partition: %w", err)
	}
	v := &Volume{d: d, g: g, table: make([]byte, (g.clusters()+2)*4)}
	if _, err := d.ReadAt(v.table, int64(g.reserved)*sectorSize); err != nil {
		return nil, fmt.Errorf("read the file allocation table: %w", err)
	}
	return v, nil
}

func parseBoot(b []byte) (geometry, error) {
	le := binary.LittleEndian
	g := geometry{clusterSectors: uint32(b[13]), reserved: uint32(le.Uint16(b[14:])), totalSectors: le.Uint32(b[32:]), fatSectors: le.Uint32(b[36:]), root: le.Uint32(b[44:])}
	power := g.clusterSectors != 0 && g.clusterSectors&(g.clusterSectors-1) == 0
	switch {
	case b[510] != 0x55 || b[511] != 0xaa || le.Uint16(b[11:]) != sectorSize || b[16] != fats || !power || g.reserved <= backupSector+2 || g.fatSectors == 0:
		return g, errors.New("this is not a FAT32 file system of the kind that Galvo makes")
	case uint64(g.reserved)+fats*uint64(g.fatSectors)+uint64(g.clusterSectors) > uint64(g.totalSectors) || g.clusters() < minClusters || g.clusters() > maxClusters:
		return g, errors.New("the sizes of the FAT32 file system contradict each other")
	case uint64(g.clusters())+2 > uint64(g.fatSectors)*sectorSize/4 || g.root < 2 || g.root >= g.clusters()+2:
		return g, errors.New("the FAT32 file system has more clusters than its table")
	}
	return g, nil
}

// next returns what the table has for a cluster.
func (v *Volume) next(cluster uint32) uint32 {
	return binary.LittleEndian.Uint32(v.table[cluster*4:]) & clusterMask
}

func (v *Volume) valid(cluster uint32) bool { return cluster >= 2 && cluster < v.g.clusters()+2 }

// chain returns the clusters of a file or folder that begins at first.
func (v *Volume) chain(first uint32) ([]uint32, error) {
	var out []uint32
	for c := first; ; c = v.next(c) {
		if c >= 0x0ffffff8 {
			return out, nil
		}
		if !v.valid(c) || uint32(len(out)) > v.g.clusters() {
			return nil, fmt.Errorf("the chain of clusters from %d on is broken at %d", first, c)
		}
		out = append(out, c)
	}
}

// setTable changes entries of both tables, a sector at a time, and syncs.
func (v *Volume) setTable(entries map[uint32]uint32) error {
	dirty := map[uint32]bool{}
	for c, value := range entries {
		binary.LittleEndian.PutUint32(v.table[c*4:], value)
		dirty[c*4/sectorSize] = true
	}
	for _, copyStart := range []uint32{v.g.reserved, v.g.reserved + v.g.fatSectors} {
		for _, s := range sortedKeys(dirty) {
			sector := make([]byte, sectorSize)
			copy(sector, v.table[s*sectorSize:min((s+1)*sectorSize, uint32(len(v.table)))])
			if _, err := v.d.WriteAt(sector, int64(copyStart+s)*sectorSize); err != nil {
				return err
			}
		}
	}
	return v.d.Sync()
}

// writeInfo writes how much is free, which is only a hint for others.
func (v *Volume) writeInfo() error {
	used, err := v.reachable()
	if err != nil {
		return err
	}
	free, first := uint32(0), uint32(unknown)
	for c := uint32(2); v.valid(c); c++ {
		if !used[c] {
			free++
			first = min(first, c)
		}
	}
	for _, s := range []int64{infoSector, backupSector + infoSector} {
		if _, err := v.d.WriteAt(infoSectorOf(free, first), s*sectorSize); err != nil {
			return err
		}
	}
	return v.d.Sync()
}

// Free returns how many bytes of content still fit into one file.
func (v *Volume) Free() (int64, error) {
	used, err := v.reachable()
	if err != nil {
		return 0, err
	}
	var free int64
	for c := uint32(2); v.valid(c); c++ {
		if !used[c] {
			free++
		}
	}
	return free * int64(v.g.clusterBytes()), nil
}

// Grow makes the file system as large as the device now is, if its tables have room for that.
func Grow(d Device, bytes int64) error {
	v, err := Open(d)
	if err != nil {
		return err
	}
	g := v.g
	most := uint64(g.dataStart()) + (uint64(g.fatSectors)*sectorSize/4-2)*uint64(g.clusterSectors)
	g.totalSectors = uint32(min(uint64(bytes)/sectorSize, most, 0xffffffff))
	if g.totalSectors <= v.g.totalSectors {
		return nil
	}
	// The new part of the tables was never used: after Format it reads as zeros.
	for _, s := range []int64{0, backupSector} {
		boot := make([]byte, sectorSize)
		if _, err := d.ReadAt(boot, 0); err != nil {
			return fmt.Errorf("grow: %w", err)
		}
		binary.LittleEndian.PutUint32(boot[32:], g.totalSectors)
		if _, err := d.WriteAt(boot, s*sectorSize); err != nil {
			return fmt.Errorf("grow: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("grow: %w", err)
		}
	}
	if v, err = Open(d); err != nil {
		return err
	}
	return v.writeInfo()
}
