package rings

import (
	"context"
	"slices"

	"galvo/services/api"
	"galvo/services/internal/ring"
)

// Create makes a new ring, which takes a while. It returns when that has begun.
func (rs *Set) Create(request api.RingRequest) (api.Ring, error) {
	r, err := rs.create(request)
	if err != nil {
		return api.Ring{}, err
	}
	return rs.view(r), nil
}

func (rs *Set) create(request api.RingRequest) (*Recorder, error) {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	r := &Recorder{RingRequest: request, calls: callsOf(request.Rules)}
	rs.sweep() // a deleted one of that name
	if err := rs.checkNew(r); err != nil {
		return nil, err
	}
	rs.mu.Lock()
	_, r.Places = rs.Volumes.Locate(r.Devices, nil)
	rs.list = append(rs.list, r)
	err := rs.save()
	if err != nil {
		rs.list = rs.list[:len(rs.list)-1]
	}
	rs.mu.Unlock()
	if err != nil {
		return nil, err
	}
	rs.make(r)
	return r, nil
}

// checkNew says what stands against a new ring, and completes what was left out.
func (rs *Set) checkNew(r *Recorder) error {
	rs.mu.Lock()
	n, taken := len(rs.list), slices.ContainsFunc(rs.list, func(o *Recorder) bool { return o.Name == r.Name })
	rs.mu.Unlock()
	switch {
	case r.Name == "live":
		return api.Errorf(api.BadRequest, "a ring cannot be called live: that is what is captured without a ring")
	case taken:
		return api.Errorf(api.Conflict, "there is a ring %s already", r.Name)
	case n >= rs.Max:
		return api.Errorf(api.Conflict, "the setting rings.max lets %d record at once, and %d exist already: delete one, or raise it and restart the processing", rs.Max, n)
	}
	if len(r.Devices) == 0 {
		r.Devices = []string{""}
	}
	for i, id := range r.Devices {
		v, err := rs.Volumes.Get(id)
		if err != nil {
			return err
		}
		r.Devices[i] = v.ID()
		if slices.Contains(r.Devices[:i], v.ID()) {
			return api.Errorf(api.BadRequest, "the storage device %s is named twice", v.Name())
		}
	}
	if r.Replication >= len(r.Devices) {
		return api.Errorf(api.BadRequest, "a copy of each block lies on another storage device: name a second one")
	}
	if id := rs.leftOn(r); id != "" {
		return api.Errorf(api.Conflict, "files of a deleted ring %s are on the storage device %s, and cannot be removed: choose another name", r.Name, rs.Volumes.Name(id))
	}
	dirs, _ := rs.Volumes.RingDirectories(r.Name, r.Devices)
	if _, err := compile(r.Rules, rs.EnvNow(), nil); err != nil {
		return err
	}
	c, err := rs.config(r, dirs)
	if err != nil {
		return err
	}
	need, err := c.SizeOnDisk()
	if err != nil {
		return api.Errorf(api.BadRequest, "%v", err)
	}
	found, err := ring.Holds(c)
	if err != nil {
		return err
	}
	for _, id := range r.Devices {
		if v, err := rs.Volumes.Get(id); err == nil && !found {
			if _, free, err := v.RingSpace(); err == nil && free < uint64(need) {
				return api.Errorf(api.StorageFull, "the ring needs %d MB on the storage device %s, where %d MB are free", need/1e6, v.Name(), free/1e6)
			}
		}
	}
	return nil
}

// leftOn returns a device of a new ring that has files of a deleted one of its name; nothing if there is none.
func (rs *Set) leftOn(r *Recorder) string {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, left := range rs.deleted {
		for _, id := range left.Devices {
			if left.Name == r.Name && slices.Contains(r.Devices, id) {
				return id
			}
		}
	}
	return ""
}

// make begins to make the files of a ring, in the background. rs.changing is held.
func (rs *Set) make(r *Recorder) {
	dirs, active := rs.Volumes.RingDirectories(r.Name, r.Devices)
	if active < len(dirs) {
		rs.set(r, stateWaiting, "it is created when all of its storage devices are active")
		return
	}
	c, _ := rs.config(r, dirs) // rules matter when it is opened
	ctx, cancel := context.WithCancel(context.Background())
	rs.mu.Lock()
	r.cancel, r.created, r.state, r.reason = cancel, make(chan struct{}), stateCreating, ""
	rs.mu.Unlock()
	go func() {
		defer close(r.created)
		found, err := ring.Holds(c)
		if err == nil && !found {
			ring.Remove(c) // what is left of an attempt that was cut off; if there is nothing that is no error to tell
			err = ring.Create(ctx, c)
		}
		rs.mu.Lock()
		r.found, r.Made = found, err == nil
		if err == nil {
			err = rs.save()
		}
		if r.cancel = nil; err != nil {
			r.state, r.reason = stateFailed, err.Error()
		}
		rs.mu.Unlock()
		if err == nil {
			rs.Follow()
		}
	}()
}

// halt breaks off the creation of rings on a device, and returns what says when that is over.
func (rs *Set) halt(device string) (over []chan struct{}) {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.list {
		if r.cancel != nil && slices.Contains(r.Devices, device) {
			r.cancel()
			over = append(over, r.created)
		}
	}
	return over
}
