package volume

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"galvo/services/api"
	"galvo/services/internal/handover"
)

// A Set is the storage devices that the host gives this process: it mounts them and makes their directories, the files are this process's.
type Set struct {
	state string // the state directory, as this process reaches it

	mu sync.Mutex

	devices []handover.Device // of the configuration; guarded by mu, as everything below
	open    map[string]*Volume
	places  map[string]string // directory of each open one
	whose   map[string]string // its handover.Device.Identity
}

// NewSet returns a set of no device. state is the state directory that the devices' directories are below, as this process reaches it.
func NewSet(state string) *Set {
	return &Set{state: state, open: map[string]*Volume{}, places: map[string]string{}, whose: map[string]string{}}
}

// Follow takes over what the host says, and returns the devices that are new. gone is called with the id of each one that is no more; its files must be closed when
// it returns.
func (s *Set) Follow(devices []handover.Device, gone func(id string)) (opened []*Volume) {
	for id, v := range s.take(devices) {
		gone(id) // without the lock: what has files open there may be about to open another one
		v.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range devices {
		v := s.open[d.ID]
		if v == nil && d.Active {
			var err error
			if v, err = Open(d.ID, d.Name, filepath.Join(s.state, d.Directory)); err != nil {
				slog.Error("storage device", "id", d.ID, "error", err)
				continue
			}
			s.open[d.ID], s.places[d.ID], s.whose[d.ID] = v, d.Directory, d.Identity
			opened = append(opened, v)
		}
		if v != nil {
			v.SetRingShare(d.RingShare)
		}
	}
	return opened
}

// take notes what there is now, and takes out the open devices that are not among it any more.
func (s *Set) take(devices []handover.Device) map[string]*Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = devices
	gone := map[string]*Volume{}
	for id, v := range s.open {
		stays := func(d handover.Device) bool {
			return d.ID == id && d.Active && d.Directory == s.places[id] && d.Identity == s.whose[id]
		}
		if !slices.ContainsFunc(devices, stays) {
			gone[id] = v
			delete(s.open, id)
			delete(s.places, id)
			delete(s.whose, id)
		}
	}
	return gone
}

// Get returns an active device by its id or its name; the only one if id is empty.
func (s *Set) Get(id string) (*Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names()
	if id == "" {
		switch len(s.open) {
		case 0:
			return nil, &api.Error{Kind: api.NoStorage, Text: "there is no active storage device: activate one, or capture to http instead"}
		case 1:
			for _, v := range s.open {
				return v, nil
			}
		}
		names = nil
		for _, v := range s.open {
			names = append(names, v.Name())
		}
		slices.Sort(names)
		return nil, &api.Error{Kind: api.BadRequest, Text: "several storage devices are active: say which, " + strings.Join(names, " or "), Expected: names}
	}
	for _, d := range s.devices {
		if d.ID != id && d.Name != id {
			continue
		}
		if v := s.open[d.ID]; v != nil {
			return v, nil
		}
		return nil, api.Errorf(api.NoStorage, "the storage device %s is not active: activate it", d.Name)
	}
	if len(s.devices) == 0 {
		return nil, api.Errorf(api.NoStorage, "there is no storage device %q, nor any other", id)
	}
	return nil, &api.Error{Kind: api.BadRequest, Text: fmt.Sprintf("no storage device %q is in use: choose one of %s, or activate it", id, strings.Join(names, ", ")), Expected: names}
}

// Absent says why nothing lies on a device now; nil if it is active.
func (s *Set) Absent(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open[id] != nil:
		return nil
	case slices.ContainsFunc(s.devices, func(d handover.Device) bool { return d.ID == id }):
		return errors.New("it is not active")
	}
	return errors.New("there is no such storage device now")
}

// Name returns what a device is called; one that the configuration does not have any more is called by its id.
func (s *Set) Name(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if d.ID == id {
			return d.Name
		}
	}
	return id
}

// names returns what the devices are called. s.mu is held.
func (s *Set) names() (names []string) {
	for _, d := range s.devices {
		names = append(names, d.Name)
	}
	return names
}

// Locate returns the ids that devices have now which lie at places, by their former ids, and their places: of one that is not known, as they were.
func (s *Set) Locate(ids []string, places map[string]string) (now []string, at map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = map[string]string{}
	for _, id := range ids {
		place := places[id]
		i := slices.IndexFunc(s.devices, func(d handover.Device) bool { return d.Directory != "" && d.Directory == place })
		if i < 0 {
			i = slices.IndexFunc(s.devices, func(d handover.Device) bool { return d.Directory != "" && d.ID == id })
		}
		if i >= 0 {
			id, place = s.devices[i].ID, s.devices[i].Directory
		}
		now = append(now, id)
		if place != "" {
			at[id] = place
		}
	}
	return now, at
}

// RingDirectories returns where a ring has its files on each of some devices, and how many of these are active. Of one that is not the directory does not exist.
func (s *Set) RingDirectories(ring string, devices []string) (dirs []string, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range devices {
		place := filepath.Join(s.state, "absent", id)
		if v := s.open[id]; v != nil {
			place = filepath.Join(s.state, s.places[id])
			active++
		}
		dirs = append(dirs, filepath.Join(place, RingsPath, ring))
	}
	return dirs, active
}

// Close closes all devices.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.open {
		v.Close()
	}
}
