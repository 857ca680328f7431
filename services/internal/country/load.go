package country

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/klauspost/compress/zstd"
)

// The files of tor-geoipdb, and the directories where they are looked for if the configuration names none.
const (
	file4 = "geoip"
	file6 = "geoip6"
)

var directories = []string{"/usr/share/tor", "/usr/local/share/tor"}

// Open reads the table from the files geoip and geoip6 of a directory, or of the well-known ones if dir is empty.
func Open(dir string) (*Table, error) {
	tried := directories
	if dir != "" {
		tried = []string{dir}
	}
	for _, dir := range tried {
		t, err := openDir(dir)
		if !errors.Is(err, os.ErrNotExist) {
			return t, err
		}
	}
	return nil, fmt.Errorf("no country data in %s: install it with apt-get install tor-geoipdb", tried)
}

func openDir(dir string) (*Table, error) {
	f4, err := openFile(filepath.Join(dir, file4))
	if err != nil {
		return nil, fmt.Errorf("open country data: %w", err)
	}
	defer f4.Close()
	f6, err := openFile(filepath.Join(dir, file6))
	if err != nil {
		return nil, fmt.Errorf("open country data: %w", err)
	}
	defer f6.Close()
	t, err := Load(f4, f6)
	if err != nil {
		return nil, fmt.Errorf("read country data in %s: %w", dir, err)
	}
	return t, nil
}

// openFile opens a file, or the compressed one that an appliance has in its place.
func openFile(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	packed, packedErr := os.Open(path + ".zst")
	if packedErr != nil {
		return nil, err
	}
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(err, packed.Close())
	}
	return &unpacked{z, packed}, nil
}

// unpacked is what a compressed file holds.
type unpacked struct {
	*zstd.Decoder
	file *os.File
}

func (u *unpacked) Close() error {
	u.Decoder.Close()
	return u.file.Close()
}

