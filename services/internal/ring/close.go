package ring

import (
	"errors"

	"galvo/services/internal/ring/files"
)

// ErrClosed is the error of a query whose ring was closed, or deleted, meanwhile.
var ErrClosed = errors.New("the ring was closed")

// Close ends recording: what is unfinished goes to its place, and everything is synced. Queries end with ErrClosed; what they have delivered stays valid until
// their own Close. Errors say what could not be written.
func (r *Ring) Close() error {
	memory, err := r.Release()
	files.Free(memory)
	return err
}

// Release is Close for a ring that is opened anew: it returns what Config.Memory is then, or nil if somebody may still read it.
func (r *Ring) Release() (memory []byte, err error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, nil
	}
	r.closed = true
	r.handing.Lock()
	close(r.changed)
	r.changed = make(chan struct{})
	r.handing.Unlock()
	r.mu.Unlock()
	for _, s := range r.stages {
		s.Finish()
	}
	if r.queue != nil {
		close(r.queue)
		close(r.tails)
		close(r.stop)
	}
	r.stopped.Wait()
	for _, unpin := range r.unpin {
		unpin()
	}
	r.sync()
	r.mu.Lock()
	r.d.Saved = r.wholeUntil()
	asked := len(r.queries) > 0
	for q := range r.queries {
		q.cancel(ErrClosed)
	}
	for _, d := range r.devices {
		if d.failed == nil && !r.cfg.ReadOnly {
			err = errors.Join(err, r.saveDescriptor(d, true))
		} else if !r.cfg.ReadOnly {
			err = errors.Join(err, d.failed)
		}
	}
	r.shut = true
	r.mu.Unlock()
	err = errors.Join(err, r.reader.Closing(r.closeFiles))
	if !asked {
		r.readers.Wait() // for who has just left
		memory = r.memory
	}
	go func() { // the kernel takes a quarter of a second to end reading
		r.readers.Wait() // somebody may still read what he was given
		if memory == nil {
			files.Free(r.memory)
		}
		r.sorter.Free()
		r.buffers.Close()
		r.reader.Close()
	}()
	return memory, err
}

func (r *Ring) closeFiles() error {
	var err error
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.file != nil {
				err = errors.Join(err, s.file.Close())
			}
		}
		if d.tails != nil {
			err = errors.Join(err, d.tails.Close())
		}
		if d.state.File != nil {
			err = errors.Join(err, d.state.File.Close())
		}
	}
	return err
}
