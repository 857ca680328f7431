package engine

import (
	"context"
	"net/http"
	"slices"

	"galvo/services/api"
	"galvo/services/internal/ring"
)

// views shows all rings.
func (rs *rings) views() []api.Ring {
	all := []api.Ring{}
	for _, r := range rs.all() {
		all = append(all, rs.view(r))
	}
	return all
}

// view shows a ring.
func (rs *rings) view(r *recorder) api.Ring {
	rs.mu.Lock()
	v := api.Ring{RingRequest: r.RingRequest, State: r.state, Reason: r.reason, Dropped: map[string]uint64{}, DeviceStates: []api.RingDevice{}, Pins: []api.RingPin{}, Problems: []string{}}
	opened := r.ring
	if r.found {
		v.Problems = append(v.Problems, "its files were there when it was created: it has their size and their packets; delete it, and create it again, for an empty one")
	}
	if r.state == ringCreating {
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
			if _, err := rs.volumes.get(v.Devices[i]); err != nil {
				state.Reason = err.Error()
			}
		case d.Failed != "":
			state.State = "failed"
		}
		v.DeviceStates = append(v.DeviceStates, state)
	}
	v.Pins = pinsOf(s.Pins)
	takes := func(d api.RingDevice) bool { return d.State == "active" }
	if v.State == ringRecording && !slices.ContainsFunc(v.DeviceStates, takes) {
		v.State, v.Reason = ringStopped, "none of its storage devices takes packets, so it can only be read: deactivate and activate one that works again"
	}
	v.Problems = append(v.Problems, s.Problems...)
	return v
}

// deviceState says whether a storage device can be used, of a ring that is not open.
func (rs *rings) deviceState(id string) api.RingDevice {
	if _, err := rs.volumes.get(id); err != nil {
		return api.RingDevice{Device: id, State: "absent", Reason: err.Error()}
	}
	return api.RingDevice{Device: id, State: "active"}
}

// memory returns the bytes that all open rings take, of their queues and for their readers.
func (rs *rings) memory() (queues, readers uint64) {
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

func pinsOf(pins []ring.Pin) []api.RingPin {
	list := []api.RingPin{}
	for _, p := range pins { // from the microsecond on of which all is there
		list = append(list, api.RingPin{StartTime: min((p.From+999)/1000, p.To/1000), EndTime: p.To / 1000, Until: p.Until / 1000, Bytes: uint64(p.Bytes)})
	}
	return list
}

func (e *Engine) listRings(context.Context, *api.Nothing) (*api.Reply[api.RingList], error) {
	return &api.Reply[api.RingList]{Body: api.RingList{Rings: e.rings.views()}}, nil
}

func (e *Engine) makeRing(_ context.Context, in *api.Request[api.RingRequest]) (*api.Created[api.Ring], error) {
	r, err := e.rings.create(in.Body)
	if err != nil {
		return nil, err
	}
	return &api.Created[api.Ring]{Status: http.StatusCreated, Body: e.rings.view(r)}, nil
}

func (e *Engine) getRing(_ context.Context, in *api.NameInput) (*api.Reply[api.Ring], error) {
	r, err := e.rings.named(in.Name)
	if err != nil {
		return nil, err
	}
	return &api.Reply[api.Ring]{Body: e.rings.view(r)}, nil
}

func (e *Engine) deleteRing(_ context.Context, in *api.NameInput) (*api.Nothing, error) {
	return nil, e.rings.delete(in.Name)
}

func (e *Engine) setRules(_ context.Context, in *api.RulesInput) (*api.Reply[api.Ring], error) {
	r, err := e.rings.setRules(in.Name, in.Body.Rules)
	if err != nil {
		return nil, err
	}
	return &api.Reply[api.Ring]{Body: e.rings.view(r)}, nil
}

func (e *Engine) pinRing(_ context.Context, in *api.PinInput) (*api.Reply[[]api.RingPin], error) {
	opened, err := e.rings.at(in.Name)
	if err != nil {
		return nil, err
	}
	if in.Body.EndTime <= in.Body.StartTime {
		return nil, api.Errorf(api.BadRequest, "endTime is not after startTime")
	}
	pins, err := opened.Protect(in.Body.StartTime*1000, in.Body.EndTime*1000, in.Body.Until*1000)
	if err != nil {
		return nil, &api.Error{Kind: api.Conflict, Text: err.Error()}
	}
	return &api.Reply[[]api.RingPin]{Body: pinsOf(pins)}, nil
}
