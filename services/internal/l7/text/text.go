// Package text reads protocols that are written as lines of ASCII, such as HTTP and SIP, in place: what it returns is part of what it was given, and nothing allocates.
package text

import "bytes"

// CutLine splits b behind its first line, whose end (LF or CR LF) it drops. whole is false if the end has not come: then line is all of b.
func CutLine(b []byte) (line, rest []byte, whole bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil, false
	}
	line = b[:i]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, b[i+1:], true
}

// HasPrefix reports whether b begins with s.
func HasPrefix(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

// HasFold reports whether b begins with s, whatever the case of b; s is in lower case.
func HasFold(b []byte, s string) bool { return len(b) >= len(s) && EqualFold(b[:len(s)], s) }

// EqualFold reports whether b is s, whatever the case of b; s is in lower case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if Lower(b[i]) != s[i] {
			return false
		}
	}
	return true
}

// Lower returns c in lower case.
func Lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Digits reports whether b is digits, at least one.
func Digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// Has reports whether b is among the bytes of s, which are few.
func Has(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}
