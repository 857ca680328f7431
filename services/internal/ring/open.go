package ring

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/state"
)

// Open opens a ring. What is wrong with single devices, segments and blocks is in State.Problems and told to Config.Report; an error means that there is no
// ring to open at all. Blocks that were unfinished when the ring was cut off are put to their place.
func Open(c Config) (*Ring, error) {
	r, err := open(c)
	if err != nil {
		files.Free(c.Memory)
		return nil, fmt.Errorf("open ring %q: %w", cmp.Or(c.Name, fmt.Sprint(c.Dirs)), err)
	}
	return r, nil
}

func open(c Config) (*Ring, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Ring{cfg: c, waiting: make(map[uint64]*block.Image), flights: make(map[uint64]uint64), changed: make(chan struct{}), stop: make(chan struct{}),
		overwritten: math.MinInt64, began: math.MaxInt64,
		queries: make(map[*Results]struct{})}
	r.reorder.Store(c.ReorderBytes)
	r.buffers.Size = block.Size
	for i, dir := range c.Dirs {
		r.devices = append(r.devices, &device{name: c.DeviceNames[i], dir: dir, store: c.Store(dir), dirty: make(map[files.File]bool)})
	}
	if err := r.openDevices(); err != nil {
		r.closeFiles()
		return nil, err
	}
	if err := r.sameRing(); err != nil {
		r.closeFiles()
		return nil, err
	}
	r.mu.Lock()
	r.recover()
	r.agree()
	r.beginStock()
	r.discover()
	if r.needsStock(r.forgotten()) && (c.ReadOnly || r.stock.missed() == 0) { // nothing is to be read
		r.takeStock(true)
	}
	r.keepOnAll()
	r.checkKept()
	r.mu.Unlock()
	if c.ReadOnly {
		return r, nil
	}
	if err := r.start(); err != nil {
		r.closeFiles()
		return nil, err
	}
	return r, nil
}

// openDevices opens the files of all devices, those first whose state says what the ring is. It is an error if none can be opened.
func (r *Ring) openDevices() error {
	errs := make([]error, len(r.devices))
	for i, d := range r.devices {
		errs[i] = r.openDevice(d)
	}
	for i, d := range r.devices {
		if errs[i] != nil && r.lostState(errs[i]) {
			errs[i] = r.rebuild(d, errs[i])
		}
	}
	missing := 0
	for i, d := range r.devices {
		if errs[i] == nil {
			continue
		}
		missing++
		d.missing, d.segments = true, nil
		if errors.Is(errs[i], os.ErrNotExist) {
			errs[i] = fmt.Errorf("%s is missing: no ring lies there", d.name)
		} else {
			errs[i] = fmt.Errorf("%s is missing: %w", d.name, errs[i])
		}
		r.mu.Lock()
		d.failed = errs[i]
		r.problem(errs[i])
		r.mu.Unlock()
	}
	if missing == len(r.devices) {
		return errors.Join(errs...)
	}
	return nil
}

