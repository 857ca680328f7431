package engine

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
	"galvo/services/internal/volume"
)

// volumes are the storage devices that the host gives this process: it mounts them and makes their directories, the files are the engine's.
type volumes struct {
	state string // the state directory, as this process reaches it

	mu sync.Mutex

	devices []handover.Device // of the configuration; guarded by mu, as everything below
	open    map[string]*volume.Volume
	places  map[string]string // directory of each open one
	whose   map[string]string // its handover.Device.Identity
}

func newVolumes(state string) *volumes {
	return &volumes{state: state, open: map[string]*volume.Volume{}, places: map[string]string{}, whose: map[string]string{}}
}

// set takes over what the host says, and returns the devices that are new. gone is called with the id of each one that is no more; its files must be closed when
// it returns.
func (vs *volumes) set(devices []handover.Device, gone func(id string)) (opened []*volume.Volume) {
	for id, v := range vs.take(devices) {
		gone(id) // without the lock: what has files open there may be about to open another one
		v.Close()
	}
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, d := range devices {
		v := vs.open[d.ID]
		if v == nil && d.Active {
			var err error
			if v, err = volume.Open(d.ID, d.Name, filepath.Join(vs.state, d.Directory)); err != nil {
				slog.Error("storage device", "id", d.ID, "error", err)
				continue
			}
			vs.open[d.ID], vs.places[d.ID], vs.whose[d.ID] = v, d.Directory, d.Identity
			opened = append(opened, v)
		}
		if v != nil {
			v.SetRingShare(d.RingShare)
		}
	}
	return opened
}

// take notes what there is now, and takes out the open devices that are not among it any more.
func (vs *volumes) take(devices []handover.Device) map[string]*volume.Volume {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.devices = devices
	gone := map[string]*volume.Volume{}
	for id, v := range vs.open {
		stays := func(d handover.Device) bool {
			return d.ID == id && d.Active && d.Directory == vs.places[id] && d.Identity == vs.whose[id]
		}
		if !slices.ContainsFunc(devices, stays) {
			gone[id] = v
			delete(vs.open, id)
			delete(vs.places, id)
			delete(vs.whose, id)
		}
	}
	return gone
}

// get returns an active device by its id or its name; the only one if id is empty.
func (vs *volumes) get(id string) (*volume.Volume, error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	names := vs.names()
	if id == "" {
		switch len(vs.open) {
		case 0:
			return nil, &api.Error{Kind: api.NoStorage, Text: "there is no active storage device: activate one, or capture to http instead"}
		case 1:
			for _, v := range vs.open {
				return v, nil
			}
		}
		names = nil
		for _, v := range vs.open {
			names = append(names, v.Name())
		}
		slices.Sort(names)
		return nil, &api.Error{Kind: api.BadRequest, Text: "several storage devices are active: say which, " + strings.Join(names, " or "), Expected: names}
	}
	for _, d := range vs.devices {
		if d.ID != id && d.Name != id {
			continue
		}
		if v := vs.open[d.ID]; v != nil {
			return v, nil
		}
		return nil, &api.Error{Kind: api.NoStorage, Text: fmt.Sprintf("the storage device %s is not active: activate it", d.Name)}
	}
	if len(vs.devices) == 0 {
		return nil, &api.Error{Kind: api.NoStorage, Text: fmt.Sprintf("there is no storage device %q, nor any other", id)}
	}
	return nil, &api.Error{Kind: api.BadRequest, Text: fmt.Sprintf("there is no storage device %q; there are: %s", id, strings.Join(names, ", ")), Expected: names}
}

// absent says why nothing lies on a device now; nil if it is active.
func (vs *volumes) absent(id string) error {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	switch {
	case vs.open[id] != nil:
		return nil
	case slices.ContainsFunc(vs.devices, func(d handover.Device) bool { return d.ID == id }):
		return errors.New("it is not active")
	}
	return errors.New("there is no such storage device now")
}

// name returns what a device is called; one that the configuration does not have any more is called by its id.
func (vs *volumes) name(id string) string {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, d := range vs.devices {
		if d.ID == id {
			return d.Name
		}
	}
	return id
}

// names returns what the devices are called. vs.mu is held.
func (vs *volumes) names() (names []string) {
	for _, d := range vs.devices {
		names = append(names, d.Name)
	}
	return names
}

// locate returns the ids that devices have now which lie at places, by their former ids, and their places: of one that is not known, as they were.
func (vs *volumes) locate(ids []string, places map[string]string) (now []string, at map[string]string) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	at = map[string]string{}
	for _, id := range ids {
		place := places[id]
		i := slices.IndexFunc(vs.devices, func(d handover.Device) bool { return d.Directory != "" && d.Directory == place })
		if i < 0 {
			i = slices.IndexFunc(vs.devices, func(d handover.Device) bool { return d.Directory != "" && d.ID == id })
		}
		if i >= 0 {
			id, place = vs.devices[i].ID, vs.devices[i].Directory
		}
		now = append(now, id)
		if place != "" {
			at[id] = place
		}
	}
	return now, at
}

// ringDirectories returns where a ring has its files on each of its devices, and how many of these are active. Of one that is not the directory does not
// exist.
func (vs *volumes) ringDirectories(r *api.RingRequest) (dirs []string, active int) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, id := range r.Devices {
		place := filepath.Join(vs.state, "absent", id)
		if v := vs.open[id]; v != nil {
			place = filepath.Join(vs.state, vs.places[id])
			active++
		}
		dirs = append(dirs, filepath.Join(place, volume.RingsPath, r.Name))
	}
	return dirs, active
}

func (vs *volumes) close() {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, v := range vs.open {
		v.Close()
	}
}
