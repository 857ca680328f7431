package filter

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
)

// comparisons are what random expressions are made of.
var comparisons = []string{
	"ip == 10.0.0.1", "ip == 10.0.0.0/16:53", "ip == 2001:db8::/32", "ip == fe80::1", "ip == [2001:db8::1]:500", "srcip == 192.0.2.7", "dstip == 10.0.0.1", "ip != 10.0.0.1",
	"ip == 10.0.0.1/255.0.0.255", "mac == 00:1b:1b/24", "dstmac == ff:ff:ff:ff:ff:ff", "mactype == multicast", "port == 80", "port == 53,5060", "portrange == 300-50000", "port < 100", "port < 0",
	"srcport == 80", "serverport == 80", "vlan == 10", "vlan == any", "vlan == none,20", "innervlan == 20", "outervlan == 100", "l4Protocol == TCP", "l4Protocol == UDP,ICMP", "l4Protocol != TCP",
	"l7Protocol == HTTP", "l7Protocol != DNS,TLS", "l7Protocol == unknown", "macProtocol == IPv4", `macProtocol == "Non IP"`, "mpls == any", "ipFragment == 1", "ttl < 5", "ttl >= 5", "len > 100",
	`regexp == "allegro"`, `regexp == "^$"`, `streamRegexp == "allegro"`, `streamRegexp == "^$","x al+[e-g]"`, `streamRegexp != "r?o\\b"`, "tcpFlags == syn", "tcpFlags == ack+!syn", "arpip == 192.168.1.1", "multicastGroup == any", "interface == 1", "qosIpDscp == EF", "callId == leg-2", "rtpPayloadType == 0",
}

// expressions draws random expressions.
func expressions() *rapid.Generator[string] {
	var draw func(t *rapid.T, depth int) string
	draw = func(t *rapid.T, depth int) string {
		kind := 0
		if depth > 0 {
			kind = rapid.IntRange(0, 5).Draw(t, "kind")
		}
		switch kind {
		case 1, 2, 3:
			op := rapid.SampledFrom([]string{" and ", " or ", " && ", "||"}).Draw(t, "op")
			return "(" + draw(t, depth-1) + op + draw(t, depth-1) + ")"
		case 4:
			return "!(" + draw(t, depth-1) + ")"
		case 5:
			return draw(t, depth-1) + rapid.SampledFrom([]string{" and ", " or "}).Draw(t, "op") + draw(t, depth-1)
		}
		return rapid.SampledFrom(comparisons).Draw(t, "comparison")
	}
	return rapid.Custom(func(t *rapid.T) string { return draw(t, 4) })
}

// A scene is a packet with what a worker knows about it.
type scene struct {
	p   *packet.Packet
	ref flow.Ref
	v   l7.Verdict
}

// scenes are the frames of the zoo in every state of a verdict.
func scenes() (all []scene) {
	frames := zoo()
	table := flow.New(flow.Config{Flows: 256})
	table.Begin()
	var verdicts []l7.Verdict
	http, _ := protocol.Lookup("HTTP")
	for state := l7.NoFlow; state <= l7.Unknown; state++ {
		v := l7.Verdict{State: state}
		if state == l7.Partial || state == l7.Final || state == l7.Guessed {
			v.Proto = http
		}
		verdicts = append(verdicts, v)
	}
	for _, name := range sortedKeys(frames) {
		p := decoded(frames[name])
		ref := table.Find(p)
		for _, v := range verdicts {
			all = append(all, scene{p, ref, v})
			if n := len(payload(p)); p.Layers&(packet.TCP|packet.LaterFragment) == packet.TCP && n > 0 {
				within := ref
				within.Stream = &flow.Stream{Before: []byte("x al"), After: []byte("allegro"), Skip: n / 2, New: n - n/2, Open: n%2 == 0, More: n%3 == 0}
				all = append(all, scene{p, within, v})
			}
		}
	}
	return all
}

func compiled(t *rapid.T, expression string) *Filter {
	f, err := Compile(expression, nil)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return f
}

// same fails unless two expressions have the same result for every packet.
func same(t *rapid.T, all []scene, a, b string) {
	f, g := compiled(t, a), compiled(t, b)
	for i := range all {
		s := &all[i]
		if x, y := f.Match(s.p, &s.ref, s.v), g.Match(s.p, &s.ref, s.v); x != y {
			t.Fatalf("%s = %d but %s = %d (scene %d)", a, x, b, y, i)
		}
	}
}

