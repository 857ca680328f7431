package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galvo/services/api"
	"galvo/services/internal/handover"
)

func TestSet(t *testing.T) {
	state := t.TempDir()
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(state, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := NewSet(state)
	t.Cleanup(s.Close)
	var gone []string
	set := func(devices ...handover.Device) (opened int) {
		gone = nil
		return len(s.Follow(devices, func(id string) {
			gone = append(gone, id)
			s.Get(id) // as those do that have to let go
		}))
	}
	want := func(id string, kind api.Kind) {
		t.Helper()
		v, err := s.Get(id)
		if err == nil && kind != "" || err != nil && api.ErrorOf(err).Kind != kind {
			t.Errorf("Get(%q) = %v, %v, want %q", id, v, err, kind)
		}
	}
	want("", api.NoStorage)
	want("x", api.NoStorage)
	a := handover.Device{ID: "usb-1", Name: "stick", Directory: "a", Active: true}
	b := handover.Device{ID: "data", Name: "data", Directory: "b", Active: true}
	if n := set(a); n != 1 || gone != nil {
		t.Errorf("%d opened, %v gone", n, gone)
	}
	want("", "")
	want("usb-1", "")
	want("stick", "")
	want("stik", api.BadRequest)
	if _, err := s.Get("disk-2"); err == nil || !strings.Contains(err.Error(), `"disk-2" is in use: choose one of stick, or activate it`) { // which host lists
		t.Errorf("a disk that was never activated: %v", err)
	}
	set(a, b)
	want("", api.BadRequest) // which one?
	a.Name = "renamed"
	if n := set(a, b); n != 0 || gone != nil {
		t.Errorf("renamed: %d opened, %v gone", n, gone)
	}
	want("renamed", "")
	a.Identity = "another disk"
	if n := set(a, b); n != 1 || !slices.Equal(gone, []string{"usb-1"}) {
		t.Errorf("pulled and plugged between two looks: %d opened, %v gone", n, gone)
	}
	a.Active = false
	if n := set(a, b); n != 0 || !slices.Equal(gone, []string{"usb-1"}) {
		t.Errorf("deactivated: %d opened, %v gone", n, gone)
	}
	want("renamed", api.NoStorage)
	want("", "")
	if set(); !slices.Equal(gone, []string{"data"}) {
		t.Errorf("taken out of the configuration: %v gone", gone)
	}
	b.Directory = "none"
	if n := set(b); n != 0 {
		t.Errorf("a directory that is not there: %d opened", n)
	}
	want("data", api.NoStorage)
}
