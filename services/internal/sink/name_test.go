package sink

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestFileName(t *testing.T) {
	start := time.Date(2026, 11, 22, 7, 8, 9, 0, time.UTC)
	for _, c := range []struct{ pattern, filter, want string }{
		{"", "", "galvo_2026-11-22_07-08-09.pcapng"},
		{"", "ip == 10.0.0.1 and port == 80", "galvo_2026-11-22_07-08-09_ip_==_10.0.0.1_and_port_==_80.pcapng"},
		{"", `regexp == "a/b|ä"`, "galvo_2026-11-22_07-08-09_regexp_==__a_b.pcapng"},
		{"office %Y", "", "office_2026.pcapng"},
		{"%D", "", "11_22_26.pcapng"},
		{"../../etc/passwd", "", "_.._etc_passwd.pcapng"},
		{"a.pcapng", "", "a.pcapng"},
		{"nul", "", "galvo_nul.pcapng"},
		{"...", "", "galvo_.pcapng"},
		{"-rf", "", "rf.pcapng"},
		{"Büro %H:%M", "", "Büro_07_08.pcapng"},
		{strings.Repeat("ä", 300), "", strings.Repeat("ä", (maxName-7)/2) + ".pcapng"},
	} {
		if got := FileName(c.pattern, c.filter, start, ""); got != c.want {
			t.Errorf("FileName(%q, %q) = %q, want %q", c.pattern, c.filter, got, c.want)
		}
	}
}

func TestDisposition(t *testing.T) {
	if got, want := Disposition("a b.pcapng"), `attachment; filename="a b.pcapng"`; got != want {
		t.Errorf("Disposition = %s, want %s", got, want)
	}
	if got := Disposition("ä.pcapng"); !strings.Contains(got, "filename*=utf-8''%C3%A4.pcapng") {
		t.Errorf("Disposition = %s", got)
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("galvo_%Y", "ip == 1.2.3.4")
	f.Add("%D\x00/..", "\xff")
	f.Fuzz(func(t *testing.T, pattern, filter string) {
		got := FileName(pattern, filter, time.Unix(0, 0), "pcap")
		if strings.ContainsAny(got, "/\\\x00\n") || len(got) > maxName+len("galvo_") || !utf8.ValidString(got) || strings.HasPrefix(got, ".") {
			t.Errorf("FileName(%q, %q) = %q", pattern, filter, got)
		}
	})
}
