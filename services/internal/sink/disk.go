package sink

import (
	"errors"
	"fmt"
	"path"
	"sync/atomic"
	"syscall"
	"time"

	"galvo/services/api"
	"galvo/services/internal/volume"
)

// Files is a sink that takes a savefile, and another one after it: a capture that is split.
type Files interface {
	Sink

	// Begin begins a file with packets from the time t on.
	Begin(t time.Time) error

	// Complete writes what completes the file, for which there is room also on a device that is full, and ends the file. Until Begin nothing is written.
	Complete(b []byte) error
}

// A Disk is a sink that writes savefiles on a storage device. A file holds whole packets only at every moment, and is on the device when it is complete.
type Disk struct {
	volume    *volume.Volume
	directory string
	name      func(t time.Time) string
	file      *volume.File // nil between two files
	named     string       // the latest file, without its number
	number    int          // behind that name

	latest atomic.Pointer[string] // name of the latest file
	files  atomic.Uint64
	until  atomic.Int64 // when Interrupt lets no more be written, ns since the epoch; 0 is never
}

// NewDisk returns a sink that writes to a directory on a device, and begins its first file. name names the file for packets from a time on, and gets a
// number where that name is taken. The error is an *api.Error.
func NewDisk(v *volume.Volume, directory string, start time.Time, name func(t time.Time) string) (*Disk, error) {
	d := &Disk{volume: v, directory: directory, name: name}
	return d, d.begin(start)
}

// Latest returns the name of the latest file and how many there are. It may be called by any goroutine.
func (d *Disk) Latest() (name string, files uint64) { return *d.latest.Load(), d.files.Load() }

func (d *Disk) begin(t time.Time) error {
	name, first := d.name(t), 0
	if name == d.named { // numbers go on, also where earlier files were deleted, and nobody counts up to them again
		first = d.number + 1
	}
	f, err := d.volume.Create(d.directory, name, first)
	if err != nil {
		return err
	}
	d.file, d.named, d.number = f, name, f.Number()
	d.latest.Store(new(path.Base(f.Path())))
	d.files.Add(1)
	return nil
}

// Begin begins another file.
func (d *Disk) Begin(t time.Time) error {
	if err := d.begin(t); err != nil {
		return d.end(err)
	}
	return nil
}

// Write writes all of b or nothing.
func (d *Disk) Write(b []byte) (int, error) {
	if at := d.until.Load(); at != 0 && time.Now().UnixNano() >= at {
		return 0, &End{Words: "the storage device was too slow to take what waited", Failed: true}
	}
	if err := d.file.Write(b); err != nil {
		return 0, d.end(err)
	}
	return len(b), nil
}

// Flush does nothing: what was written can be read.
func (d *Disk) Flush() error { return nil }

// Interrupt lets no more be written when the time has come. A write that the kernel holds up goes on.
func (d *Disk) Interrupt(at time.Time) {
	d.until.CompareAndSwap(0, at.UnixNano())
}

// Complete ends the file. It may be called although Write has failed.
func (d *Disk) Complete(b []byte) error {
	f := d.file
	if f == nil {
		return nil
	}
	d.file = nil
	err := f.Complete(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return d.end(err)
	}
	return nil
}

// Close ends the file, if there is one, as it is.
func (d *Disk) Close() error { return d.Complete(nil) }

// Discard deletes the file: the capture was refused.
func (d *Disk) Discard() {
	d.file.Discard()
	d.file = nil
}

// end says what an error means for the capture.
func (d *Disk) end(err error) *End {
	var known *End
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), isFull(err):
		return &End{Words: "storage full", Err: err}
	}
	return &End{Words: fmt.Sprintf("the storage device %s failed: %v", d.volume.Name(), err), Failed: true, Err: err}
}

func isFull(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Kind == api.StorageFull
}
