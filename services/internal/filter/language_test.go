package filter

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"galvo/services/internal/l7/protocol"
)

var update = flag.Bool("update", false, "write LANGUAGE.md anew")

// TestLanguage: LANGUAGE.md is what the operand table says.
func TestLanguage(t *testing.T) {
	want := language(t)
	if *update {
		if err := os.WriteFile("LANGUAGE.md", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("LANGUAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("LANGUAGE.md is stale: run the test with -update")
	}
}

func language(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	part := func(name string) {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	part("language.head.md")
	b.WriteString("## Operands\n")
	subject := ""
	for _, o := range table() {
		if o.subject != subject {
			subject = o.subject
			fmt.Fprintf(&b, "\n### %s\n", subject)
		}
		o.describe(&b)
	}
	b.WriteString("\n## Names\n\n")
	nameTable(&b, "macProtocol", linkNames())
	nameTable(&b, "l4Protocol", numberNames(ipProtocols))
	nameTable(&b, "qosIpDscp", numberNames(codePoints))
	nameTable(&b, "rtpPayloadType", numberNames(payloadTypes))
	nameTable(&b, "icmpType", numberNames(icmpTypes))
	nameTable(&b, "icmpv6Type", numberNames(icmpv6Types))
	part("language.tail.md")
	return b.Bytes()
}

func (o *operand) describe(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n**%s**", o.name)
	if len(o.aliases) > 0 {
		fmt.Fprintf(b, " (also `%s`)", strings.Join(o.aliases, "`, `"))
	}
	if o.ordered {
		b.WriteString(" *ordered*")
	}
	fmt.Fprintf(b, " — %s", o.meaning)
	fmt.Fprintf(b, "\n- values: %s\n- example: `%s`\n- tshark: `%s`\n- ring index: %s", o.values, o.example, o.oracle, o.prune.by)
	if o.prune.keys != "" {
		fmt.Fprintf(b, " (%s)", o.prune.keys)
	}
	b.WriteByte('\n')
}

func nameTable(b *bytes.Buffer, operand string, names []string) {
	fmt.Fprintf(b, "- `%s`: %s\n", operand, strings.Join(names, ", "))
}

func linkNames() (names []string) {
	for _, l := range linkProtocols {
		name := l.name
		if l.etherType != 0 {
			name += fmt.Sprintf(" (0x%04x)", l.etherType)
		}
		names = append(names, withAliases(name, l.aliases))
	}
	for _, p := range protocol.Protocols() { // what package l7 knows beyond these
		var numbers []string
		for _, et := range etherTypes()[p.ID] {
			if !slices.ContainsFunc(linkProtocols, func(l linkProtocol) bool { return l.etherType == et }) {
				numbers = append(numbers, fmt.Sprintf("0x%04x", et))
			}
		}
		if len(numbers) > 0 {
			names = append(names, withAliases(p.Name+" ("+strings.Join(numbers, ", ")+")", strings.Join(p.Aliases, " ")))
		}
	}
	return names
}

func numberNames(list []numberName) (names []string) {
	for _, n := range list {
		names = append(names, withAliases(fmt.Sprintf("%s (%d)", n.name, n.n), n.aliases))
	}
	return names
}

func withAliases(name, aliases string) string {
	if aliases == "" {
		return name
	}
	return name + ", also " + strings.Join(strings.Fields(aliases), " and ")
}

// TestRows: every row of the operand table says all that a row must.
func TestRows(t *testing.T) {
	seen := make(map[string]bool)
	for _, o := range table() {
		for _, name := range append([]string{o.name}, o.aliases...) {
			if lower := strings.ToLower(name); seen[lower] {
				t.Errorf("two operands have the name %s", name)
			} else {
				seen[lower] = true
			}
		}
		if o.subject == "" || o.values == "" || o.example == "" || o.meaning == "" || o.is == "" && o.facts[1] == "" || o.read == nil {
			t.Errorf("%s: something is missing", o.name)
		}
		env := testEnv()
		f, err := Compile(o.example, env)
		switch {
		case err != nil:
			t.Errorf("%s: the example %s: %v", o.name, o.example, err)
		case f.tree.cmp.operand != o:
			t.Errorf("%s: the example %s is about %s", o.name, o.example, f.tree.cmp.operand.name)
		case o.oracle == "":
			t.Errorf("%s: no oracle", o.name)
		case (o.header == nil) == (o.flow == nil):
			t.Errorf("%s: wants one of header and flow", o.name)
		}
		if o.prune.by == byNothing && o.prune.keys != "" || o.prune.by != byNothing && o.prune.keys == "" {
			t.Errorf("%s: pruning %v with keys %q", o.name, o.prune.by, o.prune.keys)
		}
	}
}