func TestLaws(t *testing.T) {
	all := scenes()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := expressions().Draw(t, "a"), expressions().Draw(t, "b"), expressions().Draw(t, "c")
		same(t, all, fmt.Sprintf("!(!(%s))", a), a)
		same(t, all, fmt.Sprintf("!((%s) and (%s))", a, b), fmt.Sprintf("!(%s) or !(%s)", a, b))
		same(t, all, fmt.Sprintf("!((%s) or (%s))", a, b), fmt.Sprintf("!(%s) and !(%s)", a, b))
		same(t, all, fmt.Sprintf("(%s) and (%s)", a, b), fmt.Sprintf("(%s) and (%s)", b, a))
		same(t, all, fmt.Sprintf("(%s) or (%s)", a, b), fmt.Sprintf("(%s) or (%s)", b, a))
		same(t, all, fmt.Sprintf("(%s) and ((%s) or (%s))", a, b, c), fmt.Sprintf("(%s) and (%s) or (%s) and (%s)", a, b, a, c))
		same(t, all, fmt.Sprintf("(%s) or (%s) and (%s)", a, b, c), fmt.Sprintf("((%s) or (%s)) and ((%s) or (%s))", a, b, a, c))
		same(t, all, compiled(t, a).String(), a)
		if canonical := compiled(t, a).String(); compiled(t, canonical).String() != canonical {
			t.Fatalf("%s is not its own canonical form", canonical)
		}
	})
}

// TestComplement: != and ! are exact complements of ==, unknown stays unknown.
func TestComplement(t *testing.T) {
	all := scenes()
	for _, text := range comparisons {
		f, err := Compile(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		g, _ := Compile("!("+text+")", nil)
		if flipped := strings.Replace(text, " == ", " != ", 1); flipped != text && g.String() != compiledOrDie(t, flipped).String() {
			t.Errorf("!(%s) is %s", text, g)
		}
		for i := range all {
			s := &all[i]
			if x, y := f.Match(s.p, &s.ref, s.v), g.Match(s.p, &s.ref, s.v); y != complement[x] {
				t.Fatalf("%s = %d, its complement %d", text, x, y)
			}
		}
	}
}

func compiledOrDie(t *testing.T, expression string) *Filter {
	f, err := Compile(expression, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSetIsItsFilters: a set gives what each filter gives alone.
func TestSetIsItsFilters(t *testing.T) {
	all := scenes()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(expressions(), 0, MaxSet).Draw(t, "filters")
		views := rapid.SliceOfN(rapid.SampledFrom([]*Env{{}, {Tunnels: InnerHeaders}, {Tunnels: AnyHeaders}, {SCTP: true}, {Fragments: OwnHeaders}, {Guesses: true}}), len(texts), len(texts)).Draw(t, "envs")
		var filters []*Filter
		for i, text := range texts {
			f, err := Compile(text, views[i])
			if err != nil {
				t.Fatal(err)
			}
			filters = append(filters, f)
		}
		set := NewSet(filters)
		for i := range all {
			s := &all[i]
			var yes, unknown uint64
			for k, f := range filters {
				switch f.Match(s.p, &s.ref, s.v) {
				case Yes:
					yes |= 1 << k
				case Unknown:
					unknown |= 1 << k
				}
			}
			if y, u := set.Match(s.p, &s.ref, s.v); y != yes || u != unknown {
				t.Fatalf("in a set yes %b and unknown %b, alone %b and %b (scene %d): %q", y, u, yes, unknown, i, texts)
			}
		}
	})
}

// TestSetForgets: shared results do not outlive the packet, not even where the counter of packets wraps around.
func TestSetForgets(t *testing.T) {
	f := compiledOrDie(t, `tcpFlags == syn and len > 1`)
	g := compiledOrDie(t, `tcpFlags == syn and len > 2`)
	set := NewSet([]*Filter{f, g})
	*set.memos.epoch = 1<<32 - 3
	frames := zoo()
	for i := range 8 {
		name, want := "tcp syn", uint64(0b11)
		if i%2 == 1 {
			name, want = "tcp data", 0
		}
		if yes, _ := set.Match(decoded(frames[name]), nil, l7.Verdict{}); yes != want {
			t.Fatalf("packet %d: %b, want %b", i, yes, want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, name := range []string{"canonical", "errors", "match"} {
		columns := map[string]int{"canonical": 2, "errors": 4, "match": 2}[name]
		for _, row := range rows(f, "testdata/"+name+".tsv", columns) {
			f.Add(row[0])
		}
	}
	f.Add("regexp == “\\\"“ and group == '\\\\'")
	f.Add("port == 1 or port == \xff\xfe")
	f.Fuzz(func(t *testing.T, source string) {
		filter, err := Compile(source, testEnv())
		if err != nil {
			e := err.(*Error)
			if e.Pos < 0 || e.Len < 0 || e.Pos+e.Len > len(source) || e.Message == "" {
				t.Fatalf("%q: bad error %+v for %d bytes", source, e, len(source))
			}
			return
		}
		canonical := filter.String()
		again, err := Compile(canonical, testEnv())
		if err != nil && len(canonical) <= maxSource {
			t.Fatalf("%q has the canonical form %q, which is refused: %v", source, canonical, err)
		}
		if err == nil && again.String() != canonical {
			t.Fatalf("%q: canonical form %q becomes %q", source, canonical, again)
		}
		filter.Words()
	})
}
