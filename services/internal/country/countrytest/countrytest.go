// Package countrytest lets tshark judge country codes by the same data: it writes a table as a MaxMind DB and makes a Wireshark profile that uses it.
//
// It is for tests. The format is MaxMind DB 2.0 (maxmind.github.io/MaxMind-DB), with the one field that Wireshark reads for
// ip.geoip.country_iso. Addresses that are Private or Unknown have no entry.
package countrytest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"galvo/services/internal/country"
)

// Profile makes a configuration directory for Wireshark programs, to be given as the environment variable WIRESHARK_CONFIG_DIR, under
// which ip.geoip.country_iso and ipv6.geoip.country_iso follow the table. Do not run tshark with -n, which turns them off.
func Profile(t testing.TB, table *country.Table) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Create(filepath.Join(dir, "country.mmdb"))
	if err == nil {
		err = Write(f, table)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "maxmind_db_paths"), fmt.Appendf(nil, "%q\n", dir), 0o644)
	}
	if err != nil {
		t.Fatalf("make a profile with country data: %v", err)
	}
	return dir
}

// A tree is the search tree: nodes of two records. A record is a child node, or a leaf: 0 for no entry, else the number of a code, as a
// negative number.
type tree struct {
	nodes [][2]int32
	codes map[[2]byte]int32
	order [][2]byte
}

// Write writes a table as a MaxMind DB. IPv4 addresses are at ::/96, where readers look for them.
func Write(w io.Writer, table *country.Table) error {
	t := &tree{nodes: make([][2]int32, 1), codes: map[[2]byte]int32{}}
	for r := range table.Ranges() {
		if r.Code == country.Private || r.Code == country.Unknown {
			continue
		}
		if t.codes[r.Code] == 0 {
			t.order = append(t.order, r.Code)
			t.codes[r.Code] = -int32(len(t.order))
		}
		t.cover(low(r.First), low(r.Last), t.codes[r.Code])
	}
	return t.write(w)
}

// A wide is an IPv6 address as a number, with IPv4 in the low 32 bits of zero.
type wide struct{ hi, lo uint64 }

func low(a netip.Addr) wide {
	if a.Is4() {
		v4 := a.As4()
		return wide{lo: uint64(binary.BigEndian.Uint32(v4[:]))}
	}
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// end is the last address of the prefix of some host bits that begins at a.
func (a wide) end(host int) wide {
	return wide{a.hi | (1<<max(host-64, 0) - 1), a.lo | (1<<min(host, 64) - 1)}
}

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// cover inserts the fewest prefixes that make up the range.
func (t *tree) cover(first, last wide, code int32) {
	for !last.less(first) {
		host := bits.TrailingZeros64(first.lo)
		if first.lo == 0 {
			host += bits.TrailingZeros64(first.hi)
		}
		for last.less(first.end(host)) {
			host--
		}
		t.insert(first, 128-host, code)
		end := first.end(host)
		lo, carry := bits.Add64(end.lo, 1, 0)
		hi, over := bits.Add64(end.hi, 0, carry)
		if over != 0 {
			return
		}
		first = wide{hi, lo}
	}
}

func (t *tree) insert(a wide, length int, code int32) {
	node := int32(0)
	for depth := range length {
		side := a.hi << (depth & 63) >> 63
		if depth >= 64 {
			side = a.lo << (depth & 63) >> 63
		}
		if depth == length-1 {
			t.nodes[node][side] = code
			return
		}
		if t.nodes[node][side] <= 0 {
			t.nodes = append(t.nodes, [2]int32{})
			t.nodes[node][side] = int32(len(t.nodes) - 1)
		}
		node = t.nodes[node][side]
	}
}

// write writes nodes of 32-bit records, the data section and the metadata.
func (t *tree) write(w io.Writer) error {
	var data []byte
	offsets := make([]int, len(t.order))
	for i, code := range t.order {
		offsets[i] = len(data)
		data = appendMap(data, 1)
		data = appendString(data, "country")
		data = appendMap(data, 1)
		data = appendString(data, "iso_code")
		data = appendString(data, string(code[:]))
	}
	out := bufio.NewWriter(w)
	for _, node := range t.nodes {
		for _, record := range node {
			value := len(t.nodes) // no entry
			switch {
			case record > 0:
				value = int(record)
			case record < 0:
				value += 16 + offsets[-record-1]
			}
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(value)))
		}
	}
	out.Write(make([]byte, 16))
	out.Write(data)
	out.WriteString("\xab\xcd\xefMaxMind.com")
	out.Write(t.metadata())
	return out.Flush()
}

// Types of the data section. Those above 7 are written as an extended type.
const (
	typeString = 2
	typeUint16 = 5
	typeUint32 = 6
	typeMap    = 7
	typeUint64 = 9
	typeArray  = 11
)

func (t *tree) metadata() []byte {
	m := appendMap(nil, 9)
	m = appendNumber(appendString(m, "node_count"), typeUint32, uint64(len(t.nodes)))
	m = appendNumber(appendString(m, "record_size"), typeUint16, 32)
	m = appendNumber(appendString(m, "ip_version"), typeUint16, 6)
	m = appendString(appendString(m, "database_type"), "Country")
	m = appendString(appendControl(appendString(m, "languages"), typeArray, 1), "en")
	m = appendNumber(appendString(m, "binary_format_major_version"), typeUint16, 2)
	m = appendNumber(appendString(m, "binary_format_minor_version"), typeUint16, 0)
	m = appendNumber(appendString(m, "build_epoch"), typeUint64, 1) // zero is refused by libmaxminddb
	m = appendMap(appendString(m, "description"), 1)
	return appendString(appendString(m, "en"), "countries of tor-geoipdb")
}

func appendControl(b []byte, kind, size int) []byte {
	if kind > 7 {
		return append(b, byte(size), byte(kind-7))
	}
	return append(b, byte(kind<<5|size))
}

func appendMap(b []byte, size int) []byte { return appendControl(b, typeMap, size) }

// appendString appends a string shorter than 29 bytes.
func appendString(b []byte, s string) []byte {
	return append(appendControl(b, typeString, len(s)), s...)
}

func appendNumber(b []byte, kind int, v uint64) []byte {
	size := (bits.Len64(v) + 7) / 8
	b = appendControl(b, kind, size)
	return append(b, binary.BigEndian.AppendUint64(nil, v)[8-size:]...)
}
