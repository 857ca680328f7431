package regexp

import "testing"

var meanings = []struct {
	pattern, text string
	want          bool
}{
	{``, ``, true},
	{`a*`, ``, true},
	{`a`, ``, false},
	{`allegr[o,a]|HTTP`, "GET / HTTP/1.1", true},
	{`allegr[o,a]|HTTP`, "allegr,", true},
	{`allegr[o,a]|HTTP`, "allegri http", false},
	{`(?i)allegro|http`, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxHtTp", true},
	{`[a-z]+allegro`, "ALLEGROallegro", false},
	{`[a-z]+allegro`, "ALLEGROxallegro", true},
	{`\x16\x03[\x00-\x03].{2}\x01`, "\x16\x03\x01\x00\xf0\x01", true},
	{`\x16\x03[\x00-\x03].{2}\x01`, "\x16\x03\x01\x00\n\x01", false},
	{`\xff\xfe`, "a\xff\xfe", true},
	{`ä`, "\xc3\xa4", true},
	{`^ä{2}$`, "ää", true},
	{`gr[üu]n`, "grün", true},
	{`a$`, "a\n", true},
	{`a$`, "a\n\n", false},
	{`a\z`, "a\n", false},
	{`a\Z`, "a\n", true},
	{`a$\n`, "a\n", true},
	{`(?m)a$`, "a\nb", true},
	{`(?m)^b`, "a\nb", true},
	{`(?m)^`, "", true},
	{`(?m)^\z`, "a\n", false},
	{`a.b`, "a\nb", false},
	{`(?s)a.b`, "a\nb", true},
	{`a\Rb`, "a\r\nb", true},
	{`a\R\nb`, "a\r\nb", false},
	{`a\R\nb`, "a\r\r\nb", false},
	{`a\sb`, "a\vb", true},
	{`\bfoo\b`, "a foo.", true},
	{`\bfoo\b`, "afoo.", false},
	{`\bfoo\b`, "foo", true},
	{`foo\B`, "foob", true},
	{`foo\B`, "foo", false},
	{`a\Q.*\Eb`, "a.*b", true},
	{`a\Q.*\E+b`, "a.***b", true},
	{`(?x) a b # c
	 c`, "abc", true},
	{`a(?i)b|c`, "C", true},
	{`(a(?i)b)c`, "abC", false},
	{`https?://`, "http://", true},
	{`^GET`, "GET /", true},
	{`^GET`, " GET", false},
	{`(?:^|,)gzip`, "x,gzip", true},
	{`(?:^|,)gzip`, "xgzip", false},
	{`[[:alpha:]]{3}[^[:^digit:]]`, "abc1", true},
	{`[]a]`, "]", true},
	{`\cA\e\101`, "\x01\x1bA", true},
	{`a{,2}`, "a{,2}", true},
	{`(a|a)*b`, "aaaaaaaaaaaaaaaaaaaaaaaaac", false},
}

func TestMeaning(t *testing.T) {
	for _, test := range meanings {
		re, err := Compile(test.pattern)
		if err != nil {
			t.Errorf("Compile(%q): %v", test.pattern, err)
			continue
		}
		if got := re.Match([]byte(test.text)); got != test.want {
			t.Errorf("%q matches %q = %v, want %v", test.pattern, test.text, got, test.want)
		}
	}
}
