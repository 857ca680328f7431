package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/regexp"
)

// A set is what the values of a comparison came to. An operand's reader fills in the part that its evaluation looks at.
type set struct {
	text []string // each item in its canonical spelling

	ranges    []interval // numbers; the word any is the whole range
	none      bool       // the word none
	addresses []address
	macs      []macRange
	flags     []flagSet
	strings   []string
	patterns  []*regexp.Regexp
	protocols []protocol.ID
	codecs    []uint32 // hashes of the names that SDP gives payload types
	unknown   bool     // the word unknown
	codes     [][2]byte

	bits []uint64 // the ranges as a bitmap, where that is quicker
}

type interval struct{ lo, hi uint32 }

// has reports whether n is one of the numbers.
func (s *set) has(n uint32) bool {
	if s.bits != nil {
		return n>>6 < uint32(len(s.bits)) && s.bits[n>>6]>>(n&63)&1 != 0
	}
	for _, r := range s.ranges {
		if n-r.lo <= r.hi-r.lo {
			return true
		}
	}
	return false
}

// maxRanges is the number of ranges that are quicker compared one by one than looked up.
const maxRanges = 4

// settle makes the ranges quick to look up.
func (s *set) settle() {
	if len(s.ranges) <= maxRanges {
		return
	}
	slices.SortFunc(s.ranges, func(a, b interval) int { return int(int64(a.lo) - int64(b.lo)) })
	merged := s.ranges[:1]
	for _, r := range s.ranges[1:] {
		if last := &merged[len(merged)-1]; r.lo <= last.hi {
			last.hi = max(last.hi, r.hi)
		} else {
			merged = append(merged, r)
		}
	}
	s.ranges = merged
	if last := merged[len(merged)-1].hi; last <= 0xffff {
		s.bits = make([]uint64, last/64+1)
		for _, r := range merged {
			for n := r.lo; n <= r.hi; n++ {
				s.bits[n>>6] |= 1 << (n & 63)
			}
		}
	}
}

// numbers reads decimal and hexadecimal numbers, ranges, and names for numbers.
type numbers struct {
	max    uint32
	what   string // "a port", for errors
	hex    int    // digits of the canonical spelling; 0 = decimal
	any    bool   // the words any and none are values
	none   bool
	ranges bool
	names  []numberName
	hint   string // what to write instead of a range
	check  func(c *checker, it item, r interval) *Error
}

// A numberName is a name for a number, with other spellings.
type numberName struct {
	n       uint32
	name    string
	aliases string // separated by blanks
}

func (k *numbers) read(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	switch {
	case k.any && strings.EqualFold(text, "any"):
		if c.orders() {
			return c.wrong(it, "any has no order", "a number")
		}
		c.set.ranges = append(c.set.ranges, interval{0, k.max})
		c.add("any")
		return nil
	case k.none && strings.EqualFold(text, "none"):
		if c.orders() {
			return c.wrong(it, "none has no order", "a number")
		}
		c.set.none = true
		c.add("none")
		return nil
	}
	if n, name, ok := k.named(text); ok {
		return k.take(c, it, interval{n, n}, name)
	}
	if i := strings.IndexByte(text, '-'); i >= 0 && text != "-" {
		return k.interval(c, it, text, i)
	}
	n, err := k.number(c, it, text)
	if err != nil {
		return err
	}
	return k.take(c, it, interval{n, n}, k.spell(n))
}

// take adds r, which is a range of numbers, or turns it into one where the operator is an order.
func (k *numbers) take(c *checker, it item, r interval, text string) *Error {
	if k.check != nil {
		if err := k.check(c, it, r); err != nil {
			return err
		}
	}
	c.add(quoteIfNeeded(text))
	switch {
	case c.cmp.op == "<" && r.lo == 0 || c.cmp.op == ">" && r.lo == k.max:
		return nil // nothing is below 0 or above the highest value
	case c.cmp.op == "<":
		r = interval{0, r.lo - 1}
	case c.cmp.op == "<=":
		r = interval{0, r.lo}
	case c.cmp.op == ">":
		r = interval{r.lo + 1, k.max}
	case c.cmp.op == ">=":
		r = interval{r.lo, k.max}
	}
	c.set.ranges = append(c.set.ranges, r)
	return nil
}

