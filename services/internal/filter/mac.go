package filter

import (
	"fmt"
	"strconv"
	"strings"
)

// A macRange is a MAC address or the first bits of one.
type macRange struct{ value, mask uint64 }

func (s *set) hasMAC(a uint64) bool {
	for _, m := range s.macs {
		if a&m.mask == m.value {
			return true
		}
	}
	return false
}

func readMAC(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	bad := c.wrong(it, fmt.Sprintf("%q is not a MAC address; it has six octets such as 00:1b:1b:00:00:01", short(text)), "a MAC address")
	octets, length, hasLength := strings.Cut(text, "/")
	n := uint64(48)
	if hasLength {
		var err error
		if n, err = parseNumber(length); err != nil || n > 48 {
			return c.wrong(it, fmt.Sprintf("%q is not a length in bits of a MAC address", short(length)), "a length from 0 to 48")
		}
	}
	value, count, ok := parseOctets(octets)
	if !ok || count != 6 && !hasLength {
		return bad
	}
	mask := uint64(1<<48-1) &^ (uint64(1)<<(48-n) - 1)
	m := macRange{value << (8 * (6 - count)) & mask, mask}
	c.set.macs = append(c.set.macs, m)
	c.add(m.String())
	return nil
}

// parseOctets reads one to six octets: groups of one or two digits with : or -, or of four digits with points.
func parseOctets(text string) (value uint64, count int, ok bool) {
	separator, digits := ":", 2
	switch {
	case strings.Contains(text, "."):
		separator, digits = ".", 4
	case strings.Contains(text, "-"):
		separator = "-"
	}
	for _, group := range strings.Split(text, separator) {
		n, err := strconv.ParseUint(group, 16, 16)
		if err != nil || len(group) > digits || digits == 4 && len(group) != 4 || group[0] == '+' {
			return 0, 0, false
		}
		value = value<<(4*digits) | n
		count += digits / 2
		if count > 6 {
			return 0, 0, false
		}
	}
	return value, count, true
}

// String returns the canonical spelling.
func (m macRange) String() string {
	n := 0
	for n < 48 && m.mask>>(47-n)&1 != 0 {
		n++
	}
	octets := 6
	if n < 48 {
		octets = max(1, (n+7)/8)
	}
	var b strings.Builder
	for i := range octets {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02x", m.value>>(40-8*i)&0xff)
	}
	if n < 48 {
		fmt.Fprintf(&b, "/%d", n)
	}
	return b.String()
}
