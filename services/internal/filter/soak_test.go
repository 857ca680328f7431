//go:build soak

package filter

import (
	"path/filepath"
	"testing"

	"galvo/ci/need"
)

// oneIn is the share of the savefiles and display filters that tests take.
const oneIn = 1

// TestOracleSoak compares on the savefiles of the application protocols too.
func TestOracleSoak(t *testing.T) {
	need.Tool(t, "tshark")
	sweep(t, savefiles(filepath.Join(need.Corpus(t), "l7", "pcap")), 8)
}
