package l7

import (
	"slices"
	"testing"

	"galvo/services/internal/l7/dissect"
	"galvo/services/internal/l7/l7test"
	"galvo/services/internal/l7/protocol"
)

// only makes a dispatch of one row of dissectors.
func only(row int) *dissect.Dispatch {
	var d dissect.Dispatch
	for l4 := range d {
		for b := range d[l4] {
			if slices.Contains(dissect.All()[l4][b], uint8(row)) {
				d[l4][b] = []uint8{uint8(row)}
			}
		}
	}
	return &d
}

// TestEveryDissector asks each row alone about every conversation: each has one that it knows, and none takes another's for its own.
func TestEveryDissector(t *testing.T) {
	all := l7test.Conversations()
	for row := range dissect.Dissectors() {
		known, rows := 0, only(row)
		for _, c := range all {
			l := newLab(Config{Bytes: 1 << 16})
			l.engine.rows = rows
			v := l.play(c)
			switch {
			case v.Proto == 0 || c.Proto != 6 && c.Proto != 17:
			case v.Is(c.Want) || Verdict{Proto: c.Want}.Is(v.Proto):
				known++
			case !mayClaim[[2]string{protocol.Name(v.Proto), protocol.Name(c.Want)}]:
				t.Errorf("row %d (%s) alone calls %q %s/%s", row, protocol.Name(dissect.Dissectors()[row].Proto), c.What, protocol.Name(v.Proto), protocol.Name(v.App))
			}
		}
		if known == 0 {
			t.Errorf("no conversation is known by row %d, of %s", row, protocol.Name(dissect.Dissectors()[row].Proto))
		}
	}
}

// mayClaim has what one row takes of another's, where the order of the rows decides: who claims, and whose it is.
var mayClaim = map[[2]string]bool{
	{"HTTP", "SOCKS"}: true, // the request behind the proxy's handshake
	{"RTP", "STUN"}:   true, // media behind what found their way
}
