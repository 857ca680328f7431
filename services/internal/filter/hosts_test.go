package filter

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

func TestHostNames(t *testing.T) {
	tls, _ := protocol.Lookup("TLS")
	http, _ := protocol.Lookup("HTTP")
	record := &flow.Record{}
	for _, c := range []struct {
		expression string
		host       string
		v          l7.Verdict
		want       Result
	}{
		{"sni == www.example.org", "www.example.org", l7.Verdict{Proto: tls, State: l7.Final}, Yes},
		{"sni == WWW.Example.org.", "www.EXAMPLE.org", l7.Verdict{Proto: tls, State: l7.Final}, Yes},
		{"sni == *.example.org", "www.example.org", l7.Verdict{Proto: tls, State: l7.Final}, Yes},
		{"sni == *.example.org", "example.org", l7.Verdict{Proto: tls, State: l7.Final}, No},
		{"sni == *.example.org", "badexample.org", l7.Verdict{Proto: tls, State: l7.Final}, No},
		{"sni == a.org,*.example.org", "a.b.example.org", l7.Verdict{Proto: tls, State: l7.Final}, Yes},
		{"sni != www.example.org", "www.example.org", l7.Verdict{Proto: tls, State: l7.Final}, No},
		{"sni == www.example.org", "", l7.Verdict{State: l7.Pending}, Unknown},
		{"sni != www.example.org", "", l7.Verdict{State: l7.Pending}, Unknown},
		{"sni == www.example.org", "", l7.Verdict{Proto: tls, State: l7.Partial}, Unknown},
		{"sni == www.example.org", "", l7.Verdict{Proto: tls, State: l7.Final}, No},
		{"sni == www.example.org", "www.example.org", l7.Verdict{Proto: http, State: l7.Final}, No},
		{"httpHost == www.example.org", "www.example.org", l7.Verdict{Proto: http, State: l7.Final}, Yes},
		{"httpHost == www.example.org", "", l7.Verdict{}, No},
	} {
		f, err := Compile(c.expression, nil)
		if err != nil {
			t.Fatal(err)
		}
		ref := &flow.Ref{Flow: record, Host: []byte(c.host)}
		if got := f.Match(&packet.Packet{}, ref, c.v); got != c.want {
			t.Errorf("%s with %q and %+v = %d, want %d", c.expression, c.host, c.v, got, c.want)
		}
	}
	for _, bad := range []string{"sni == a*b", `sni == ""`, "sni == *.", "sni == a/b"} {
		if _, err := Compile(bad, nil); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestDNSNames(t *testing.T) {
	dns, _ := protocol.Lookup("DNS")
	// RFC 1035, 4.1: two questions, www.example.org and a.b.
	message := "\x12\x34\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01\x01a\x01b\x00\x00\x1c\x00\x01"
	for _, c := range []struct {
		expression string
		cut        int // bytes off the end
		want       Result
	}{
		{"dnsName == www.example.org", 0, Yes},
		{"dnsName == *.ORG", 0, Yes},
		{"dnsName == a.b", 0, Yes},
		{"dnsName == example.org", 0, No},
		{"dnsName == a.b", 6, No},
	} {
		f, err := Compile(c.expression, nil)
		if err != nil {
			t.Fatal(err)
		}
		text := message[:len(message)-c.cut]
		for _, layer := range []packet.Layers{packet.UDP, packet.TCP} {
			payload := text
			if layer == packet.TCP {
				payload = "\x00\x2f" + text
			}
			p := &packet.Packet{}
			p.Data = append(make([]byte, 8), payload...)
			p.Layers, p.Payload, p.End = packet.IPv4|layer, 8, uint32(len(p.Data))
			if got := f.Match(p, &flow.Ref{}, l7.Verdict{Proto: dns, State: l7.Final}); got != c.want {
				t.Errorf("%s over %x = %d, want %d", c.expression, layer, got, c.want)
			}
		}
		s := f // every cut of the message is safe
		for i := range len(message) {
			p := &packet.Packet{}
			p.Data = []byte(message[:i])
			p.Layers, p.End = packet.IPv4|packet.UDP, uint32(i)
			s.Match(p, &flow.Ref{}, l7.Verdict{Proto: dns, State: l7.Final})
		}
	}
}

// TestDNSInTunnels wants the questions of the innermost packets, as tshark sees them.
func TestDNSInTunnels(t *testing.T) {
	name, tshark := filepath.Join(need.Corpus(t), "protocols/arkime__gtp-iphone.pcap"), need.Tool(t, "tshark")
	out, err := exec.Command(tshark, "-n", "-r", name, "-T", "fields", "-e", "dns.qry.name").Output()
	if err != nil {
		t.Fatal(err)
	}
	asked := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	names := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(asked))), func(s string) bool { return s == "" })
	var expressions []string
	for _, n := range names {
		expressions = append(expressions, "dnsName == "+n)
	}
	if len(names) == 0 {
		t.Fatal("tshark finds no DNS")
	}
	j := judged(t, name, expressions...)
	for frame, want := range asked {
		for i, n := range names {
			if got := j.results[frame][i] == Yes; got != (n == want) {
				t.Errorf("frame %d: dnsName == %s is %v, tshark says %q", frame+1, n, got, want)
			}
		}
	}
}