// openDevice opens the files of a device.
func (r *Ring) openDevice(d *device) error {
	f, err := d.store.Open(files.StateName, !r.cfg.ReadOnly)
	readOnly := r.cfg.ReadOnly
	if err != nil && !readOnly {
		// A device that can only be read still has its packets.
		var again error
		if f, again = d.store.Open(files.StateName, false); again == nil {
			d.failed = err
			readOnly = true
		}
		if again != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if !readOnly {
		if err := lock(f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	content, err := state.Read(f)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", files.StateName, err), f.Close())
	}
	return r.adopt(d, f, &content)
}

// lock keeps others from writing the ring whose state a file is.
func lock(f files.File) error {
	if locker, ok := f.(interface{ Lock() error }); ok {
		return locker.Lock()
	}
	return nil
}

// adopt opens a device whose state says so much. f is its file; nil if there is none.
func (r *Ring) adopt(d *device, f files.File, content *state.Content) error {
	desc := content.Descriptor
	if content.Doubt { // it is of the opening before, or of this one before it was closed
		desc.Generation++
		desc.Clean, desc.Overwritten = false, 0
	}
	if r.d.Ring != 0 && desc.Ring != r.d.Ring {
		return errors.Join(fmt.Errorf("it belongs to another ring, %q", desc.Name), f.Close())
	}
	d.state, d.index, d.known = state.File{File: f, Turns: content.Turns}, desc.Device, true
	d.said, d.doubt = desc, content.Doubt
	r.join(&desc)
	for n := range int(desc.Segments) {
		r.openSegment(d, n, &content.Segments[n])
	}
	r.mu.Lock()
	r.doubts(d, content)
	r.mu.Unlock()
	r.openTails(d)
	if d.failed != nil && !r.cfg.ReadOnly {
		r.mu.Lock()
		r.problem(fmt.Errorf("%s takes no more blocks: %w", d.name, d.failed))
		r.mu.Unlock()
	}
	return nil
}

// join makes what a device says of the ring what is known of it.
func (r *Ring) join(desc *state.Descriptor) {
	if r.d.Ring == 0 {
		r.d = *desc
	}
	r.d.Generation = max(r.d.Generation, desc.Generation)
	if desc.KeptTurn > r.d.KeptTurn {
		r.d.Kept, r.d.KeptTurn = desc.Kept, desc.KeptTurn
	}
	r.remember(desc)
	r.d.Clean, r.d.Lacking = r.d.Clean && desc.Clean, r.d.Lacking || desc.Lacking
	for i := range desc.Dropped {
		r.dropped[i].Store(max(r.dropped[i].Load(), desc.Dropped[i]))
	}
	r.discarded.Store(max(r.discarded.Load(), desc.Discarded))
	r.losses.atLeast(desc.Lost)
	r.total.Store(max(r.total.Load(), desc.Total))
}

// writes reports whether a device is to be written: one that cannot be still has its packets.
func (r *Ring) writes(d *device) bool { return !r.cfg.ReadOnly && d.failed == nil }

// openSegment opens a segment of which the state says so much.
func (r *Ring) openSegment(d *device, n int, known *state.Entry) {
	s := &segment{dev: d, number: n, Segment: known.Segment, unknown: !known.Known}
	d.segments = append(d.segments, s)
	var err error
	if s.file, err = d.store.Open(files.SegmentName(n), r.writes(d)); err != nil {
		s.file = brokenFile{err}
	} else if size, serr := s.file.Size(); serr == nil && size != r.d.SegmentBytes {
		err = fmt.Errorf("it has %d bytes, not %d", size, r.d.SegmentBytes)
	}
	if d.rebuilt && errors.Is(err, os.ErrNotExist) { // nobody says what was in it
		s.State, s.broken = state.Empty, err
		return
	}
	if err != nil {
		r.mu.Lock()
		r.leaveOut(s, err)
		r.mu.Unlock()
	}
	if known.Doubt && !r.begunWith(s) {
		s.Unknown()
		s.unknown = true
	}
	if s.unknown {
		r.isFull(s)
	}
	if s.State == state.Closed {
		s.index.Expect(s.SeqHi, r.cfg.ReadOnly)
	}
}

// openTails opens the slots of unfinished blocks, or makes them anew for who writes, if there are none.
func (r *Ring) openTails(d *device) {
	f, err := d.store.Open(files.TailsName, r.writes(d))
	if errors.Is(err, os.ErrNotExist) && r.writes(d) {
		if f, err = r.makeTails(d); err == nil {
			r.mu.Lock()
			r.problem(fmt.Errorf("%s: %s was lost, and is made anew: blocks that were unfinished when the ring was cut off are lost", d.name, files.TailsName))
			r.mu.Unlock()
		}
	}
	if err == nil {
		d.tails = f
	} else if d.failed == nil {
		d.failed = fmt.Errorf("open %s: %w", files.TailsName, err)
	}
}

func (r *Ring) makeTails(d *device) (files.File, error) {
	b, err := r.buffers.Get()
	if err != nil {
		return nil, err
	}
	defer r.buffers.Put(b)
	if err := createTails(d.store, r.cfg.Workers, b); err != nil {
		return nil, err
	}
	return d.store.Open(files.TailsName, true)
}

// begunWith reports whether a segment begins as its entry says, which may be an older one: what was written since begins with another block.
func (r *Ring) begunWith(s *segment) bool {
	b, err := r.buffers.Get()
	if err != nil {
		return false
	}
	defer r.buffers.Put(b)
	h, err := r.readTrailer(s, 0, b)
	if err != nil || h.Ring != r.d.Ring {
		return false
	}
	return s.State == state.Open || h.Seq <= s.SeqHi && (s.State == state.Closed || h.Seq == 0)
}

// doubts says what of a device's state is damaged. r.mu is held.
func (r *Ring) doubts(d *device, c *state.Content) {
	if d.rebuilt { // that has been said
		return
	}
	doubt, unknown := c.Doubt, 0
	for i := range c.Segments {
		doubt = doubt || c.Segments[i].Doubt
		if !c.Segments[i].Known {
			unknown++
		}
	}
	if doubt {
		r.problem(fmt.Errorf("%s: a page of %s is damaged: what the one before it says is compared with the segments", d.name, files.StateName))
	}
	if unknown > 0 {
		r.problem(fmt.Errorf("%s: what %s says of %d segments is damaged: their blocks are asked, and none is protected any more", d.name, files.StateName, unknown))
	}
}

// A brokenFile stands for a segment whose file cannot be opened.
type brokenFile struct{ err error }

func (b brokenFile) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func (b brokenFile) WriteAt([]byte, int64) (int, error) { return 0, b.err }

func (b brokenFile) Sync() error { return b.err }

func (b brokenFile) Size() (int64, error) { return 0, b.err }

func (b brokenFile) Close() error { return nil }

// sameRing checks that each device of the ring is named once. A ring that is only read may be named in part.
func (r *Ring) sameRing() error {
	named := make(map[uint16]string)
	for _, d := range r.devices {
		if d.missing {
			continue
		}
		if other, twice := named[d.index]; twice {
			return fmt.Errorf("%s and %s are the same device of the ring", other, d.name)
		}
		named[d.index] = d.name
	}
	if n, all := len(r.devices), int(r.d.Devices); n != all {
		err := fmt.Errorf("it has %d devices, and %d are named", all, n)
		if !r.cfg.ReadOnly || n > all {
			return err
		}
		r.mu.Lock()
		r.problem(err)
		r.mu.Unlock()
	}
	return nil
}
