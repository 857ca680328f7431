package filter

import (
	"path/filepath"
	"strconv"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/flow"
	"galvo/services/internal/packet"
)

// TestCorpusOracle: the counts that the corpus' own table tells, which tshark made with its defaults.
func TestCorpusOracle(t *testing.T) {
	dir := filepath.Join(need.Corpus(t), "protocols")
	ours := make(map[string][]string)
	for _, row := range rows(t, "testdata/corpus.tsv", 4) {
		ours[row[0]] = row
	}
	for _, row := range rows(t, filepath.Join(dir, "oracle.tsv"), 4) {
		our, ok := ours[row[0]]
		if !ok {
			continue
		}
		delete(ours, row[0])
		want, _ := strconv.Atoi(row[3])
		if our[2] != "=" {
			want, _ = strconv.Atoi(our[2])
		}
		f, err := Compile(our[1], nil)
		if err != nil {
			t.Errorf("%s: %v", our[1], err)
			continue
		}
		got := 0
		replay(t, filepath.Join(dir, row[2]), func(_ int, p *packet.Packet, ref *flow.Ref) {
			if f.Match(p, ref, pending) == Yes {
				got++
			}
		})
		if got != want {
			t.Errorf("%s: %s selects %d frames of %s, %s selects %s", row[0], f, got, row[2], row[1], row[3])
		}
	}
	for name := range ours {
		t.Errorf("the corpus has no row %q", name)
	}
}
