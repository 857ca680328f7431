package filter

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"galvo/services/internal/country"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// rows reads the columns of a test table; lines that begin with # are notes.
func rows(t testing.TB, name string, columns int) [][]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for i, line := range strings.Split(string(data), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "\t")
		if len(row) != columns {
			t.Fatalf("%s:%d: %d columns, want %d", name, i+1, len(row), columns)
		}
		out = append(out, row)
	}
	return out
}

// testEnv has ports, links, groups and countries.
func testEnv() *Env {
	return &Env{
		Ports:   []Port{{ID: 1, Name: "eth1", Link: 1}, {ID: 2, Name: "eth2", Link: 1, CanFCS: true}, {ID: 3, Name: "eth3"}},
		Groups:  []Group{{Name: "branch office", Interfaces: []int{2}, VLANs: []int{10, 20}}, {Name: "lab", Links: []int{1}}, {Name: "tagged", VLANs: []int{10}}},
		Country: countries{},
		Live:    true,
	}
}

// countries knows two networks.
type countries struct{}

func (countries) Lookup4(addr uint32) ([2]byte, bool) {
	switch {
	case addr>>8 == 0xc00002:
		return [2]byte{'N', 'L'}, true
	case addr>>24 == 10:
		return country.Private, false
	}
	return country.Unknown, false
}

func (countries) Lookup6(hi, _ uint64) ([2]byte, bool) {
	if hi>>32 == 0x20010db8 {
		return [2]byte{'D', 'E'}, true
	}
	return country.Unknown, false
}

func (countries) Codes() []string { return []string{"DE", "NL", "US"} }

