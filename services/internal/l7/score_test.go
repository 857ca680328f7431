package l7_test

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
)

// TestScore holds the figures of merit over the corpus with per-flow truth, computed by the scorer that lies beside it.
func TestScore(t *testing.T) {
	corpus, python := need.Corpus(t), need.Tool(t, "python3")
	scorer := filepath.Join(corpus, "../tools/l7truth.py")
	if _, err := os.Stat(scorer); err != nil {
		need.Missing(t, "corpus", "no scorer beside it")
	}
	got := filepath.Join(t.TempDir(), "flows.csv")
	f, err := os.Create(got)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(f)
	w.Write(flowColumns)
	files, _ := filepath.Glob(filepath.Join(corpus, "l7/pcap/*"))
	for _, name := range files {
		writeFlows(w, name, classify(t, l7.Config{}, name).flows)
	}
	w.Flush()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, scorer, "score", "--truth", filepath.Join(corpus, "l7/truth.csv"), "--got", got).Output()
	if err != nil {
		t.Fatal(err)
	}
	var figures map[string]float64
	if err := json.Unmarshal(out, &figures); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		atLeast  float64
		atMost   float64
		whatIsIt string
	}{
		{"capped_carrier_dpi_pct", 60, 100, "carrier right"},
		{"hostname_web_pct", 95, 100, "host names of TLS, QUIC and HTTP"},
		{"detected_not_later_pct", 95, 100, "decided no later than the reference"},
		{"capped_unknown_but_named_pct", 0, 8, "named what the reference leaves unknown"},
	} {
		v, ok := figures[c.name]
		t.Logf("%s: %.2f %%", c.whatIsIt, v)
		if !ok || v < c.atLeast || v > c.atMost {
			t.Errorf("%s: %v %%, want %v to %v", c.whatIsIt, v, c.atLeast, c.atMost)
		}
	}
}
