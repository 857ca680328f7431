package engine

import (
	"context"
	"slices"

	"galvo/services/api"
	"galvo/services/internal/ring"
)

// create makes a new ring, which takes a while. It returns when that has begun.
func (rs *rings) create(request api.RingRequest) (*recorder, error) {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	r := &recorder{RingRequest: request, calls: callsOf(request.Rules)}
	rs.sweep() // a deleted one of that name
	if err := rs.checkNew(r); err != nil {
		return nil, err
	}
	rs.mu.Lock()
	_, r.Places = rs.volumes.locate(r.Devices, nil)
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
func (rs *rings) checkNew(r *recorder) error {
	rs.mu.Lock()
	n, taken := len(rs.list), slices.ContainsFunc(rs.list, func(o *recorder) bool { return o.Name == r.Name })
	rs.mu.Unlock()
	switch {
	case r.Name == "live":
		return api.Errorf(api.BadRequest, "a ring cannot be called live: that is what is captured without a ring")
	case taken:
		return api.Errorf(api.Conflict, "there is a ring %s already", r.Name)
	case n >= rs.max:
		return api.Errorf(api.Conflict, "%d rings exist, and %d can record at once: delete one, or raise the setting rings.max and restart the processing", n, rs.max)
	}
	if len(r.Devices) == 0 {
		r.Devices = []string{""}
	}
	for i, id := range r.Devices {
		v, err := rs.volumes.get(id)
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
		return api.Errorf(api.Conflict, "files of a deleted ring %s are on the storage device %s, and cannot be removed: choose another name", r.Name, rs.volumes.name(id))
	}
	dirs, _ := rs.volumes.ringDirectories(&r.RingRequest)
	if _, err := ringRules(r.Rules, rs.envNow(), nil); err != nil {
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
		if v, err := rs.volumes.get(id); err == nil && !found {
			if _, free, err := v.RingSpace(); err == nil && free < uint64(need) {
				return api.Errorf(api.StorageFull, "the ring needs %d MB on the storage device %s, where %d MB are free", need/1e6, v.Name(), free/1e6)
			}
		}
	}
	return nil
}

// leftOn returns a device of a new ring that has files of a deleted one of its name; nothing if there is none.
func (rs *rings) leftOn(r *recorder) string {
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
func (rs *rings) make(r *recorder) {
	dirs, active := rs.volumes.ringDirectories(&r.RingRequest)
	if active < len(dirs) {
		rs.set(r, ringWaiting, "it is created when all of its storage devices are active")
		return
	}
	c, _ := rs.config(r, dirs) // rules matter when it is opened
	ctx, cancel := context.WithCancel(context.Background())
	rs.mu.Lock()
	r.cancel, r.created, r.state, r.reason = cancel, make(chan struct{}), ringCreating, ""
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
			r.state, r.reason = ringFailed, err.Error()
		}
		rs.mu.Unlock()
		if err == nil {
			rs.follow()
		}
	}()
}

// halt breaks off the creation of rings on a device, and returns what says when that is over.
func (rs *rings) halt(device string) (over []chan struct{}) {
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
