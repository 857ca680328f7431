package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A device is a ring's part on one device. Ring.mu guards it.
type device struct {
	name     string // in errors and problems
	index    uint16 // as its description says
	dir      string
	store    files.Store
	state    state.File
	tails    files.File
	segments []*segment
	current  *segment         // being written
	failed   error            // why nothing is written to it any more
	known    bool             // index is
	said     state.Descriptor // what its state says of the ring
	doubt    bool             // that may be older
	rebuilt  bool             // without its state, by its segments
	pinned   bool             // segments are protected of which its state does not say so
	missing  bool             // its files could not be opened: there is nothing to read either
	dirty    map[files.File]bool
}

// A segment is one file of a ring. Ring.mu guards it, but for its index, which has a lock of its own.
type segment struct {
	dev    *device
	number int
	file   files.File

	state.Segment

	slots    []index.Slot  // of its blocks; nil until somebody asks for a closed segment's
	used     int           // slots given out since it was opened
	inFlight int           // slots that are being written
	lost     int           // blocks that could not be written
	shelves  index.Shelves // for what the slots have of blocks that were written
	torn     []int         // places of blocks that make no sense, as far as anybody has looked
	unknown  bool          // the state says nothing of it
	broken   error         // why nothing is written to it: its file is not what it was

	index index.Index
}

// span makes first, last and the numbers follow the slots.
func (s *segment) span() {
	s.First, s.Last, s.SeqLo, s.SeqHi, s.TotalHi = math.MaxInt64, math.MinInt64, 0, 0, 0
	for i := range s.slots {
		b := &s.slots[i]
		if b.Seq == 0 {
			continue
		}
		s.First, s.Last = min(s.First, b.First), max(s.Last, b.Last)
		if s.SeqLo == 0 || b.Seq < s.SeqLo {
			s.SeqLo = b.Seq
		}
		s.SeqHi, s.TotalHi = max(s.SeqHi, b.Seq), max(s.TotalHi, b.Total)
	}
}

// indexed says where the index of a segment is.
func (r *Ring) indexed(s *segment) *index.Segment {
	return &index.Segment{File: s.file, Bytes: r.d.SegmentBytes, Number: s.number, Ring: r.d.Ring, Buffers: &r.buffers, Reader: &r.reader}
}

// usable reports whether a device takes blocks.
func (d *device) usable() bool { return d.failed == nil }

var errPinned = errors.New("everything on the device is protected from overwriting")

// victim returns the segment to be overwritten next: one that was never written, else the oldest that nothing protects.
func (d *device) victim(now int64) (*segment, error) {
	var best *segment
	whole := false
	for _, s := range d.segments {
		whole = whole || s.broken == nil
		if s == d.current || s.broken != nil || s.inFlight > 0 || s.State == state.Open && s.used > 0 || s.State != state.Empty && s.Pinned > now {
			continue
		}
		if best == nil || s.age() < best.age() {
			best = s
		}
	}
	if !whole {
		return nil, errors.New("none of its segments can be written")
	}
	if best == nil {
		return nil, errPinned
	}
	return best, nil
}

// age orders segments: the oldest first, those never written before all.
func (s *segment) age() uint64 {
	if s.State == state.Empty {
		return 0
	}
	return s.SeqHi + 1
}

// open makes s the segment that is written. It returns with the state file saying so on the disk, before the first block is overwritten.
// r.mu is held, and released meanwhile.
func (r *Ring) open(d *device, s *segment) error {
	if err := r.load(s); err != nil {
		// What was there cannot be listed, so it is forgotten block by block as it is overwritten.
		r.problem(fmt.Errorf("%s: %s: its old content cannot be read: %w", d.name, files.SegmentName(s.number), err))
		s.slots = make([]index.Slot, index.DataBlocks(r.d.SegmentBytes))
	}
	r.stock.count(s, s.slots)
	s.State, s.used, s.lost, s.torn, s.shelves = state.Open, 0, 0, nil, nil
	s.span()
	s.Floor = s.TotalHi
	s.index.Drop()
	d.current = s
	if err := r.writeDescriptor(d, false); err != nil { // what was overwritten before: of this one the index says it until the next one is written
		return err
	}
	return r.saveEntry(d, s.number, true)
}