// special4 and special6 are the special-purpose addresses of RFC 6890 and the multicast ones, in order. They override the data.
var (
	special4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")
	special6 = prefixes("::/127", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/9", "ff00::/8")
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// Load reads the text files of tor-geoipdb: lines of first address, last address and code, sorted, the addresses of v4 as
// decimal numbers; lines that begin with # are comments.
func Load(v4, v6 io.Reader) (*Table, error) {
	b4, err := read(v4, parse4)
	if err != nil {
		return nil, fmt.Errorf("IPv4: %w", err)
	}
	b6, err := read(v6, parse6)
	if err != nil {
		return nil, fmt.Errorf("IPv6: %w", err)
	}
	for _, p := range special4 {
		b4.paint(p)
	}
	for _, p := range special6 {
		b6.paint(p)
	}
	return newTable(b4, b6), nil
}

// boundaries are the places where the code changes, in order, from address zero on.
type boundaries []boundary

type boundary struct {
	first addr
	code  [2]byte
}

// read collects the ranges of a file. Gaps are Unknown.
func read(r io.Reader, parse func([]byte) (addr, []byte, bool)) (boundaries, error) {
	list := make(boundaries, 1, 1<<19)
	free := addr{} // the first address that no line has had
	lines := bufio.NewReaderSize(r, 1<<16)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if line[0] == '#' || line[0] == '\n' || line[0] == '\r' {
			continue
		}
		first, rest, ok1 := parse(line)
		last, rest, ok2 := parse(rest)
		if !ok1 || !ok2 || len(rest) < 2 {
			return nil, fmt.Errorf("line %d: want first address, last address and code, got %.80q", number, line)
		}
		if first.less(free) || last.less(first) || free == (addr{}) && len(list) > 1 {
			return nil, fmt.Errorf("line %d: range out of order", number)
		}
		code := [2]byte{rest[0], rest[1]}
		if !isLetter(code[0]) || !isLetter(code[1]) {
			code = Unknown
		}
		if free != first {
			list.add(free, Unknown)
		}
		list.add(first, code)
		free = last.next()
	}
	if len(list) == 1 && list[0].code == Unknown {
		return nil, errors.New("no ranges")
	}
	if free != (addr{}) {
		list.add(free, Unknown)
	}
	return list, nil
}

// add appends a boundary, unless the code goes on.
func (list *boundaries) add(first addr, code [2]byte) {
	last := &(*list)[len(*list)-1]
	switch {
	case last.first == first:
		last.code = code
	case last.code != code:
		*list = append(*list, boundary{first, code})
	}
}

// paint makes a prefix Private.
func (list *boundaries) paint(p netip.Prefix) {
	first := halves(p.Addr())
	last := first
	host := p.Addr().BitLen() - p.Bits()
	last.hi |= 1<<max(host-64, 0) - 1
	last.lo |= 1<<min(host, 64) - 1
	l := *list
	from := sort.Search(len(l), func(i int) bool { return !l[i].first.less(first) })
	to := sort.Search(len(l), func(i int) bool { return last.less(l[i].first) })
	painted := []boundary{{first, Private}}
	if after := last.next(); (to == len(l) || l[to].first != after) && after != (addr{}) {
		painted = append(painted, boundary{after, l[to-1].code})
	}
	*list = slices.Replace(l, from, to, painted...)
}

func newTable(b4, b6 boundaries) *Table {
	t := &Table{ranges4: make([]range4, 0, len(b4)), index4: make([]uint32, 1<<16+1), ranges6: slices.Clone(b6)}
	for _, b := range b4 {
		if b.first.lo <= 0xffffffff {
			t.ranges4 = append(t.ranges4, range4{uint32(b.first.lo), b.code})
		}
	}
	at := 0
	for cell := range t.index4 {
		for at+1 < len(t.ranges4) && uint64(t.ranges4[at+1].first) <= uint64(cell)<<16 {
			at++
		}
		t.index4[cell] = uint32(at)
	}
	t.addPage(0, 0, 16, 0)
	return t
}

// addPage makes the page for the addresses whose upper half begins with the first known bits of start, and the pages of its crowded
// cells. The range at from holds the first address.
func (t *Table) addPage(start uint64, known, width, from int) {
	number := len(t.pages6)
	p := page{shift: uint8(64 - known - width), cells: make([]uint32, 1<<width)}
	t.pages6 = append(t.pages6, p)
	for cell := range p.cells {
		first := start + uint64(cell)<<p.shift
		from = t.last6(from, addr{hi: first})
		end := t.last6(from, addr{first + 1<<p.shift - 1, ^uint64(0)})
		p.cells[cell] = uint32(from)
		if inside := end - from; inside > crowded && p.shift > 0 {
			p.cells[cell] = crowdedCell + uint32(len(t.pages6))
			t.addPage(first, known+width, min(bits.Len(uint(inside)), int(p.shift)), from)
		}
	}
	t.pages6[number] = p
}

// parse4 reads a decimal number up to a comma.
func parse4(line []byte) (a addr, rest []byte, ok bool) {
	for i, c := range line {
		switch {
		case c == ',':
			return a, line[i+1:], i > 0 && a.lo <= 0xffffffff
		case c < '0' || c > '9' || i > 9:
			return a, line, false
		}
		a.lo = a.lo*10 + uint64(c-'0')
	}
	return a, line, false
}

// parse6 reads an IPv6 address in text (RFC 4291 section 2.2, without embedded IPv4) up to a comma. netip would need a string, and so an
// allocation per line.
func parse6(line []byte) (a addr, rest []byte, ok bool) {
	var groups [8]uint16
	n, gap := 0, -1
	for rest = line; len(rest) > 0 && n <= 8; {
		switch {
		case rest[0] == ',':
			return joined(groups, n, gap), rest[1:], n == 8 && gap < 0 || n < 8 && gap >= 0
		case gap < 0 && len(rest) > 1 && rest[0] == ':' && rest[1] == ':':
			gap, rest = n, rest[2:]
			if len(rest) > 0 && rest[0] == ',' {
				continue
			}
		case n > 0 && n != gap && rest[0] == ':':
			rest = rest[1:]
		case n > 0 && n != gap:
			return a, line, false
		}
		group, size := parseGroup(rest)
		if size == 0 || n == 8 {
			return a, line, false
		}
		groups[n] = group
		n, rest = n+1, rest[size:]
	}
	return a, line, false
}

// parseGroup reads up to four hexadecimal digits.
func parseGroup(s []byte) (group uint16, size int) {
	for size < min(4, len(s)) {
		digit, ok := hexDigit(s[size])
		if !ok {
			break
		}
		group = group<<4 | digit
		size++
	}
	return group, size
}

// joined moves the groups behind the gap to the end.
func joined(groups [8]uint16, n, gap int) addr {
	if gap >= 0 {
		tail := groups
		clear(groups[gap:])
		copy(groups[8-(n-gap):], tail[gap:n])
	}
	var b [16]byte
	for i, g := range groups {
		binary.BigEndian.PutUint16(b[2*i:], g)
	}
	return addr{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func hexDigit(c byte) (uint16, bool) {
	switch {
	case c >= '0' && c <= '9':
		return uint16(c - '0'), true
	case c >= 'a' && c <= 'f':
		return uint16(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return uint16(c-'A') + 10, true
	}
	return 0, false
}

func halves(a netip.Addr) addr {
	if a.Is4() {
		b := a.As4()
		return addr{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return addr{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func address4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}

func address6(a addr) netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, a.hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, a.lo)))
}
