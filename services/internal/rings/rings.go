// Package rings keeps the packet ring buffers of a device: it makes, opens, closes and deletes them as its storage devices come and go, and has the workers record into those
// that are open. What a ring is on the disk is package ring's.
package rings

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"galvo/services/api"
	"galvo/services/internal/filter"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/rule"
	"galvo/services/internal/volume"
)

// A Config says what rings are made of. Everything in it is needed, but Store.
type Config struct {
	State        string // directory in which the list of rings is kept
	Workers      int
	Max          int    // rings that record at once
	QueueBytes   uint64 // of each ring, at most
	ReorderBytes uint64 // for the readers of a ring
	Volumes      *volume.Set
	Env          func() *filter.Env           // what the rules of a ring are compiled against
	EnvNow       func() *filter.Env           // likewise, but what names a port that is not there is wrong
	Interfaces   func() []pipeline.Interface  // of the workers' frames
	Store        func(dir string) files.Store // how devices are written; nil is the ordinary way
}

// A Set is the packet ring buffers. What they are is kept in a file; they record while a storage device of theirs is active.
type Set struct {
	Config
	path         string // of the file
	reorderBytes atomic.Uint64
	workers      []*recording

	changing sync.Mutex // held by who opens, closes, makes or deletes a ring, which takes its time
	closed   bool       // nothing is opened any more; guarded by changing

	mu      sync.Mutex
	list    []*Recorder // in the order of their creation; guarded by mu, as what follows
	deleted []*Recorder // whose Devices still have files of theirs, since these were away
}

// A Recorder is one ring: what was asked for, and how far that is. What changes is guarded by Set.mu.
type Recorder struct {
	Made    bool // its files are whole
	Deleted bool `json:",omitempty"` // it is no more, but for its files on Devices
	api.RingRequest
	Places map[string]string `json:",omitempty"` // directory below the state directory of each of its Devices, as far as it is known

	state, reason string
	found         bool // its files were there, with packets, when it was to be created
	progress      atomic.Int32
	cancel        context.CancelFunc // of its creation; nil if that is over
	created       chan struct{}      // closed when it is
	dirs          []string           // of its devices, as it was opened
	ring          *ring.Ring         // nil unless it records
	stages        []ring.Stage
	memory        []byte        // of the ring that was shut, for the one that is opened next. Guarded by Set.changing
	calls         []*rule.Calls // that its rules are for, by rule; they outlive the ring's being opened anew
	inFull        bool          // it was opened though a rule is wrong. Guarded by Set.changing
}

// The states of a ring, as api.Ring has them.
const (
	stateCreating  = "creating"
	stateRecording = "recording"
	stateStopped   = "stopped" // it can be read only
	stateWaiting   = "waiting"
	stateFailed    = "failed"
)

// Open reads what rings there are. They are opened when Follow finds their storage devices.
func Open(c Config) *Set {
	rs := &Set{Config: c, path: filepath.Join(c.State, "rings.json")}
	rs.reorderBytes.Store(c.ReorderBytes)
	for range c.Workers {
		r := &recording{}
		r.rings.Store(new([]ring.Stage))
		rs.workers = append(rs.workers, r)
	}
	rs.read()
	for _, r := range rs.list {
		r.state, r.reason, r.calls = stateWaiting, "its storage devices are not there yet", callsOf(r.Rules)
	}
	for _, r := range rs.list {
		if r.Deleted {
			rs.deleted = append(rs.deleted, r)
		}
	}
	rs.list = slices.DeleteFunc(rs.list, func(r *Recorder) bool { return r.Deleted })
	return rs
}

// set changes what is shown of a ring.
func (rs *Set) set(r *Recorder, state, reason string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.state, r.reason = state, reason
}

// Follow opens the rings whose devices have come, and opens those anew of which one has come or gone.
func (rs *Set) Follow() {
	rs.changing.Lock()
	defer rs.changing.Unlock()
	if rs.closed {
		return
	}
	rs.settle()
	rs.sweep()
	for i, r := range rs.all() {
		rs.mu.Lock()
		making, made := r.cancel != nil, r.Made
		rs.mu.Unlock()
		switch {
		case making:
		case i >= rs.Max:
			rs.drop(r)
			rs.set(r, stateWaiting, fmt.Sprintf("%d rings can record at once: delete another one, or raise the setting rings.max and restart the processing", rs.Max))
		case !made:
			rs.make(r)
		default:
			rs.reopen(r)
		}
	}
}

// settle finds the devices of all rings again that are called something else now: the id of a directory is its name. rs.changing is held.
func (rs *Set) settle() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	changed := false
	for _, r := range slices.Concat(rs.list, rs.deleted) {
		devices, places := rs.Volumes.Locate(r.Devices, r.Places)
		changed = changed || !slices.Equal(devices, r.Devices) || !maps.Equal(places, r.Places)
		r.Devices, r.Places = devices, places
	}
	if !changed {
		return
	}
	if err := rs.save(); err != nil {
		slog.Error("save where the rings are", "error", err)
	}
}

// SetReorder changes the memory in which readers put packets in order, of those that begin from now on.
func (rs *Set) SetReorder(bytes uint64) {
	rs.changing.Lock() // none is opened meanwhile with what was set before
	defer rs.changing.Unlock()
	rs.reorderBytes.Store(bytes)
	for _, r := range rs.all() {
		if r.ring != nil {
			r.ring.SetReorder(int64(bytes))
		}
	}
}

// LetGo closes the rings that have a part on a device, before that is not to be used any more. One that is being created there is created anew when the device is back.
func (rs *Set) LetGo(device string) {
	for _, created := range rs.halt(device) {
		<-created // without a lock, which the end of a creation needs
	}
	rs.changing.Lock()
	defer rs.changing.Unlock()
	for _, r := range rs.all() {
		if slices.Contains(r.Devices, device) {
			rs.shut(r)
		}
	}
}

// Lost tells the rings how many frames the ports have lost.
func (rs *Set) Lost(byInterface []uint64) {
	frames := uint64(0)
	for _, n := range byInterface {
		frames += n
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.list {
		if r.ring != nil {
			r.ring.Lost(frames)
		}
	}
}

// Close ends recording.
func (rs *Set) Close() {
	rs.mu.Lock()
	list := slices.Clone(rs.list)
	var making []chan struct{}
	for _, r := range list {
		if r.cancel != nil {
			r.cancel()
			making = append(making, r.created)
		}
	}
	rs.mu.Unlock()
	for _, c := range making {
		<-c
	}
	rs.changing.Lock()
	defer rs.changing.Unlock()
	rs.closed = true
	for _, r := range list {
		rs.drop(r)
	}
}
