package l7

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/signature"
)

// only makes a dispatch of one row of dissectors.
func only(row int) *dispatch {
	var d dispatch
	for l4 := range d {
		for b := range d[l4] {
			if slices.Contains(dispatchTable()[l4][b], uint8(row)) {
				d[l4][b] = []uint8{uint8(row)}
			}
		}
	}
	return &d
}

// TestEveryDissector asks each row alone about every conversation: each has one that it knows, and none takes another's for its own.
func TestEveryDissector(t *testing.T) {
	all := conversations(t)
	for row := range dissectors {
		known, rows := 0, only(row)
		for _, c := range all {
			l := newLab(Config{Bytes: 1 << 16})
			l.engine.rows = rows
			v := l.play(c)
			switch {
			case v.Proto == 0 || c.proto != 6 && c.proto != 17:
			case v.Is(c.want) || Verdict{Proto: c.want}.Is(v.Proto):
				known++
			case !mayClaim[[2]string{protocol.Name(v.Proto), protocol.Name(c.want)}]:
				t.Errorf("row %d (%s) alone calls %q %s/%s", row, protocol.Name(dissectors[row].proto), c.what, protocol.Name(v.Proto), protocol.Name(v.App))
			}
		}
		if known == 0 {
			t.Errorf("no conversation is known by row %d, of %s", row, protocol.Name(dissectors[row].proto))
		}
	}
}

// mayClaim has what one row takes of another's, where the order of the rows decides: who claims, and whose it is.
var mayClaim = map[[2]string]bool{
	{"HTTP", "SOCKS"}: true, // the request behind the proxy's handshake
	{"RTP", "STUN"}:   true, // media behind what found their way
}

// shared are samples that belong to two protocols: of the first, which comes first in the table, and of the second too.
var shared = map[[2]string]bool{
	{"Mining", "JSON-RPC"}: true, // Stratum is JSON-RPC
}

// TestEveryDissectorFuzzed wants a fuzz target of each row's own.
func TestEveryDissectorFuzzed(t *testing.T) {
	targets, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dissectors {
		name := runtime.FuncForPC(reflect.ValueOf(d.inspect).Pointer()).Name()
		name = name[strings.LastIndexByte(name, '.')+1:]
		if !regexp.MustCompile(`fuzzDissector\(f, \w+, ` + name + `\b`).Match(targets) {
			t.Errorf("no fuzz target has %s", name)
		}
	}
}

// TestEverySignature asks all the rows about each one's sample, whole and cut off: a sample belongs to its own protocol alone, or the table of shared says why not.
func TestEverySignature(t *testing.T) {
	table := protocol.Signatures()
	l := newLab(Config{})
	l.send(17, 1, 2, up("x"))
	clashes := make(map[string]bool)
	for i := range table.Rows {
		s := &table.Rows[i]
		port := uint16(9)
		if len(s.Ports) > 0 {
			port = s.Ports[0]
		}
		for _, stream := range []bool{false, true} {
			l4 := udp
			if stream {
				l4 = tcp
			}
			if s.L4&l4 == 0 {
				continue
			}
			for n := 1; n <= len(s.Samples[0]); n++ { // cut off, and at last whole
				b := s.Samples[0][:n]
				v := signature.View{Data: b, Cut: n < len(s.Samples[0]), Wire: len(s.Samples[0]), Dst: port, Room: new([signature.Within]byte)}
				for j := range table.Rows {
					o := &table.Rows[j]
					if o.L4&l4 == 0 || o.Both || s.Both || o.Proto == s.Proto || !o.Holds(&v) || shared[[2]string{protocol.Name(protocol.ID(s.Proto)), protocol.Name(protocol.ID(o.Proto))}] {
						continue
					}
					clashes[fmt.Sprintf("%s is also %s, of %d bytes", protocol.Name(protocol.ID(s.Proto)), protocol.Name(protocol.ID(o.Proto)), n)] = true
				}
			}
		}
	}
	for _, c := range slices.Sorted(maps.Keys(clashes)) {
		t.Errorf("a sample of %s", c)
	}
}
