package l7_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/l7"
)

func TestWriteCSV(t *testing.T) {
	out := os.Getenv("L7CSV")
	if out == "" {
		t.Skip("no L7CSV")
	}
	f, _ := os.Create(out)
	w := csv.NewWriter(f)
	w.Write(flowColumns)
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7/pcap/*"))
	for _, name := range files {
		writeFlows(w, name, classify(t, l7.Config{}, name).flows)
	}
	w.Flush()
	f.Close()
}
