package host

import (
	"context"

	"galvo/services/internal/handover"
)

// forEngine is what the engine is told of a device.
func forEngine(d *device) handover.Device {
	return handover.Device{ID: d.ID, Name: d.Name, Directory: d.dir, Identity: d.identity, Active: d.State == active, RingShare: d.RingShare}
}

// devices returns what the engine should know: the devices of the configuration. ok is not set before they were looked at: an engine that has them from another
// host service goes on with them so long.
func (s *storage) devices() (now handover.Storage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		return now, false
	}
	now = handover.Storage{Number: s.number, Devices: []handover.Device{}}
	for _, d := range s.seen {
		if d.is != nil {
			now.Devices = append(now.Devices, forEngine(d))
		}
	}
	return now, true
}

// follower says whether there is an engine. One that has just come follows nothing yet.
func (s *storage) follower(there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine, s.follows = there, 0
	s.follow()
}

// followed says up to which number the engine follows.
func (s *storage) followed(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follows = number
	s.follow()
}

// follow wakes who waits for the engine. s.mu is held.
func (s *storage) follow() {
	close(s.followup)
	s.followup = make(chan struct{})
}

// awaitEngine waits until the engine, if there is one, follows the devices as they are now: it has opened those that are active, and has nothing open on the
// others. It reports whether that came true before ctx was done.
func (s *storage) awaitEngine(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number := s.number; s.engine && s.follows < number; {
		changed := s.followup
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return !s.engine || s.follows >= number
		}
	}
	return true
}
