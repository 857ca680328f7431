package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestJournalSurvives(t *testing.T) {
	dir := t.TempDir()
	j, left, err := openJournal(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	if left[0] != (counts{}) {
		t.Errorf("a new journal says %+v", left[0])
	}
	j.put(3, &counts{Base: 10, Frames: 100, Bytes: 1000, Kernel: 1, Engine: 2, NIC: 3, Seen: 5, Device: eth1})
	j.count(3, 0, 20, 200)
	j.count(3, 63, 30, 300)
	want := counts{Base: 10, Frames: 150, Bytes: 1500, Kernel: 1, Engine: 2, NIC: 3, Seen: 5, Device: eth1}

	// The first journal is not closed, as with an engine that was killed.
	for range 2 {
		again, left, err := openJournal(dir, 7)
		if err != nil {
			t.Fatal(err)
		}
		if left[3] != want {
			t.Errorf("the journal says %+v, want %+v", left[3], want)
		}
		again.close()
	}
	other, left, err := openJournal(dir, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if left[3] != (counts{}) {
		t.Errorf("the journal of another host instance says %+v", left[3])
	}
}

func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ports.journal"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, left, err := openJournal(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if left[0] != (counts{}) {
		t.Errorf("a damaged journal says %+v", left[0])
	}
}
