package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	attrFolder  = 0x10
	attrVolume  = 0x08
	attrArchive = 0x20
	attrLong    = 0x0f
	deleted     = 0xe5
	lastLong    = 0x40
	longChars   = 13 // of a name, in one entry
	maxName     = 255
)

// date is 1 January 2020, of everything: files here are told apart by name, and images must not depend on the clock.
const date = (2020-1980)<<9 | 1<<5 | 1

func putDates(e []byte) {
	for _, at := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(e[at:], date)
	}
}

func sortedKeys[V any](m map[uint32]V) []uint32 { return slices.Sorted(maps.Keys(m)) }

// An Entry is a file or folder in a folder.
type Entry struct {
	Name   string
	Folder bool
	Size   int64

	first  uint32 // cluster; 0 of an empty file
	short  [11]byte
	places []int64 // of its entries on the device, the short one last
}

// shortEntry returns the 32 bytes of an entry without a long name.
func (e *Entry) shortEntry() []byte {
	b := make([]byte, entrySize)
	copy(b, e.short[:])
	b[11] = attrArchive
	if e.Folder {
		b[11] = attrFolder
	}
	putDates(b)
	e.putPlace(b)
	return b
}

// putPlace writes where the content is into a short entry.
func (e *Entry) putPlace(b []byte) {
	binary.LittleEndian.PutUint16(b[20:], uint16(e.first>>16))
	binary.LittleEndian.PutUint16(b[26:], uint16(e.first))
	if !e.Folder {
		binary.LittleEndian.PutUint32(b[28:], uint32(e.Size))
	}
}

// encode returns the entries of e, the long name's first.
func (e *Entry) encode() []byte {
	var out []byte
	if e.needsLong() {
		sum := checksum(e.short)
		n := (len(e.Name) + longChars - 1) / longChars
		for i := n; i >= 1; i-- {
			out = append(out, longEntry(e.Name, i, i == n, sum)...)
		}
	}
	return append(out, e.shortEntry()...)
}

// needsLong reports whether the short name is not the whole name.
func (e *Entry) needsLong() bool {
	return e.Name != "" && (!isShort(e.Name) || e.short != shortOf(e.Name, 0))
}

var longPlaces = [longChars]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// longEntry returns the i-th part of a long name, from 1.
func longEntry(name string, i int, last bool, sum byte) []byte {
	b := make([]byte, entrySize)
	b[0] = byte(i)
	if last {
		b[0] |= lastLong
	}
	b[11], b[13] = attrLong, sum
	for j, at := range longPlaces {
		switch k := (i-1)*longChars + j; {
		case k < len(name):
			binary.LittleEndian.PutUint16(b[at:], uint16(name[k]))
		case k > len(name):
			binary.LittleEndian.PutUint16(b[at:], 0xffff)
		}
	}
	return b
}

// checksum is that of a short name, which its long name's entries carry.
func checksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// isShort reports whether a name needs no long one.
func isShort(name string) bool {
	base, ext, dotted := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dotted && ext == "" {
		return false
	}
	return strings.IndexFunc(base+ext, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
}

// shortOf returns the 11 bytes of a short name, with the number n in it if it is not 0.
func shortOf(name string, n int) [11]byte {
	keep := func(s string, most int) string {
		s = strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
				return r
			}
			return -1
		}, strings.ToUpper(s))
		return s[:min(len(s), most)]
	}
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	base, ext = keep(base, 8), keep(ext, 3)
	if n > 0 {
		tail := fmt.Sprintf("~%d", n)
		base = keep(base, 8-len(tail)) + tail
	}
	out := [11]byte([]byte("           "))
	copy(out[:8], base)
	copy(out[8:], ext)
	return out
}

// checkName returns an error for a name that cannot be.
func checkName(name string) error {
	if name == "" || len(name) > maxName || name == "." || name == ".." || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return fmt.Errorf("%q cannot be the name of a file", name)
	}
	for _, r := range name {
		if r <= ' ' && r != ' ' || r > '~' || strings.ContainsRune(`"*/:<>?\|`, r) {
			return fmt.Errorf("%q cannot be the name of a file", name)
		}
	}
	return nil
}

