package engine

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"galvo/services/api"
)

func TestCaptureQueryExpression(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"expression=ip==1.2.3.4", "ip==1.2.3.4"},
		{"expression=ip==1.2.3.4&&port==80", "ip==1.2.3.4&&port==80"},
		{"expression=ip==1.2.3.4&&port==80&snapPacketLength=100", "ip==1.2.3.4&&port==80"},
		{"EXPRESSION=tcpFlags==syn+ack", "tcpFlags==syn+ack"},
		{"expression=ip%20==%2010.0.0.1;x", "ip == 10.0.0.1;x"},
		{`expression=regexp=="a&b"&endTime=now`, `regexp=="a&b"`},
		{`expression=regexp==%22a&b%22&endTime=now`, `regexp=="a&b"`},
		{`expression=regexp=="a\"&b"&endTime=now`, `regexp=="a\"&b"`},
		{`expression=regexp==%22a%5C%22&b%22&endTime=now`, `regexp=="a\"&b"`},
		{`expression=regexp=='a&b"'&endTime=now`, `regexp=='a&b"'`},
		{`expression=regexp==%27a&b%22%27&endTime=now`, `regexp=='a&b"'`},
		{`expression=regexp==%E2%80%9Ca&b%E2%80%9D&endTime=now`, `regexp==“a&b”`},
		{`expression=regexp==“a&b”&endTime=now`, `regexp==“a&b”`},
		{`expression=regexp+eq+"a&b"&endTime=now`, `regexp+eq+"a&b"`},
		{`expression=callId==o'brien&endTime=now`, `callId==o'brien`},
		{`expression=regexp=="a\\"&endTime=now`, `regexp=="a\\"`},
		{`expression=regexp=='a\'&endTime=now`, `regexp=='a\'`},
		{`expression=group==a%26b&endTime=now`, `group==a&b`},
		{"endTime=now&expression=vlan==5||mpls==3", "vlan==5||mpls==3"},
		{"endTime=now&&expression=vlan==5", "vlan==5"},
		{"endTime=now", ""},
	} {
		q, err := parseCaptureQuery(c.raw, 1_000_000)
		if err != nil {
			t.Errorf("parseCaptureQuery(%q): %v", c.raw, err)
		} else if q.Expression != c.want {
			t.Errorf("parseCaptureQuery(%q) has expression %q, want %q", c.raw, q.Expression, c.want)
		}
	}
}

func TestCaptureQueryFormExpression(t *testing.T) {
	q, err := parseCaptureQuery("expression=ip+==+10.0.0.1+and+tcpFlags==syn%2Back", 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ip == 10.0.0.1 and tcpFlags==syn+ack"; q.FormExpression != want {
		t.Errorf("the form reading is %q, want %q", q.FormExpression, want)
	}
}

func TestCaptureQueryErrors(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"nonsense=1", "unknown parameter"},
		{"nonsense", "unknown parameter"},
		{"expression=port==80&port==81", "write && before it"},
		{"expression=port==80&ttl>=9", "write && before it"},
		{"startTime=yesterday", "microseconds"},
		{"startTime=20&endTime=10", "not after"},
		{"snapPacketLength=0", "1 to 65535"},
		{"snapPacketLength=65536", "1 to 65535"},
		{"fromCaptureBuffer=maybe", "neither"},
		{"format=docx", "pcap-ns"},
		{"undecided=drop", "hold"},
		{"maxBytes=-1", "not a whole number from 0 to 18446744073709551615"},
		{"startTime=4611686018427388", "before the year 2116"},
		{"mm-id=foo", "slot such as :1"},
		{"fromCaptureBuffer=true&ring=live", "not the name of a ring"},
		{"fromCaptureBuffer=true&ring=a&mm-id=:1", "do not go together"},
		{"captureToMedia=false&device=data", "captureToMedia=true"},
		{"directory=x", "captureToMedia=true"},
		{"splitBytes=1", "captureToMedia=true"},
		{"splitSeconds=1", "captureToMedia=true"},
		{"expression=group==%&endTime=now", "invalid"},
		{"expression=%zz", "invalid"},
		{"endTime=1&endtime=2", "twice"},
		{"maxSeconds=1000000001", "number of seconds"},
		{"splitSeconds=-1", "number of seconds"},
		{"fileName=" + strings.Repeat("x", 256), "255 is the most"},
	} {
		_, err := parseCaptureQuery(c.raw, 1_000_000)
		if err == nil || !strings.Contains(err.Text, c.want) {
			t.Errorf("parseCaptureQuery(%q) = %v, want an error that says %q", c.raw, err, c.want)
		}
	}
}

// The description of the API names the parameters that there are.
func TestCaptureQueryIsDescribed(t *testing.T) {
	for _, r := range api.Routes() {
		if r.Path != api.CaptureURLPath {
			continue
		}
		var names []string
		for _, q := range r.Query {
			name, _, _ := strings.Cut(q, ": ")
			names = append(names, name)
		}
		want := slices.Clone(captureParameterNames)
		slices.Sort(want)
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("described are %v, want %v", names, want)
		}
	}
}

func FuzzCaptureQuery(f *testing.F) {
	f.Add("startTime=1517306266000000&endTime=1517309267000000&expression=l7Protocol==HTTP&snapPacketLength=65535&fromCaptureBuffer=true")
	f.Add(`expression=regexp=="a&b"&&port==80&x`)
	f.Fuzz(func(t *testing.T, raw string) {
		parseCaptureQuery(raw, 1)
		q, err := parseCaptureQuery("expression="+url.PathEscape(raw), 1)
		if err == nil && strings.Count(raw, "&") == 0 && q.Expression != raw {
			t.Errorf("the encoded expression %q was read as %q", raw, q.Expression)
		}
	})
}

// What the page's form has, the URL has.
func TestCaptureQueryTakesAllOptions(t *testing.T) {
	q, err := parseCaptureQuery("maxSeconds=7&comment=it%27s&deviceInfo=true&fileName=%25Y&directory=a/b&splitBytes=8&splitSeconds=9&captureToMedia=true", 1)
	if err != nil {
		t.Fatal(err)
	}
	if q.MaxSeconds != 7 || q.Comment != "it's" || !q.DeviceInfo || q.FileName != "%Y" || q.Sink.Directory != "a/b" || *q.Sink.SplitBytes != 8 || *q.Sink.SplitSeconds != 9 {
		t.Errorf("read %+v", q)
	}
}

// TestReadPlus: form encoding writes blanks as +, people write tcpFlags==syn+ack, and what is wrong is said of what was meant.
func TestReadPlus(t *testing.T) {
	for raw, want := range map[string]string{
		"tcpFlags==syn+ack":            "tcpFlags==syn+ack",
		"tcpFlags+%3D%3D+syn%2Back":    "tcpFlags == syn+ack",
		"ip+%3D%3D+10.0":               "ip == 10.0",
		"tcpFlags==syn+akc":            "tcpFlags==syn+akc",
		"port==80+and+port==x":         "port==80 and port==x",
		"tcpFlags+==+syn+ack":          "tcpFlags == syn ack",
		"regexp+%3D%3D+%22a%2Bb%28%22": `regexp == "a+b("`,
	} {
		q, wrong := parseCaptureQuery("expression="+raw, 0)
		if wrong != nil {
			t.Fatal(wrong)
		}
		if q.readPlus(nil); q.Expression != want {
			t.Errorf("%s is read as %q, want %q", raw, q.Expression, want)
		}
	}
}
