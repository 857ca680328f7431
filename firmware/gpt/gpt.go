// Package gpt reads and writes the partition table of a disk (UEFI 2.10, section 5.3): a protective MBR, the table at the disk's begin, and its backup at the
// end. Sectors have 512 bytes.
//
// Write puts the backup first and syncs, so that a power cut leaves one table that is whole: Read takes the first unless it is damaged.
package gpt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// A Device is a disk.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// SectorSize is what addresses count.
const SectorSize = 512

const (
	entries      = 128
	entrySize    = 128
	entrySectors = entries * entrySize / SectorSize
	headerSize   = 92
	signature    = "EFI PART"
	nameChars    = 36
	// First is the first sector that a partition may use; larger units than that are for alignment.
	first = 2 + entrySectors
	// Align is what partitions begin at a multiple of: 1 MiB.
	Align = 1 << 20 / SectorSize
)

// A GUID in the order in which it is stored.
type GUID [16]byte

// ParseGUID reads the usual form, as C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return g, fmt.Errorf("%q is not a GUID", s)
	}
	copy(g[:], b)
	swap(&g)
	return g, nil
}

// swap exchanges the two orders: the first three fields are little-endian when stored.
func swap(g *GUID) {
	g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
	g[4], g[5] = g[5], g[4]
	g[6], g[7] = g[7], g[6]
}

// String returns the form of RFC 9562 in capitals, C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
func (g GUID) String() string {
	swap(&g)
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16]))
}

