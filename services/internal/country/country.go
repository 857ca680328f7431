// Package country tells the country of an address, by the data of Debian's package tor-geoipdb.
//
// The data is CC BY-SA and never part of the program: Open reads the installed files when the first expression needs them. A Table is immutable,
// takes about 14 MB, and its look-ups allocate nothing, so that workers share one.
//
// A code is two bytes: upper-case letters of ISO 3166 for a country (and for the few other areas in the data, such as EU). Addresses that
// belong to no country by their nature (private, loopback, link-local, multicast and the other special-purpose ones of RFC 6890)
// have the code Private, addresses of which the data knows nothing the code Unknown. Look-ups return these two with ok false. Whoever wants
// a name a person may write (DE, private, unknown) as a code calls Parse, and can then compare codes without looking at ok.
//
// What an IPv6 address embeds (mapped, 6to4, Teredo) is not looked at.
package country

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// The codes of addresses without a country.
var (
	Private = [2]byte{'p', 'r'}
	Unknown = [2]byte{}
)

// Parse returns the code for a name: a country code of two letters, private or unknown, in upper or lower case.
func Parse(name string) (code [2]byte, err error) {
	upper := strings.ToUpper(name)
	switch {
	case upper == "PRIVATE":
		return Private, nil
	case upper == "UNKNOWN":
		return Unknown, nil
	case len(upper) != 2 || !isLetter(upper[0]) || !isLetter(upper[1]):
		return Unknown, fmt.Errorf("%q is no country code: it has two letters, like DE, or is private or unknown", name)
	}
	return [2]byte{upper[0], upper[1]}, nil
}

func isLetter(b byte) bool { return b >= 'A' && b <= 'Z' }

// Name returns the name that Parse takes.
func Name(code [2]byte) string {
	switch code {
	case Private:
		return "private"
	case Unknown:
		return "unknown"
	}
	return string(code[:])
}

// A Table has a code for every address. Ranges are stored by their first address; a range reaches up to the next one.
type Table struct {
	ranges4 []range4
	index4  []uint32 // by the upper 16 bits of an address: the range that holds the first such address

	ranges6 []boundary
	pages6  []page // the first one is where a look-up begins
}

// A page is an index of the ranges that begin with the same bits, by the bits that follow. Registries hand out IPv6 addresses so unevenly
// (a fifth of all ranges lies in one /29) that one index does not do: a cell with more than crowded ranges has a page of its own.
type page struct {
	shift uint8    // of the upper half of an address, to bring the bits to the right
	cells []uint32 // the range that holds the first address of the cell, or the number of a page with crowdedCell set; as many as a power of two
}

const (
	crowded     = 8
	crowdedCell = 1 << 31
)

type range4 struct {
	first uint32
	code  [2]byte
}

// An addr is an IPv6 address. The reader uses it for IPv4 too, in the low 32 bits.
type addr struct{ hi, lo uint64 }

func (a addr) less(b addr) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a addr) next() addr {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

// Lookup4 returns the code of an IPv4 address; ok is false if it is Private or Unknown.
func (t *Table) Lookup4(address uint32) (code [2]byte, ok bool) {
	cell := address >> 16
	low, high := t.index4[cell], t.index4[cell+1]
	for low < high {
		mid := (low + high + 1) / 2
		if t.ranges4[mid].first <= address {
			low = mid
		} else {
			high = mid - 1
		}
	}
	code = t.ranges4[low].code
	return code, code != Private && code != Unknown
}

// Lookup6 returns the code of an IPv6 address, given in its two halves; ok is false if it is Private or Unknown.
func (t *Table) Lookup6(hi, lo uint64) (code [2]byte, ok bool) {
	a := addr{hi, lo}
	p := &t.pages6[0]
	cell := p.cells[hi>>p.shift]
	for cell >= crowdedCell {
		p = &t.pages6[cell-crowdedCell]
		cell = p.cells[hi>>p.shift&uint64(len(p.cells)-1)]
	}
	low := t.last6(int(cell), a)
	code = t.ranges6[low].code
	return code, code != Private && code != Unknown
}

// last6 returns the last range that begins at or before a; the one at low does. It is near, if not within a /64, so it goes ahead by doubling
// steps and then back by halves.
func (t *Table) last6(low int, a addr) int {
	step := 1
	for low+step < len(t.ranges6) && !a.less(t.ranges6[low+step].first) {
		low += step
		step *= 2
	}
	for step /= 2; step > 0; step /= 2 {
		if low+step < len(t.ranges6) && !a.less(t.ranges6[low+step].first) {
			low += step
		}
	}
	return low
}

// Codes returns the country codes that occur, sorted.
func (t *Table) Codes() (codes []string) {
	seen := map[[2]byte]bool{Private: true, Unknown: true}
	for r := range t.Ranges() {
		if !seen[r.Code] {
			seen[r.Code] = true
			codes = append(codes, string(r.Code[:]))
		}
	}
	slices.Sort(codes)
	return codes
}

// A Range is the addresses from First to Last, which have the same code.
type Range struct {
	First, Last netip.Addr
	Code        [2]byte
}

// Ranges returns all ranges in order, IPv4 before IPv6. They cover every address.
func (t *Table) Ranges() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for i, r := range t.ranges4 {
			last := ^uint32(0)
			if i+1 < len(t.ranges4) {
				last = t.ranges4[i+1].first - 1
			}
			if !yield(Range{address4(r.first), address4(last), r.code}) {
				return
			}
		}
		for i, r := range t.ranges6 {
			last := address6(addr{^uint64(0), ^uint64(0)})
			if i+1 < len(t.ranges6) {
				last = address6(t.ranges6[i+1].first).Prev()
			}
			if !yield(Range{address6(r.first), last, r.code}) {
				return
			}
		}
	}
}
