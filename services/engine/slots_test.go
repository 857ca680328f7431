package engine

import (
	"testing"

	"galvo/services/api"
)

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