// TestMatch: testdata/match.tsv says which frames of the zoo an expression selects.
func TestMatch(t *testing.T) {
	frames := zoo()
	for _, row := range rows(t, "testdata/match.tsv", 2) {
		f, err := Compile(row[0], testEnv())
		if err != nil {
			t.Errorf("%s: %v", row[0], err)
			continue
		}
		var got []string
		for _, name := range sortedKeys(frames) {
			if f.Match(decoded(frames[name]), nil, l7.Verdict{}) == Yes {
				got = append(got, name)
			}
		}
		if text := strings.Join(got, ","); text != row[1] {
			t.Errorf("%s\tselects\t%s\twant\t%s", row[0], text, row[1])
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, row := range rows(t, "testdata/canonical.tsv", 2) {
		f, err := Compile(row[0], testEnv())
		if err != nil {
			t.Errorf("%s: %v", row[0], err)
			continue
		}
		if got := f.String(); got != row[1] {
			t.Errorf("canonical form of %s = %s, want %s", row[0], got, row[1])
		}
		again, err := Compile(f.String(), testEnv())
		if err != nil || again.String() != f.String() {
			t.Errorf("%s is not its own canonical form: %v %v", f, again, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, row := range rows(t, "testdata/errors.tsv", 4) {
		f, err := Compile(row[0], testEnv())
		if err == nil {
			t.Errorf("%s is taken as %s", row[0], f)
			continue
		}
		e := err.(*Error)
		got := []string{strconv.Itoa(e.Pos), strconv.Itoa(e.Len), e.Message}
		if !slices.Equal(got, row[1:]) {
			t.Errorf("%s\t%s", row[0], strings.Join(got, "\t"))
		}
	}
}

// TestUnknownOperand: what could stand there is what the message says.
func TestUnknownOperand(t *testing.T) {
	for _, source := range []string{"host == 10.0.0.1", "dns", "ip.addr == 10.0.0.1", "prt == 80", "tcp", "80", "10.0.0.1 and port == 80"} {
		_, err := Compile(source, nil)
		var e *Error
		if !errors.As(err, &e) || len(e.Expected) == 0 || !strings.Contains(e.Message, "(did you mean "+orList(e.Expected)+"?)") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// An expression that is not UTF-8 is refused where it is not, and not for what is missing then.
func TestNotText(t *testing.T) {
	for source, at := range map[string]int{"\xff": 0, "port == 80 and \xe4": 15, "l7Protocol == \"\xc3\"": 15, "ip == 1.2.3.4 \xed\xa0\x80": 14} {
		_, err := Compile(source, testEnv())
		e, ok := err.(*Error)
		if !ok || e.Pos != at || e.Len != 1 || !strings.Contains(e.Message, "UTF-8") {
			t.Errorf("%q: %v", source, err)
		}
	}
	if _, err := Compile("url == \"\ufffd\"", testEnv()); err != nil && strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("the replacement character is UTF-8: %v", err)
	}
}

func TestWords(t *testing.T) {
	for _, row := range rows(t, "testdata/words.tsv", 2) {
		f, err := Compile(row[0], testEnv())
		if err != nil {
			t.Errorf("%s: %v", row[0], err)
		} else if got := f.Words(); got != row[1] {
			t.Errorf("%s\t%s", row[0], got)
		}
	}
}

// TestVerdicts: what l7Protocol says in each state of a verdict.
func TestVerdicts(t *testing.T) {
	tls, _ := protocol.Lookup("TLS")
	http, _ := protocol.Lookup("HTTP")
	p := decoded(zoo()["tcp data"])
	for _, c := range []struct {
		expression string
		verdict    l7.Verdict
		guesses    bool
		want       Result
	}{
		{"l7Protocol == TLS", l7.Verdict{}, false, No},
		{"l7Protocol != TLS", l7.Verdict{}, false, Yes},
		{"l7Protocol == TLS", pending, false, Unknown},
		{"l7Protocol != TLS", pending, false, Unknown},
		{"l7Protocol == unknown", pending, false, Unknown},
		{"l7Protocol == TLS or port == 80", pending, false, Yes},
		{"l7Protocol != TLS and port == 81", pending, false, No},
		{"l7Protocol == TLS", l7.Verdict{Proto: tls, State: l7.Partial}, false, Yes},
		{"l7Protocol == HTTP", l7.Verdict{Proto: tls, State: l7.Partial}, false, No},
		{"l7Protocol == YouTube", l7.Verdict{Proto: tls, State: l7.Partial}, false, Unknown},
		{"l7Protocol != YouTube", l7.Verdict{Proto: tls, State: l7.Partial}, false, Unknown},
		{"l7Protocol == YouTube", l7.Verdict{Proto: tls, State: l7.Final}, false, No},
		{"l7Protocol == YouTube,TLS", l7.Verdict{Proto: tls, State: l7.Partial}, false, Yes},
		{"dpiprotocol == http", l7.Verdict{Proto: tls, App: http, State: l7.Final}, false, Yes},
		{"l7Protocol == DNS,http", l7.Verdict{Proto: http, State: l7.Final}, false, Yes},
		{"l7Protocol == http", l7.Verdict{Proto: http, State: l7.Guessed}, false, No},
		{"l7Protocol == unknown", l7.Verdict{Proto: http, State: l7.Guessed}, false, Yes},
		{"l7Protocol == http", l7.Verdict{Proto: http, State: l7.Guessed}, true, Yes},
		{"l7Protocol == unknown", l7.Verdict{Proto: http, State: l7.Guessed}, true, No},
		{"l7Protocol == unknown", l7.Verdict{State: l7.Unknown}, false, Yes},
		{"l7Protocol != http", l7.Verdict{State: l7.Unknown}, false, Yes},
	} {
		f, err := Compile(c.expression, &Env{Guesses: c.guesses})
		if err != nil {
			t.Fatal(err)
		}
		if !f.NeedsL7() {
			t.Errorf("%s needs no verdict", f)
		}
		if got := f.Match(p, nil, c.verdict); got != c.want {
			t.Errorf("%s for %+v = %d, want %d", c.expression, c.verdict, got, c.want)
		}
		inSets(t, f, p, nil, c.verdict, c.want)
	}
}

// inSets checks a filter alone in a set, where it is called, and among others, where what it looks for is looked up.
func inSets(t *testing.T, f *Filter, p *packet.Packet, ref *flow.Ref, v l7.Verdict, want Result) {
	t.Helper()
	for _, others := range [][]*Filter{nil, captures(t, 5)} {
		yes, unknown := NewSet(append(others, f)).Match(p, ref, v)
		if got := result(yes, unknown, len(others)); got != want {
			t.Errorf("%s for %+v in a set after %d others = %d, want %d", f, v, len(others), got, want)
		}
	}
}

// result returns that of filter i.
func result(yes, unknown uint64, i int) Result { return Result(yes>>i&1 + unknown>>i&1*2) }

// TestPlaces: interfaces, links and groups, which depend on the receiving port.
func TestPlaces(t *testing.T) {
	frames := zoo()
	for _, c := range []struct {
		expression string
		frame      string
		iface      uint16
		want       Result
	}{
		{"interface == 1,3", "vlan", 0, Yes},
		{"interface == 2-3", "vlan", 0, No},
		{"link == 1", "vlan", 1, Yes},
		{"link == 1", "vlan", 2, No},
		{"link != 1", "vlan", 2, Yes},
		{`group == "branch office"`, "vlan", 1, Yes},
		{`group == lab`, "vlan", 1, No},
		{`group == lab`, "vlan", 0, Yes},
		{`group == lab`, "tcp syn", 1, Yes},
		{`group == tagged`, "vlan", 2, Yes},
		{`group == default`, "tcp syn", 2, Yes},
		{`group == lab,default`, "tcp syn", 2, Yes},
	} {
		f, err := Compile(c.expression, testEnv())
		if err != nil {
			t.Fatal(err)
		}
		p := decoded(frames[c.frame])
		p.Iface = c.iface
		if got := f.Match(p, nil, l7.Verdict{}); got != c.want {
			t.Errorf("%s on interface %d, %s = %d, want %d", c.expression, c.iface+1, c.frame, got, c.want)
		}
	}
}

// TestSyntax: a check without configuration takes its names as they are.
func TestSyntax(t *testing.T) {
	for _, expression := range []string{`group == "branch office"`, "link == 7", "interface == 9", "countryCode == US", "group == default"} {
		f, err := Compile(expression, &Env{Syntax: true})
		if err != nil || f.String() != expression {
			t.Errorf("%s: %v, %v", expression, f, err)
		}
	}
	for _, expression := range []string{`group == "branch office"`, "link == 7", "countryCode == US"} {
		if _, err := Compile(expression, nil); err == nil {
			t.Errorf("%s is taken for a savefile without configuration, where it matches nothing", expression)
		}
	}
}

// TestServerPort: both directions match the port of the side that got the SYN.
func TestServerPort(t *testing.T) {
	frames := zoo()
	table := flow.New(flow.Config{Flows: 64})
	table.Begin()
	for _, c := range []struct {
		expression string
		want       Result
	}{{"serverport == 80", Yes}, {"serverport == 40000", No}, {"serverport == 1-100", Yes}, {"serverport < 80", No}, {"serverport != 80", No}} {
		f, err := Compile(c.expression, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"tcp syn", "tcp syn ack", "tcp data"} {
			p := decoded(frames[name])
			ref := table.Find(p)
			if got := f.Match(p, &ref, l7.Verdict{}); got != c.want {
				t.Errorf("%s for %s = %d, want %d", c.expression, name, got, c.want)
			}
		}
	}
}

// TestFragments: later fragments have the first one's ports, unless that is switched off.
func TestFragments(t *testing.T) {
	frames := zoo()
	for _, c := range []struct {
		use  FragmentUse
		want Result
	}{{WholeDatagrams, Yes}, {OwnHeaders, No}} {
		table := flow.New(flow.Config{Flows: 64})
		table.Begin()
		first, last := decoded(frames["fragment"]), decoded(frames["fragment last"])
		table.Find(first)
		ref := table.Find(last)
		for _, expression := range []string{"port == 5001", "ip == 10.0.0.1:5000", "srcport == 5000"} {
			f, _ := Compile(expression, &Env{Fragments: c.use})
			if got := f.Match(last, &ref, l7.Verdict{}); got != c.want {
				t.Errorf("%s for the last fragment = %d, want %d", expression, got, c.want)
			}
			inSets(t, f, last, &ref, l7.Verdict{}, c.want)
		}
	}
}

// TestTunnels: what each view sees of a VXLAN packet.
func TestTunnels(t *testing.T) {
	p := decoded(zoo()["vxlan"])
	for _, c := range []struct {
		expression        string
		outer, inner, any Result
	}{
		{"ip == 10.0.0.1", Yes, No, Yes},
		{"ip == 172.16.0.1", No, Yes, Yes},
		{"ip != 172.16.0.1", Yes, No, No},
		{"port == 4789 and port == 2222", No, No, Yes},
		{"tcpFlags == syn+ack", No, Yes, Yes},
		{"vni == 100", Yes, No, Yes},
		{"len == 109", Yes, Yes, Yes},
	} {
		for view, want := range map[TunnelView]Result{OuterHeaders: c.outer, InnerHeaders: c.inner, AnyHeaders: c.any} {
			f, err := Compile(c.expression, &Env{Tunnels: view})
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(p, nil, l7.Verdict{}); got != want {
				t.Errorf("%s with view %d = %d, want %d (%d bytes)", c.expression, view, got, want, p.Len)
			}
			inSets(t, f, p, nil, l7.Verdict{}, want)
		}
	}
}

// TestFCS: badCRC knows good, bad and not known; where no port can tell it is refused.
func TestFCS(t *testing.T) {
	for _, c := range []struct {
		flags     packet.Flags
		bad, good Result
	}{{0, No, No}, {packet.FCSGood, No, Yes}, {packet.FCSBad, Yes, No}} {
		p := decoded(zoo()["arp"])
		p.Flags = c.flags
		for expression, want := range map[string]Result{"badCRC == 1": c.bad, "badCRC == 0": c.good} {
			f, err := Compile(expression, testEnv())
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(p, nil, l7.Verdict{}); got != want || !f.NeedsFCS() {
				t.Errorf("%s with flags %#x = %d, want %d", expression, c.flags, got, want)
			}
		}
	}
	_, err := Compile("badCRC == 1", &Env{Live: true, Ports: []Port{{ID: 1}}})
	if err == nil || !strings.Contains(err.Error(), "none of the ports can") {
		t.Errorf("badCRC on ports that cannot tell: %v", err)
	}
}

// TestLimits: what is too long or too deep is refused with a reason.
func TestLimits(t *testing.T) {
	for _, expression := range []string{
		strings.Repeat("(", 100000), strings.Repeat("!", 60000) + "port == 1", strings.Repeat("not ", 300) + "port == 1",
		strings.Repeat("port == 1 or ", 6000) + "port == 1", "port == " + strings.Repeat("9", 5000), "port == " + strings.Repeat("1,", 40000),
	} {
		if _, err := Compile(expression, nil); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.30q of %d bytes: %v", expression, len(expression), err)
		}
	}
	if _, err := Compile(strings.Repeat("port == 1 or ", 4000)+"port == 1", nil); err != nil {
		t.Error(err)
	}
	if _, err := Compile(strings.Repeat("(", maxDepth-1)+"port == 1"+strings.Repeat(")", maxDepth-1), nil); err != nil {
		t.Error(err)
	}
}

// TestLinkNames: macProtocol knows the names that package l7 gives EtherTypes.
func TestLinkNames(t *testing.T) {
	for text, want := range map[string]string{"cc-link_ie": "CC-Link_IE", "0x890f": "0x890f", "SERCOS": "SERCOS", "SERCOS_III": "SERCOS_III", "E-TAG": "ETag"} {
		f, err := Compile("macProtocol == "+text, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := strings.TrimPrefix(f.String(), "macProtocol == "); got != want {
			t.Errorf("%s is printed as %s, want %s", text, got, want)
		}
	}
	f, err := Compile("macProtocol == MOP", nil)
	if err != nil {
		t.Fatal(err)
	}
	for et, want := range map[uint16]Result{0x6001: Yes, 0x6002: Yes, 0x6003: No} {
		if got := f.Match(decoded(ethernet(hostA, hostB, et, make([]byte, 46))), nil, l7.Verdict{}); got != want {
			t.Errorf("%04x is MOP: %d", et, got)
		}
	}
}

// TestCiscoHDLC: CDP has the number of its SNAP header as the protocol of Cisco HDLC.
func TestCiscoHDLC(t *testing.T) {
	f, err := Compile("macProtocol == CDP", nil)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Result{"\x8f\x00\x20\x00\x02\xb4\x00\x00": Yes, "\x8f\x00\x80\x35\x00\x00\x00\x02": No} {
		p := &packet.Packet{Frame: packet.Frame{Data: []byte(text), Len: uint32(len(text))}}
		p.Decode(packet.LinkCHDLC)
		if got := f.Match(p, new(flow.Ref), pending); got != want {
			t.Errorf("%s is %v of %x, want %v", f, got, text, want)
		}
	}
}
