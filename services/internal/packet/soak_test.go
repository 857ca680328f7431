//go:build soak

package packet_test

import (
	"path/filepath"
	"testing"

	"galvo/ci/need"
)

// TestLayer7CorpusAgainstTshark compares the captures of the layer-7 corpus too, which takes as long again.
func TestLayer7CorpusAgainstTshark(t *testing.T) {
	samples := readAll(t, filepath.Join(need.Corpus(t), "l7", "pcap", "*"))
	report(t, samples, dissect(t, samples))
}