// NamedGUID returns a GUID that depends on a name only (RFC 9562, version 8).
func NamedGUID(name string) GUID {
	sum := sha256.Sum256([]byte("galvo " + name))
	g := GUID(sum[:16])
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	swap(&g)
	return g
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// SystemType returns the type of an EFI system partition.
func SystemType() GUID { return mustGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B") }

// LinuxType returns the type of a partition with a Linux file system.
func LinuxType() GUID { return mustGUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4") }

// A Partition is one entry.
type Partition struct {
	Type        GUID
	ID          GUID
	Name        string // up to 36 characters
	First, Last uint64 // sectors, both included
	Attributes  uint64
}

// Bytes is its size.
func (p Partition) Bytes() int64 { return int64(p.Last-p.First+1) * SectorSize }

// Offset is where it begins, in bytes.
func (p Partition) Offset() int64 { return int64(p.First) * SectorSize }

// A Table is all of it.
type Table struct {
	ID         GUID
	Partitions []Partition // the number of a partition is its place, from 1; holes have the zero Type
}

// Usable returns the first and last sector that partitions may use on a disk of so many bytes.
func Usable(bytes int64) (from, to uint64) {
	return first, uint64(bytes/SectorSize) - entrySectors - 2
}

// Write writes the table onto a disk of so many bytes.
func Write(d Device, bytes int64, t *Table) error {
	if err := t.check(bytes); err != nil {
		return err
	}
	sectors := uint64(bytes / SectorSize)
	table := t.encode()
	// The backup lies at the end: entries, then header.
	for _, w := range []struct{ header, other, entries uint64 }{{sectors - 1, 1, sectors - 1 - entrySectors}, {1, sectors - 1, 2}} {
		if _, err := d.WriteAt(table, int64(w.entries)*SectorSize); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
		if _, err := d.WriteAt(t.header(table, w.header, w.other, w.entries, sectors), int64(w.header)*SectorSize); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
	}
	// The boot code that may be there stays.
	mbr := make([]byte, SectorSize)
	if _, err := d.ReadAt(mbr, 0); err != nil {
		return fmt.Errorf("read the boot record: %w", err)
	}
	protect(mbr, sectors)
	if _, err := d.WriteAt(mbr, 0); err != nil {
		return fmt.Errorf("write the boot record: %w", err)
	}
	return d.Sync()
}

// protect writes the protective partition, so that tools that know only MBR leave the disk alone.
func protect(mbr []byte, sectors uint64) {
	p := mbr[446:510]
	clear(p)
	copy(p, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(p[8:], 1)
	binary.LittleEndian.PutUint32(p[12:], uint32(min(sectors-1, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
}

func (t *Table) check(bytes int64) error {
	if bytes < int64(2*first*SectorSize) {
		return fmt.Errorf("a disk of %d bytes is too small for a partition table", bytes)
	}
	if len(t.Partitions) > entries {
		return fmt.Errorf("%d partitions are too many", len(t.Partitions))
	}
	from, to := Usable(bytes)
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) {
			continue
		}
		if p.First < from || p.Last > to || p.First > p.Last {
			return fmt.Errorf("partition %d, sectors %d to %d, does not fit between %d and %d", i+1, p.First, p.Last, from, to)
		}
		for j, q := range t.Partitions[:i] {
			if q.Type != (GUID{}) && p.First <= q.Last && q.First <= p.Last {
				return fmt.Errorf("partitions %d and %d overlap", j+1, i+1)
			}
		}
	}
	return nil
}

func (t *Table) encode() []byte {
	b := make([]byte, entries*entrySize)
	le := binary.LittleEndian
	for i, p := range t.Partitions {
		e := b[i*entrySize:][:entrySize]
		copy(e, p.Type[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
		le.PutUint64(e[48:], p.Attributes)
		for j, c := range utf16.Encode([]rune(p.Name)) {
			if j < nameChars {
				le.PutUint16(e[56+2*j:], c)
			}
		}
	}
	return b
}

func (t *Table) header(table []byte, self, other, at, sectors uint64) []byte {
	b := make([]byte, SectorSize)
	le := binary.LittleEndian
	copy(b, signature)
	le.PutUint32(b[8:], 0x00010000)
	le.PutUint32(b[12:], headerSize)
	le.PutUint64(b[24:], self)
	le.PutUint64(b[32:], other)
	from, to := Usable(int64(sectors) * SectorSize)
	le.PutUint64(b[40:], from)
	le.PutUint64(b[48:], to)
	copy(b[56:], t.ID[:])
	le.PutUint64(b[72:], at)
	le.PutUint32(b[80:], entries)
	le.PutUint32(b[84:], entrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

// Read reads the table of a disk of so many bytes. Whole reports whether both copies are there and at their places; after an image was written to a larger
// disk, the backup is not at the end.
func Read(d io.ReaderAt, bytes int64) (t *Table, whole bool, err error) {
	last := uint64(bytes/SectorSize) - 1
	t, e1 := readAt(d, 1)
	u, e2 := readAt(d, last)
	switch {
	case e1 == nil:
		return t, e2 == nil && equal(t, u), nil
	case e2 == nil:
		return u, false, nil
	}
	return nil, false, fmt.Errorf("read the partition table: %w", e1)
}

func equal(t, u *Table) bool { return t.ID == u.ID && bytes.Equal(t.encode(), u.encode()) }

func readAt(d io.ReaderAt, sector uint64) (*Table, error) {
	h := make([]byte, SectorSize)
	if _, err := d.ReadAt(h, int64(sector)*SectorSize); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	size, n, each := le.Uint32(h[12:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if string(h[:8]) != signature || size < headerSize || size > SectorSize || le.Uint64(h[24:]) != sector {
		return nil, errors.New("there is no GPT")
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, errors.New("the check sum of the GPT's header is wrong")
	}
	if each < entrySize || each > 1024 || n > 1024 {
		return nil, errors.New("the GPT has entries of a size that is not known here")
	}
	b := make([]byte, n*each)
	if _, err := d.ReadAt(b, int64(le.Uint64(h[72:]))*SectorSize); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != le.Uint32(h[88:]) {
		return nil, errors.New("the check sum of the GPT's entries is wrong")
	}
	t := &Table{ID: GUID(h[56:72])}
	for i := uint32(0); i < min(n, entries); i++ {
		t.Partitions = append(t.Partitions, decode(b[i*each:][:entrySize]))
	}
	for len(t.Partitions) > 0 && t.Partitions[len(t.Partitions)-1].Type == (GUID{}) {
		t.Partitions = t.Partitions[:len(t.Partitions)-1]
	}
	return t, nil
}

func decode(e []byte) Partition {
	le := binary.LittleEndian
	p := Partition{Type: GUID(e[0:16]), ID: GUID(e[16:32]), First: le.Uint64(e[32:]), Last: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:])}
	var name []uint16
	for j := range nameChars {
		c := le.Uint16(e[56+2*j:])
		if c == 0 {
			break
		}
		name = append(name, c)
	}
	p.Name = string(utf16.Decode(name))
	return p
}
