package text

import "testing"

func TestCutLine(t *testing.T) {
	for text, want := range map[string]struct {
		line, rest string
		whole      bool
	}{
		"":           {"", "", false},
		"a":          {"a", "", false},
		"a\r":        {"a\r", "", false},
		"\n":         {"", "", true},
		"\r\n":       {"", "", true},
		"a\nb":       {"a", "b", true},
		"a\r\nb\r\n": {"a", "b\r\n", true},
		"a\r\r\n":    {"a\r", "", true},
	} {
		if line, rest, whole := CutLine([]byte(text)); string(line) != want.line || string(rest) != want.rest || whole != want.whole {
			t.Errorf("%q: %q, %q, %v", text, line, rest, whole)
		}
	}
}

func TestCompares(t *testing.T) {
	for _, c := range []struct {
		what string
		got  bool
		want bool
	}{
		{"a beginning", HasPrefix([]byte("SIP/2.0"), "SIP"), true},
		{"a beginning in another case", HasPrefix([]byte("sip/2.0"), "SIP"), false},
		{"what is longer", HasPrefix([]byte("SI"), "SIP"), false},
		{"a beginning, whatever the case", HasFold([]byte("SIPS:a"), "sips:"), true},
		{"another beginning", HasFold([]byte("TEL:1"), "sips:"), false},
		{"the same", EqualFold([]byte("Call-ID"), "call-id"), true},
		{"not only letters differ in that bit", EqualFold([]byte("@"), "`"), false},
		{"a part", EqualFold([]byte("Call"), "call-id"), false},
		{"digits", Digits([]byte("0189")), true},
		{"no digits", Digits(nil), false},
		{"a hexadecimal digit", Digits([]byte("1a")), false},
		{"one of a few", Has("abc", 'c'), true},
		{"none of them", Has("abc", 'd'), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", c.what, c.got)
		}
	}
}
