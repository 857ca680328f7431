package rings

import (
	"slices"

	"galvo/services/api"
	"galvo/services/internal/ring"
)

// Views shows all rings.
func (rs *Set) Views() []api.Ring {
	all := []api.Ring{}
	for _, r := range rs.all() {
		all = append(all, rs.view(r))
	}
	return all
}

// View shows the ring of a name.
func (rs *Set) View(name string) (api.Ring, error) {
	r, err := rs.named(name)
	if err != nil {
		return api.Ring{}, err
	}
	return rs.view(r), nil
}

// view shows a ring.
func (rs *Set) view(r *Recorder) api.Ring {
	rs.mu.Lock()
	v := api.Ring{RingRequest: r.RingRequest, State: r.state, Reason: r.reason, Dropped: map[string]uint64{}, DeviceStates: []api.RingDevice{}, Pins: []api.RingPin{}, Problems: []string{}}
	opened := r.ring
	if r.found {
		v.Problems = append(v.Problems, "its files were there when it was created: it has their size and their packets; delete it, and create it again, for an empty one")
	}
	if r.state == stateCreating {
		v.Progress = int(r.progress.Load())
	}
	rs.mu.Unlock()
	if opened == nil {
		for _, id := range v.Devices {
			v.DeviceStates = append(v.DeviceStates, rs.deviceState(id))
		}
		return v
	}
	s := opened.State()
	v.UsableBytes, v.UsedBytes, v.TotalBytes = uint64(s.Size), uint64(s.Used), s.Bytes
	v.Packets, v.Discarded, v.Dropped, v.ByteRate = s.Packets, s.Discarded, s.Dropped, uint64(s.Rate)
	v.Oldest, v.Newest = s.Oldest/1000, s.Newest/1000
	for i, d := range s.Devices {
		state := api.RingDevice{Device: v.Devices[i], State: "active", Reason: d.Failed, SizeBytes: uint64(d.Size), UsedBytes: uint64(d.Used)}
		switch {
		case d.Missing:
			state.State = "absent"
			if _, err := rs.Volumes.Get(v.Devices[i]); err != nil {
				state.Reason = err.Error()
			}
		case d.Failed != "":
			state.State = "failed"
		}
		v.DeviceStates = append(v.DeviceStates, state)
	}
	v.Pins = pinsOf(s.Pins)
	takes := func(d api.RingDevice) bool { return d.State == "active" }
	if v.State == stateRecording && !slices.ContainsFunc(v.DeviceStates, takes) {
		v.State, v.Reason = stateStopped, "none of its storage devices takes packets, so it can only be read: deactivate and activate one that works again"
	}
	v.Problems = append(v.Problems, s.Problems...)
	return v
}

// deviceState says whether a storage device can be used, of a ring that is not open.
func (rs *Set) deviceState(id string) api.RingDevice {
	if _, err := rs.Volumes.Get(id); err != nil {
		return api.RingDevice{Device: id, State: "absent", Reason: err.Error()}
	}
	return api.RingDevice{Device: id, State: "active"}
}

// Memory returns the bytes that all open rings take, of their queues and for their readers.
func (rs *Set) Memory() (queues, readers uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.list {
		if r.ring != nil {
			queue, reading := r.ring.Memory()
			queues, readers = queues+queue, readers+reading
		}
	}
	return queues, readers
}

// Pin protects the packets of a time from being overwritten, and returns all times that are.
func (rs *Set) Pin(name string, pin api.RingPin) ([]api.RingPin, error) {
	opened, err := rs.At(name)
	if err != nil {
		return nil, err
	}
	if pin.EndTime <= pin.StartTime {
		return nil, api.Errorf(api.BadRequest, "endTime is not after startTime")
	}
	pins, err := opened.Protect(pin.StartTime*1000, pin.EndTime*1000, pin.Until*1000)
	if err != nil {
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	return pinsOf(pins), nil
}

func pinsOf(pins []ring.Pin) []api.RingPin {
	list := []api.RingPin{}
	for _, p := range pins { // from the microsecond on of which all is there
		list = append(list, api.RingPin{StartTime: min((p.From+999)/1000, p.To/1000), EndTime: p.To / 1000, Until: p.Until / 1000, Bytes: uint64(p.Bytes)})
	}
	return list
}
