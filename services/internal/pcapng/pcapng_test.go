package pcapng

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"galvo/ci/need"
	"galvo/services/internal/packet"
)

func count(t testing.TB, src io.Reader) (n int, err error) {
	r, err := NewReader(src)
	if err != nil {
		return 0, err
	}
	batch := make([]packet.Packet, 256)
	for {
		k, err := r.Read(batch)
		n += k
		if err != nil {
			return n, err
		}
	}
}

func TestCorpus(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(need.Corpus(t), "*", "*.pcap*"))
	more, _ := filepath.Glob(filepath.Join(need.Corpus(t), "l7", "pcap", "*"))
	for _, name := range append(files, more...) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := count(t, bytes.NewReader(data))
		t.Logf("%s: %d %v", filepath.Base(name), n, err)
	}
}
