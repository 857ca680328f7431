package rings

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"galvo/services/api"
	"galvo/services/durable"
	"galvo/services/internal/ring"
)

// copySuffix is behind the name of the copy of rings.json: without the list nobody knows of rings that lie on the storage devices, nor of their rules.
const copySuffix = ".copy"

// read reads what rings there are, from the copy if need be. A list that cannot be understood is set aside, and costs its rings, not the engine.
func (rs *Set) read() {
	for _, path := range []string{rs.path, rs.path + copySuffix} {
		var list []*Recorder
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &list)
		}
		if err == nil && slices.Contains(list, nil) {
			err = errors.New("a ring is missing in it")
		}
		switch {
		case err == nil:
			rs.list = list
			return
		case errors.Is(err, os.ErrNotExist):
		default:
			aside, asideErr := durable.SetAside(path)
			slog.Error("the list of rings cannot be read", "file", path, "kept as", aside, "error", errors.Join(err, asideErr))
		}
	}
}

// save writes what rings there are. rs.mu is held.
func (rs *Set) save() error {
	b, err := json.MarshalIndent(slices.Concat(rs.list, rs.deleted), "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(durable.WriteFile(rs.path, b), durable.WriteFile(rs.path+copySuffix, b))
}

// all returns the rings that there are now.
func (rs *Set) all() []*Recorder {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.Clone(rs.list)
}

// find returns the ring of a name; the only one if that is empty.
func (rs *Set) find(name string) (*Recorder, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var names []string
	for _, r := range rs.list {
		if r.Name == name || name == "" && len(rs.list) == 1 {
			return r, nil
		}
		names = append(names, r.Name)
	}
	switch {
	case len(rs.list) == 0:
		return nil, &api.Error{Kind: api.NoRing, Text: "there is no packet ring buffer, so the past cannot be captured: create one, or capture live", Expected: []string{"live"}}
	case name == "":
		return nil, &api.Error{Kind: api.BadRequest, Text: "there are several packet ring buffers: say which, " + strings.Join(names, " or "), Expected: names}
	}
	return nil, &api.Error{Kind: api.NoRing, Text: fmt.Sprintf("there is no packet ring buffer %q; there are: %s", name, strings.Join(names, ", ")), Expected: names}
}

// named returns the ring that is called so; the error is one of a path that leads to nothing.
func (rs *Set) named(name string) (*Recorder, error) {
	if r, err := rs.find(name); err == nil && r.Name == name {
		return r, nil
	}
	return nil, api.Errorf(api.NotFound, "there is no packet ring buffer %q", name)
}

// Opened returns the ring of a name if it can be read.
func (rs *Set) Opened(name string) (*Recorder, *ring.Ring, error) {
	r, err := rs.find(name)
	if err != nil {
		return nil, nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.ring == nil {
		return nil, nil, api.Errorf(api.NoRing, "the packet ring buffer %s cannot be read: it is %s: %s", r.Name, r.state, r.reason)
	}
	return r, r.ring, nil
}

// At returns the ring that a path leads to, if it can be read.
func (rs *Set) At(name string) (*ring.Ring, error) {
	if _, err := rs.named(name); err != nil {
		return nil, err
	}
	_, opened, err := rs.Opened(name)
	return opened, err
}