// A slot is 32 bytes of a folder.
type slot struct {
	at int64
	b  []byte
}

// slots reads a folder.
func (v *Volume) slots(first uint32) ([]slot, error) {
	clusters, err := v.chain(first)
	if err != nil {
		return nil, err
	}
	var out []slot
	for _, c := range clusters {
		b := make([]byte, v.g.clusterBytes())
		if _, err := v.d.ReadAt(b, v.g.offset(c)); err != nil {
			return nil, err
		}
		for i := 0; i < len(b); i += entrySize {
			out = append(out, slot{v.g.offset(c) + int64(i), b[i : i+entrySize]})
		}
	}
	return out, nil
}

// entries returns what is in a folder, without . and .. and the label. Long names that fit to no short one are passed over, as all readers do.
func (v *Volume) entries(first uint32) ([]Entry, error) {
	all, err := v.slots(first)
	if err != nil {
		return nil, err
	}
	var out []Entry
	var long longName
	for _, s := range all {
		switch {
		case s.b[0] == 0:
			return out, nil
		case s.b[0] == deleted:
			long = longName{}
		case s.b[11]&attrLong == attrLong:
			long.add(s)
		case s.b[11]&attrVolume != 0 || s.b[0] == '.':
			long = longName{}
		default:
			e := Entry{Folder: s.b[11]&attrFolder != 0, short: [11]byte(s.b[:11])}
			e.first = uint32(binary.LittleEndian.Uint16(s.b[20:]))<<16 | uint32(binary.LittleEndian.Uint16(s.b[26:]))
			e.first &= clusterMask
			e.Size = int64(binary.LittleEndian.Uint32(s.b[28:]))
			e.Name, e.places = long.name(e.short)
			e.places = append(e.places, s.at)
			if e.Name == "" {
				e.Name = dotted(s.b)
			}
			out = append(out, e)
			long = longName{}
		}
	}
	return out, nil
}

// Bits of byte 12 of a short entry: its parts are in small letters. Only Windows and Linux write them.
const (
	smallBase = 0x08
	smallExt  = 0x10
)

// dotted returns a short name as people write it.
func dotted(e []byte) string {
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&smallBase != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&smallExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// A longName collects the parts of a long name, which come last part first.
type longName struct {
	next   int // number of the part that must come, 0 when all are there
	sum    byte
	chars  []uint16 // of the whole name
	places []int64
}

func (l *longName) add(s slot) {
	n := int(s.b[0] &^ lastLong)
	if s.b[0]&lastLong != 0 {
		*l = longName{next: n, sum: s.b[13], chars: make([]uint16, n*longChars)}
	}
	if n == 0 || n != l.next || s.b[13] != l.sum {
		*l = longName{}
		return
	}
	for j, at := range longPlaces {
		l.chars[(n-1)*longChars+j] = binary.LittleEndian.Uint16(s.b[at:])
	}
	l.next--
	l.places = append(l.places, s.at)
}

// name returns the long name if it is whole and of the short one.
func (l *longName) name(short [11]byte) (string, []int64) {
	if l.chars == nil || l.next != 0 || l.sum != checksum(short) {
		return "", nil
	}
	var b strings.Builder
	for _, c := range l.chars {
		if c == 0 || c == 0xffff {
			break
		}
		if c > '~' {
			c = '_'
		}
		b.WriteByte(byte(c))
	}
	return b.String(), l.places
}

// ErrNotFound is the error for a path that is not there.
var ErrNotFound = errors.New("there is no such file")

// find returns an entry of a folder. Names differ in more than their case.
func (v *Volume) find(folder uint32, name string) (*Entry, error) {
	all, err := v.entries(folder)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(e Entry) bool { return strings.EqualFold(e.Name, name) })
	if i < 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return &all[i], nil
}