func (k *numbers) interval(c *checker, it item, text string, dash int) *Error {
	if !k.ranges {
		hint := k.hint
		if hint == "" {
			hint = "write a list such as 1,2,3"
		}
		if _, err := parseNumber(strings.Trim(text, "-")); err != nil && dash > 0 {
			if _, err := parseNumber(text[:dash]); err != nil {
				return k.strange(c, it, text)
			}
		}
		return c.wrong(it, fmt.Sprintf("%s takes no range; %s", c.cmp.operand.name, hint), k.what)
	}
	if c.orders() {
		return c.wrong(it, "a range has no order", "a number")
	}
	r := interval{0, k.max}
	var err *Error
	if from := strings.TrimSpace(text[:dash]); from != "" {
		if r.lo, err = k.number(c, it, from); err != nil {
			return err
		}
	}
	if to := strings.TrimSpace(text[dash+1:]); to != "" {
		if r.hi, err = k.number(c, it, to); err != nil {
			return err
		}
	}
	if r.lo > r.hi {
		return c.wrong(it, fmt.Sprintf("the range %s runs backwards; write %s-%s", text, k.spell(r.hi), k.spell(r.lo)), "a range")
	}
	spelled := k.spell(r.lo)
	if r.lo != r.hi {
		spelled += "-" + k.spell(r.hi)
	}
	return k.take(c, it, r, spelled)
}

func (k *numbers) number(c *checker, it item, text string) (uint32, *Error) {
	n, err := parseNumber(text)
	if err == errTooBig || err == nil && n > uint64(k.max) {
		return 0, c.wrong(it, fmt.Sprintf("%s is more than %s, the highest value of %s", short(text), k.spell(k.max), c.cmp.operand.name), k.what)
	}
	if err != nil {
		return 0, k.strange(c, it, text)
	}
	return uint32(n), nil
}

func (k *numbers) strange(c *checker, it item, text string) *Error {
	var names []string
	for _, n := range k.names {
		names = append(names, n.name)
		names = append(names, strings.Fields(n.aliases)...)
	}
	if k.any {
		names = append(names, "any")
	}
	if k.none {
		names = append(names, "none")
	}
	return c.wrong(it, fmt.Sprintf("%q is not %s%s", short(text), k.what, didYouMean(nearest(text, names, 3))), k.what)
}

var (
	errNoNumber = fmt.Errorf("not a number")
	errTooBig   = fmt.Errorf("number too big")
)

// parseNumber reads digits, decimal or with 0x hexadecimal. A leading zero is no octal sign.
func parseNumber(text string) (uint64, error) {
	digits, base := text, 10
	if len(text) > 2 && (text[:2] == "0x" || text[:2] == "0X") {
		digits, base = text[2:], 16
	}
	for i := range len(digits) {
		if c := digits[i] | 0x20; !(digits[i] >= '0' && digits[i] <= '9' || base == 16 && c >= 'a' && c <= 'f') {
			return 0, errNoNumber
		}
	}
	if digits == "" {
		return 0, errNoNumber
	}
	n, err := strconv.ParseUint(digits, base, 63)
	if err != nil {
		return 0, errTooBig
	}
	return n, nil
}

// named finds a name for a number.
func (k *numbers) named(text string) (uint32, string, bool) {
	for _, n := range k.names {
		if strings.EqualFold(text, n.name) {
			return n.n, n.name, true
		}
		for _, a := range strings.Fields(n.aliases) {
			if strings.EqualFold(text, a) {
				return n.n, n.name, true
			}
		}
	}
	return 0, "", false
}

// spell returns the canonical spelling of a number: its name, or in the base of the operand.
func (k *numbers) spell(n uint32) string {
	for _, name := range k.names {
		if name.n == n {
			return name.name
		}
	}
	if k.hex > 0 {
		return fmt.Sprintf("0x%0*x", k.hex, n)
	}
	return strconv.FormatUint(uint64(n), 10)
}

// readText reads an exact string.
func readText(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	if text == "" {
		return c.wrong(it, "the value is empty", "a text")
	}
	c.set.strings = append(c.set.strings, text)
	c.add(Quote(text))
	return nil
}
