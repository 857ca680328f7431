package regexp

import (
	"cmp"
	"math/bits"
	"slices"
)

// Sizes of the search for literals: it looks at a window of so many bytes of each literal, and puts the literals into so many buckets.
const (
	window  = 3
	buckets = 8
)

// A scanner finds the first place of a text that has one of several literals.
//
// For each byte of the window and each value of that byte, a table has a bit for each bucket that admits it. The conjunction of the three is
// not zero where a literal may be; there the literals of the bucket are compared. With AVX2 the same is done for 32 places at once, by tables for
// the halves of a byte, an idea known as Teddy from Hyperscan.
type scanner struct {
	exact  bool
	before int // a match begins at most so many bytes before the window; < 0 is unbounded

	table   [window][256]uint8
	halves  [window][2][16]uint8 // for the low and the high half of a byte
	buckets [buckets][]target
}

// A target is a literal, and where its window begins.
type target struct {
	literal
	offset int
}

// newScanner returns nil if there is nothing to search for.
func newScanner(r requirement) *scanner {
	if len(r.literals) == 0 {
		return nil
	}
	s := &scanner{exact: r.exact, before: r.before}
	targets := make([]target, len(r.literals))
	for i, l := range r.literals {
		targets[i] = target{l, l.rarest()}
		if r.before >= 0 {
			s.before = max(s.before, r.before+targets[i].offset)
		}
	}
	slices.SortStableFunc(targets, func(a, b target) int { return cmp.Compare(a.value[a.offset:], b.value[b.offset:]) })
	for i, t := range targets {
		bucket := i * min(buckets, len(targets)) / len(targets)
		s.buckets[bucket] = append(s.buckets[bucket], t)
		for at := range window {
			s.admit(at, bucket, t)
		}
	}
	return s
}

// admit enters into the tables what a target allows at a place of its window.
func (s *scanner) admit(at, bucket int, t target) {
	mask, value := byte(0), byte(0)
	if i := t.offset + at; i < len(t.mask) {
		mask, value = t.mask[i], t.value[i]
	}
	for b := range 256 {
		if byte(b)&mask == value {
			s.table[at][b] |= 1 << bucket
			s.halves[at][0][b&15] |= 1 << bucket
			s.halves[at][1][b>>4] |= 1 << bucket
		}
	}
}

// rarest is where the most telling window of a literal begins.
func (l literal) rarest() int {
	best, offset := -1, 0
	for i := 0; i == 0 || i+window <= len(l.mask); i++ {
		sum := 0
		for at := i; at < min(i+window, len(l.mask)); at++ {
			sum += weight(l.mask[at], l.value[at])
		}
		if sum > best {
			best, offset = sum, i
		}
	}
	return offset
}

// next returns the first place at or behind from where the window of a literal lies, or -1.
func (s *scanner) next(text []byte, from int) int {
	if hasVector && len(text) >= vectorText {
		for {
			at, places := scanVector(text, from, &s.halves)
			from = max(from, at)
			if places == 0 {
				break
			}
			for ; places != 0; places &= places - 1 {
				if i := at + bits.TrailingZeros32(places); i >= from && s.at(text, i) {
					return i
				}
			}
			from = at + 32
		}
	}
	for ; from+window <= len(text); from++ {
		if s.table[0][text[from]]&s.table[1][text[from+1]]&s.table[2][text[from+2]] != 0 && s.at(text, from) {
			return from
		}
	}
	for ; from < len(text); from++ {
		if s.at(text, from) {
			return from
		}
	}
	return -1
}

// at reports whether a literal has its window at position i.
func (s *scanner) at(text []byte, i int) bool {
	set := s.table[0][text[i]]
	for at := 1; at < window && i+at < len(text); at++ {
		set &= s.table[at][text[i+at]]
	}
	for ; set != 0; set &= set - 1 {
		for _, t := range s.buckets[bits.TrailingZeros8(set)] {
			if begin := i - t.offset; begin >= 0 && t.is(text[begin:]) {
				return true
			}
		}
	}
	return false
}

// is reports whether the text begins with the literal.
func (l *literal) is(text []byte) bool {
	if len(text) < len(l.mask) {
		return false
	}
	for i := range len(l.mask) {
		if text[i]&l.mask[i] != l.value[i] {
			return false
		}
	}
	return true
}
