package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"galvo/services/api"
	"galvo/services/internal/handover"
)

func TestVolumes(t *testing.T) {
	state := t.TempDir()
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(state, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	vs := newVolumes(state)
	t.Cleanup(vs.close)
	var gone []string
	set := func(devices ...handover.Device) (opened int) {
		gone = nil
		return len(vs.set(devices, func(id string) {
			gone = append(gone, id)
			vs.get(id) // as those do that have to let go
		}))
	}
	want := func(id string, kind api.Kind) {
		t.Helper()
		v, err := vs.get(id)
		if err == nil && kind != "" || err != nil && api.ErrorOf(err).Kind != kind {
			t.Errorf("get(%q) = %v, %v, want %q", id, v, err, kind)
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

func TestSlotAddresses(t *testing.T) {
	ss := newSlots(2, 1<<20)
	ss.taken[1] = &slot{id: 2}
	for asked, want := range map[int]int{0: 1, 1: 1, 2: 0, 3: 0} {
		if id, err := ss.choose(asked); id != want || (err == nil) != (want != 0) {
			t.Errorf("choose(%d) = %d, %v, want %d", asked, id, err, want)
		}
	}
	for address, want := range map[string]api.Kind{"": "", ":2": "", ":1": api.NotFound, ":3": api.BadRequest, ":0": api.BadRequest, "2": api.BadRequest, ":x": api.BadRequest, ":-1": api.BadRequest} {
		s, err := ss.find(address)
		if err != nil && api.ErrorOf(err).Kind != want || err == nil && want != "" || (s != nil) != (address == ":2") {
			t.Errorf("find(%q) = %v, %v, want %q", address, s, err, want)
		}
	}
}
