package rings

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"galvo/services/api"
	"galvo/services/internal/ring"
)

// Delete ends a ring and removes its files. Another one may record then that waited for that.
func (rs *Set) Delete(name string) error {
	r, err := rs.named(name)
	if err != nil {
		return err
	}
	defer rs.Follow()
	return rs.end(r)
}

// end is delete for one ring.
func (rs *Set) end(r *Recorder) error {
	rs.mu.Lock()
	cancel, created := r.cancel, r.created
	rs.mu.Unlock()
	if cancel != nil {
		cancel()
		<-created
	}
	rs.changing.Lock()
	defer rs.changing.Unlock()
	rs.drop(r)
	rs.mu.Lock()
	rs.list = slices.DeleteFunc(rs.list, func(o *Recorder) bool { return o == r })
	left := &Recorder{Deleted: true, Places: r.Places, RingRequest: api.RingRequest{Name: r.Name, Devices: slices.Clone(r.Devices)}}
	rs.deleted = append(rs.deleted, left)
	err := rs.save() // before the files go: a deletion that is cut off is completed
	rs.mu.Unlock()
	if err != nil {
		return err
	}
	if err := rs.remove(left); err != nil {
		return &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	return nil
}

// sweep removes the files that deleted rings have on devices that are active now. rs.changing is held.
func (rs *Set) sweep() {
	rs.mu.Lock()
	list := slices.Clone(rs.deleted)
	rs.mu.Unlock()
	for _, r := range list {
		if err := rs.remove(r); err != nil {
			slog.Error("ring", "error", err)
		}
	}
}

// remove removes the files of a deleted ring from its devices that are active, and remembers the others. rs.changing is held.
func (rs *Set) remove(r *Recorder) (err error) {
	var left []string
	for _, id := range r.Devices {
		dirs, active := rs.Volumes.RingDirectories(r.Name, []string{id})
		if active == 0 {
			left = append(left, id)
			continue
		}
		if gone := ring.Remove(ring.Config{Name: r.Name, Dirs: dirs}); gone != nil {
			left = append(left, id)
			why, _, _ := strings.Cut(gone.Error(), "\n") // likely the same for each of its files
			err = errors.Join(err, fmt.Errorf("the ring %s is deleted, but its files stay on the storage device %s until it is active the next time: %s", r.Name, id, why))
		}
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(left) == len(r.Devices) {
		return err
	}
	r.Devices = left
	rs.deleted = slices.DeleteFunc(rs.deleted, func(r *Recorder) bool { return len(r.Devices) == 0 })
	return errors.Join(err, rs.save())
}
