package protocol

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	h := BuiltinHosts()
	n := 0
	for range h.Applications() {
		n++
	}
	if n < 300 {
		t.Errorf("%d entries", n)
	}
	for name, want := range map[string]string{
		"google.com": "Google", "www.google.com": "Google", "www.google.de.": "Google", "www.google.co.uk": "Google", "google.com.br": "Google",
		"mail.google.com": "GMail", "a.b.c.d.e.f.g.mail.google.com": "GMail", "maps.google.it": "GoogleMaps", "www.maps.google.co.jp": "GoogleMaps",
		"rr1---sn-4g5e6nzz.googlevideo.com": "YouTube", "static.xx.fbcdn.net": "Facebook", "notgoogle.com": "", "google.com.example.org": "", "google": "",
		"google.example": "", "com": "", "": "", ".": "", "...": "", "de.google": "", "teams.microsoft.com": "Teams", "www.microsoft.com": "Microsoft",
		"cdn.discordapp.com": "Discord", "s3.eu-central-1.amazonaws.com": "AmazonAWS", "www.amazon.co.jp": "Amazon", "alexa.amazon.co.uk": "AmazonAlexa",
		"instagram.fmxp1-1.fna.fbcdn.net": "Instagram", "video.fmxp1-1.fna.fbcdn.net": "FbookReelStory", "instagram.fbcdn.net": "Facebook", "scontent.xx.fbcdn.net": "Facebook",
		"nflxvideo.net": "NetFlix", "o.lencr.org": "OCSP", "dns.google": "DoH_DoT", "xn--fiqs8s": "",
	} {
		if got := Name(ID(h.Find([]byte(name)))); got != want {
			t.Errorf("%q belongs to %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Find([]byte("www.some.name.of.example.co.uk")) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func TestReadHosts(t *testing.T) {
	h, err := ReadHosts("# ours\nSalesforce\n\tcrm.example.com  Intranet.Example.*\nzoom\n call.crm.example.com google.com\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a.crm.example.com": "Salesforce", "call.crm.example.com": "Zoom", "intranet.example.de": "Salesforce", "www.google.com": "Zoom", "mail.google.com": "GMail",
	} {
		if got := Name(ID(h.Find([]byte(name)))); got != want {
			t.Errorf("%q belongs to %q, want %q", name, got, want)
		}
	}
	for text, want := range map[string]string{
		"\texample.com":                     "line 1: names of servers, and no application",
		"Zoom\n\n\thttp://a.example":        `line 3: "http://a.example" is not the name`,
		"Zoom\n a..b":                       "line 2",
		"Zoom\n co.uk":                      `line 2: "co.uk" is a suffix below which everybody`,
		"Zoom\n com":                        "line 2",
		"Zoom\n a.b.c.d.e.f.g.com":          "line 2",
		"Gogle\n a.com":                     `line 1: no application or protocol "Gogle"; did you mean Google`,
		"Zoom example.com":                  `line 1: "example.com" after the application's name`,
		"Zoom 17 Web\n example.com":         `line 1: "17" after`,
		"Zoom\n *.example.com":              "line 2",
		"Zoom\n a.*.com":                    "line 2",
		"Zoom\n a.b.*.example.com":          "line 2",
		"Zoom\n exa*mple.com":               "line 2",
		"Zoom\n " + strings.Repeat("a", 64): "line 2",
	} {
		if _, err := ReadHosts(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("www.google.co.uk", "Zoom\n a.example")
	f.Fuzz(func(t *testing.T, name, text string) {
		BuiltinHosts().Find([]byte(name))
		if h, err := ReadHosts(text); err == nil {
			h.Find([]byte(name))
		}
	})
}