// saveEntry writes the page of the state file with the entry of a segment. r.mu is held.
func (r *Ring) saveEntry(d *device, number int, sync bool) error {
	page, err := r.buffers.Get()
	if err != nil {
		return err
	}
	defer r.buffers.Put(page)
	entry := func(n int) *state.Segment {
		if n < len(d.segments) {
			return &d.segments[n].Segment
		}
		return nil
	}
	if err := d.state.WriteSegment(number, page[:files.PageSize], entry); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if sync {
		if err := d.state.File.Sync(); err != nil {
			return fmt.Errorf("write the state: %w", err)
		}
		return nil
	}
	d.dirty[d.state.File] = true
	return nil
}

// saveDescriptor writes what the ring is, and returns with that on the disk. r.mu is held.
func (r *Ring) saveDescriptor(d *device, clean bool) error {
	if err := r.writeDescriptor(d, clean); err != nil {
		return err
	}
	return d.state.File.Sync()
}

// writeDescriptor writes what the ring is. r.mu is held.
func (r *Ring) writeDescriptor(d *device, clean bool) error {
	page, err := r.buffers.Get()
	if err != nil {
		return err
	}
	defer r.buffers.Put(page)
	desc := r.d
	desc.Device, desc.Clean = d.index, clean
	if r.remembers {
		desc.Overwritten, desc.Ahead = r.overwritten, state.Pause{From: r.ahead.From, To: r.ahead.To}
	}
	for i := range desc.Dropped {
		desc.Dropped[i] = r.dropped[i].Load()
	}
	desc.Discarded, desc.Lost, desc.Total = r.discarded.Load(), r.losses.all(), r.total.Load()
	if err := d.state.WriteDescriptor(&desc, page[:files.PageSize]); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	d.dirty[d.state.File] = true
	return nil
}

// A listing is what the blocks of a segment are, as it is read without a lock.
type listing struct {
	s       *segment
	known   state.Segment // as it was then
	slots   []index.Slot
	torn    []int // places of blocks that make no sense
	damaged error // what is wrong with its index, so that its blocks were asked
	err     error
}

// listing begins one. r.mu is held.
func (r *Ring) listing(s *segment) *listing { return &listing{s: s, known: s.Segment} }

// read reads a listing: from the index of the segment if it is full, else from its blocks.
func (r *Ring) read(l *listing) {
	if l.known.State == state.Empty {
		l.slots = make([]index.Slot, index.DataBlocks(r.d.SegmentBytes))
		return
	}
	if l.known.State == state.Closed {
		if l.slots, l.damaged = l.s.index.Table(r.indexed(l.s)); l.damaged == nil {
			return
		}
	}
	if l.slots, l.torn, l.err = r.ask(l.s); l.known.State == state.Open {
		return
	}
	for i := range l.slots { // what the ring does not know any more
		if b := &l.slots[i]; b.Seq != 0 && (b.Seq < l.known.SeqLo || b.Seq > l.known.SeqHi && !r.cfg.ReadOnly) {
			*b = index.Slot{}
			l.torn = append(l.torn, i)
		}
	}
	slices.Sort(l.torn)
}

// tell says what is wrong with a segment that was listed. r.mu is held.
func (r *Ring) tell(l *listing) {
	s := l.s
	if l.damaged != nil {
		r.problem(fmt.Errorf("%s: the index of %s is damaged, so its blocks are asked: %w", s.dev.name, files.SegmentName(s.number), l.damaged))
	}
	if l.damaged != nil && len(l.torn) > 0 {
		r.problem(fmt.Errorf("%s: %d blocks of %s are damaged, or others than were written", s.dev.name, len(l.torn), files.SegmentName(s.number)))
	}
}

