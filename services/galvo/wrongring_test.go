package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/services/internal/ring"
)

// What is asked for wrongly harms no ring, and is told what would be right.
func TestRingToolUsedWrongly(t *testing.T) {
	device := t.TempDir()
	dir := filepath.Join(device, ".galvo", "rings", "office")
	if err := ring.Create(t.Context(), ring.Config{Name: "office", Dirs: []string{dir}, Bytes: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.pcapng")
	link := filepath.Join(t.TempDir(), "link.pcapng")
	if err := os.Symlink(filepath.Join(dir, "000000.pcapng"), link); err != nil {
		t.Fatal(err)
	}
	sizes := func() (list []int64) {
		for _, file := range filesIn([]string{dir}) {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, info.Size())
		}
		return list
	}
	before := sizes()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"export", "-w", filepath.Join(dir, "000000.pcapng"), dir}, "give -w another name"},
		{[]string{"export", "-w", filepath.Join(dir, "state"), dir}, "give -w another name"},
		{[]string{"export", "-w", link, dir}, "give -w another name"},
		{[]string{"export", "-w", out, "-from", "now", "-to", "now-1h", dir}, "-to is not after -from"},
		{[]string{"export", "-w", out, device}, "rings lie in " + dir},
		{[]string{"inspect", filepath.Dir(dir)}, "rings lie in " + dir},
		{[]string{"verify", t.TempDir()}, "no ring lies there"},
	} {
		if err := ringTool(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("galvo ring %v: %v", c.args, err)
		}
	}
	if after := sizes(); !slices.Equal(before, after) || len(before) < 3 {
		t.Errorf("files of %d bytes have %d now", before, after)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was made where nothing was exported")
	}
	if err := ringTool(t.Context(), []string{"export", "-w", out, dir}); err != nil {
		t.Error(err)
	}
}
