package engine

import (
	"net/url"
	"strings"
	"testing"
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
		{"startTime=yesterday", "microseconds"},
		{"startTime=20&endTime=10", "not after"},
		{"snapPacketLength=0", "1 to 65535"},
		{"snapPacketLength=65536", "1 to 65535"},
		{"fromCaptureBuffer=maybe", "neither"},
		{"format=docx", "pcap-ns"},
		{"undecided=drop", "hold"},
		{"maxBytes=-1", "not a number"},
		{"expression=%zz", "invalid"},
		{"endTime=1&endtime=2", "twice"},
	} {
		_, err := parseCaptureQuery(c.raw, 1_000_000)
		if err == nil || !strings.Contains(err.Text, c.want) {
			t.Errorf("parseCaptureQuery(%q) = %v, want an error that says %q", c.raw, err, c.want)
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
