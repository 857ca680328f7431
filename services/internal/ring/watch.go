package ring

import (
	"fmt"

	"galvo/services/internal/ring/files"
)

// watchEvery is after how many rounds of making permanent what was written the files are looked at.
const watchEvery = 10

// watch notes which files were deleted or cut by somebody else: writing to them succeeds, and what is written is not there when the ring is opened anew.
func (r *Ring) watch() {
	for _, d := range r.devices {
		r.mu.Lock()
		usable := d.usable()
		r.mu.Unlock()
		if !usable {
			continue
		}
		for _, s := range d.segments {
			if err := intact(s.file, r.d.SegmentBytes); err != nil {
				r.mu.Lock()
				r.leaveOut(s, err)
				r.mu.Unlock()
			}
		}
		for name, f := range map[string]files.File{files.StateName: d.state.File, files.TailsName: d.tails} {
			if err := intact(f, 0); err != nil {
				r.mu.Lock()
				r.fail(d, fmt.Errorf("%s: %w; what is on it now can be read until the ring is closed", name, err))
				r.mu.Unlock()
			}
		}
	}
}

// intact returns an error if a file is not what it was.
func intact(f files.File, size int64) error {
	if f, ok := f.(interface{ Intact(size int64) error }); ok {
		return f.Intact(size)
	}
	return nil
}

// leaveOut has nothing more written to a segment. What can be read of it is read on. r.mu is held.
func (r *Ring) leaveOut(s *segment, err error) {
	if s.broken == nil {
		s.broken = err
		r.problem(fmt.Errorf("%s: %s is left out: %w", s.dev.name, files.SegmentName(s.number), err))
	}
}