// load lists the blocks of a segment, if nobody did so before. r.mu is held.
func (r *Ring) load(s *segment) error {
	if s.slots != nil {
		return nil
	}
	l := r.listing(s)
	r.read(l)
	r.note(l)
	return l.err
}

// note makes a listing what is known of its segment. r.mu is held.
func (r *Ring) note(l *listing) {
	l.s.slots = l.slots
	if l.torn != nil {
		l.s.torn = l.torn
	}
	r.tell(l)
}

// preload is load for who does not hold r.mu, so that recording does not wait for the disk.
func (r *Ring) preload(s *segment) {
	r.mu.Lock()
	l := r.listing(s)
	want := s.slots == nil && s.State == state.Closed
	r.mu.Unlock()
	if !want {
		return
	}
	r.read(l)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.slots == nil && s.State == state.Closed && s.SeqHi == l.known.SeqHi && l.err == nil {
		r.note(l)
	}
}

// ask asks each block of a segment what is in it, and returns which make no sense.
func (r *Ring) ask(s *segment) (slots []index.Slot, places []int, err error) {
	slots = make([]index.Slot, index.DataBlocks(r.d.SegmentBytes))
	var wait sync.WaitGroup
	errs, torn := make([]error, 4), make([]bool, len(slots))
	for w := range errs {
		wait.Go(func() {
			b, err := files.Pages(block.TrailerPages)
			if err != nil {
				errs[w] = err
				return
			}
			defer files.Free(b)
			for i := w; i < len(slots); i += len(errs) {
				h, err := r.readTrailer(s, i, b)
				torn[i] = err != nil || h.Ring != r.d.Ring
				if err != nil {
					errs[w] = err
					continue
				}
				if !torn[i] && h.Seq != 0 {
					if h.Flags&block.FlagLost != 0 {
						r.losses.atLeast(h.Lost)
					}
					slots[i] = index.SlotOf(&h)
					slots[i].Bloom = slices.Clone(block.BloomOf(b))
				}
			}
		})
	}
	wait.Wait()
	for i := range torn {
		if torn[i] {
			places = append(places, i)
		}
	}
	return slots, places, errors.Join(errs...)
}

// readTrailer reads the end of a block: its header, and behind it its bloom filter. A block that is none has an empty header.
func (r *Ring) readTrailer(s *segment, i int, b []byte) (block.Header, error) {
	if _, err := s.file.ReadAt(b[:block.TrailerPages], int64(i+1)*block.Size-block.TrailerPages); err != nil {
		return block.Header{}, fmt.Errorf("read block %d of %s: %w", i, files.SegmentName(s.number), err)
	}
	h, err := block.ParseHeader(b[:block.TrailerPages])
	if err != nil {
		return block.Header{}, nil //nolint:nilerr // it holds nothing
	}
	return h, nil
}

// problem remembers and reports what is wrong. What cannot be read once the files are closed is not. r.mu is held.
func (r *Ring) problem(err error) {
	if r.shut {
		return
	}
	text := err.Error()
	if slices.Contains(r.problems, text) || len(r.problems) > mostProblems {
		return // a disk that is dying has as many damaged blocks as there are
	}
	if len(r.problems) == mostProblems {
		err = errors.New("more is wrong than is named here")
	}
	r.problems = append(r.problems, err.Error())
	r.report(err)
}

// mostProblems is how many are remembered, and told, beside devices that fail.
const mostProblems = 100

// fail takes a device out of writing. r.mu is held.
func (r *Ring) fail(d *device, err error) {
	if d.failed != nil {
		return
	}
	d.failed = err
	err = fmt.Errorf("%s takes no more blocks: %w", d.name, err)
	r.problems = append(r.problems, err.Error())
	r.report(err)
}
