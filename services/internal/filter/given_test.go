package filter

import (
	"os"
	"testing"

	"galvo/ci/need"
)

// TestOracleGiven compares on the savefiles of a folder that GALVO_TEST_SAVEFILES names. It is not part of any target: it judges the language on
// what nobody has tuned it to.
func TestOracleGiven(t *testing.T) {
	dir := os.Getenv("GALVO_TEST_SAVEFILES")
	if dir == "" {
		return
	}
	need.Tool(t, "tshark")
	names := savefiles(dir)
	if len(names) == 0 {
		t.Fatalf("there is no savefile in %s", dir)
	}
	sweep(t, names, 12)
}
