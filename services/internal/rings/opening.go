package rings

import (
	"log/slog"
	"slices"

	"galvo/services/internal/ring"
	"galvo/services/internal/ring/files"
)

// reopen brings a ring in line with the devices that are active. rs.changing is held.
func (rs *Set) reopen(r *Recorder) {
	dirs, active := rs.Volumes.RingDirectories(r.Name, r.Devices)
	if r.ring != nil && slices.Equal(dirs, r.dirs) {
		return
	}
	rs.shut(r)
	if active == 0 {
		rs.drop(r)
		rs.set(r, stateWaiting, "none of its storage devices is active: activate one")
		return
	}
	c, wrong := rs.config(r, dirs)
	if wrong != nil { // a group has another name now, say
		slog.Warn("ring", "name", r.Name, "error", wrong)
	}
	c.Memory, r.memory = r.memory, nil
	opened, err := ring.Open(c)
	if err != nil {
		rs.drop(r)
		slog.Error("ring", "name", r.Name, "error", err)
		rs.set(r, stateFailed, err.Error()+": bring its files back, or delete the ring")
		return
	}
	var stages []ring.Stage
	for w := range rs.workers {
		stages = append(stages, opened.Stage(w, rs.Interfaces))
	}
	rs.mu.Lock()
	r.ring, r.stages, r.dirs, r.state, r.reason, r.inFull = opened, stages, dirs, stateRecording, inFull(wrong), wrong != nil
	if s := opened.State(); r.found && uint64(s.SizeRaw) != r.SizeBytes {
		slog.Warn("ring: it was there already", "name", r.Name, "bytes", s.SizeRaw, "asked for", r.SizeBytes)
		r.SizeBytes, r.Replication = uint64(s.SizeRaw), s.Copies
		if err := rs.save(); err != nil {
			slog.Error("save what the rings are", "error", err)
		}
	}
	rs.mu.Unlock()
	rs.publish()
	opened.Resume() // batches that were under way went past it
}

// config says how a ring is made or opened. The error is about the first rule that is wrong; the configuration has those before it.
func (rs *Set) config(r *Recorder, dirs []string) (ring.Config, error) {
	rules, wrong := compile(r.Rules, rs.Env(), r.calls)
	queue := rs.QueueBytes
	if r.QueueBytes != 0 {
		queue = min(queue, r.QueueBytes)
	}
	var names []string
	away := map[string]error{}
	for i, id := range r.Devices {
		names = append(names, "storage device "+rs.Volumes.Name(id))
		if err := rs.Volumes.Absent(id); err != nil {
			away[dirs[i]] = err
		}
	}
	store := func(dir string) files.Store {
		switch {
		case away[dir] != nil:
			return awayStore{away[dir]}
		case rs.Store != nil:
			return rs.Store(dir)
		}
		return files.Open(dir)
	}
	return ring.Config{
		Name: r.Name, Dirs: dirs, DeviceNames: names, Bytes: int64(r.SizeBytes) / int64(len(dirs)), Replicas: r.Replication, Rules: rules, Workers: len(rs.workers),
		QueueBytes: int64(queue), ReorderBytes: int64(rs.reorderBytes.Load()), Store: store,
		Report:   func(err error) { slog.Error("ring", "name", r.Name, "error", err) },
		Progress: func(done, total int64) { r.progress.Store(int32(done * 100 / max(total, 1))) },
	}, wrong
}

// An awayStore is what a ring has on a storage device that is not active: nothing, and why.
type awayStore struct{ why error }

func (a awayStore) Create(string, int64) (files.File, error) { return nil, a.why }

func (a awayStore) Open(string, bool) (files.File, error) { return nil, a.why }

func (a awayStore) Segments() ([]int, error) { return nil, a.why }

func (a awayStore) Remove() error { return a.why }

// shut closes a ring, if it is open. A worker that has it in hand yet finds that it has ended. rs.changing is held.
func (rs *Set) shut(r *Recorder) {
	rs.mu.Lock()
	opened := r.ring
	r.ring, r.stages, r.dirs = nil, nil, nil
	if opened != nil {
		r.state, r.reason = stateWaiting, "it is opened anew, because a storage device of its own comes or goes: ask again in a moment"
	}
	rs.mu.Unlock()
	if opened == nil {
		return
	}
	rs.publish()
	memory, err := opened.Release()
	r.memory = memory
	if err != nil {
		slog.Error("ring", "name", r.Name, "error", err)
	}
}

// drop is shut for a ring that is not opened again soon. rs.changing is held.
func (rs *Set) drop(r *Recorder) {
	rs.shut(r)
	files.Free(r.memory)
	r.memory = nil
}
