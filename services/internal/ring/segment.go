package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// A device is a ring's part on one device. Ring.mu guards it.
type device struct {
	number   int    // in Config.Dirs
	index    uint16 // as its description says
	dir      string
	store    Store
	state    stateFile
	tails    File
	segments []*segment
	current  *segment // being written
	failed   error    // why nothing is written to it any more
	missing  bool     // its files could not be opened: there is nothing to read either
	dirty    map[File]bool
}

// A segment is one file of a ring. Ring.mu guards it, but for its index, which has a lock of its own.
type segment struct {
	dev    *device
	number int
	file   File

	state        segmentState
	seqLo, seqHi uint64 // of its blocks
	first, last  int64  // times of its packets
	pinned       int64  // not overwritten before this time
	floor        uint64 // header.total of its blocks was at most this before it was opened: above are new ones
	totalHi      uint64 // the highest header.total

	slots    []slot // of its blocks; nil until somebody asks for a closed segment's
	used     int    // slots given out since it was opened
	inFlight int    // slots that are being written
	lost     int    // blocks that could not be written

	index index
}

// A slot says what is in a place for a block.
type slot struct {
	seq         uint64 // 0 = nothing
	first, last int64
	total       uint64
	packets     uint32
	bytes       uint32
	generation  uint32
	worker      uint16
	flags       uint16
	bloom       bloom    // while the segment has no exact index; else nil
	keys        []uint64 // in the same way
}

// slotExact in a task's flags says that the exact index has named the block.
const slotExact = 1 << 15

func (h *header) slot() slot {
	return slot{seq: h.seq, first: h.first, last: h.last, total: h.total, packets: h.packets, bytes: h.bytes, generation: h.generation, worker: h.worker, flags: h.flags}
}

// blocks returns how many blocks a segment of so many bytes has for packets; the others at its end hold its index.
func dataBlocks(bytes int64) int {
	n := int(bytes / blockSize)
	return n - indexBlocks(bytes)
}

// indexBlocks returns how many blocks a segment's index has: one of 256.
func indexBlocks(bytes int64) int { return (int(bytes/blockSize) + 255) / 256 }

// span makes first, last and the numbers follow the slots.
func (s *segment) span() {
	s.first, s.last, s.seqLo, s.seqHi, s.totalHi = math.MaxInt64, math.MinInt64, 0, 0, 0
	for i := range s.slots {
		b := &s.slots[i]
		if b.seq == 0 {
			continue
		}
		s.first, s.last = min(s.first, b.first), max(s.last, b.last)
		if s.seqLo == 0 || b.seq < s.seqLo {
			s.seqLo = b.seq
		}
		s.seqHi, s.totalHi = max(s.seqHi, b.seq), max(s.totalHi, b.total)
	}
}

// usable reports whether a device takes blocks.
func (d *device) usable() bool { return d.failed == nil }

var errPinned = errors.New("everything on the device is protected from overwriting")

// victim returns the segment to be overwritten next: one that was never written, else the oldest that nothing protects.
func (d *device) victim(now int64) (*segment, error) {
	var best *segment
	for _, s := range d.segments {
		if s == d.current || s.inFlight > 0 || s.state == segmentOpen && s.used > 0 || s.state != segmentEmpty && s.pinned > now {
			continue
		}
		if best == nil || s.age() < best.age() {
			best = s
		}
	}
	if best == nil {
		return nil, errPinned
	}
	return best, nil
}

// age orders segments: the oldest first, those never written before all.
func (s *segment) age() uint64 {
	if s.state == segmentEmpty {
		return 0
	}
	return s.seqHi + 1
}

// open makes s the segment that is written. It returns with the state file saying so on the disk, before the first block is overwritten.
// r.mu is held, and released meanwhile.
func (r *Ring) open(d *device, s *segment) error {
	if err := r.load(s); err != nil {
		// What was there cannot be listed, so it is forgotten block by block as it is overwritten.
		r.problem(fmt.Errorf("device %d: %s: its old content cannot be read: %w", d.number, segmentName(s.number), err))
		s.slots = make([]slot, dataBlocks(r.d.segment))
	}
	s.state, s.used, s.lost = segmentOpen, 0, 0
	s.span()
	s.floor = s.totalHi
	s.index.drop()
	d.current = s
	return r.saveEntry(d, s.number, true)
}

// saveEntry writes the page of the state file with the entry of a segment. r.mu is held.
func (r *Ring) saveEntry(d *device, number int, sync bool) error {
	page, err := r.buffers.get()
	if err != nil {
		return err
	}
	defer r.buffers.put(page)
	page = page[:pageSize]
	clear(page)
	from := number / entriesPerPage * entriesPerPage
	for i := range entriesPerPage {
		if from+i < len(d.segments) {
			d.segments[from+i].putEntry(page[64+i*segmentEntry:])
		}
	}
	if err := d.state.write(1+number/entriesPerPage, page); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if sync {
		if err := d.state.file.Sync(); err != nil {
			return fmt.Errorf("write the state: %w", err)
		}
		return nil
	}
	d.dirty[d.state.file] = true
	return nil
}

// saveDescriptor writes what the ring is. r.mu is held.
func (r *Ring) saveDescriptor(d *device, clean bool) error {
	page, err := r.buffers.get()
	if err != nil {
		return err
	}
	defer r.buffers.put(page)
	page = page[:pageSize]
	desc := r.d
	desc.device, desc.clean = d.index, clean
	for i := range desc.dropped {
		desc.dropped[i] = r.dropped[i].Load()
	}
	desc.discarded = r.discarded.Load()
	desc.put(page)
	if err := d.state.write(0, page); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return d.state.file.Sync()
}

// load lists the blocks of a segment, if nobody did so before. r.mu is held.
func (r *Ring) load(s *segment) error {
	if s.slots != nil {
		return nil
	}
	if s.state == segmentEmpty {
		s.slots = make([]slot, dataBlocks(r.d.segment))
		return nil
	}
	slots, err := s.index.table(r, s)
	if err == nil {
		s.slots = slots
		return nil
	}
	r.problem(fmt.Errorf("device %d: the index of %s is damaged, so its blocks are asked: %w", s.dev.number, segmentName(s.number), err))
	return r.scan(s)
}

// scan asks each block of a segment what is in it. r.mu is held.
func (r *Ring) scan(s *segment) error {
	slots := make([]slot, dataBlocks(r.d.segment))
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		wait.Go(func() {
			b, err := newPages(trailerPages)
			if err != nil {
				errs[w] = err
				return
			}
			defer freePages(b)
			for i := w; i < len(slots); i += len(errs) {
				h, err := r.readTrailer(s, i, b)
				if err != nil {
					errs[w] = err // unreadable; a block that makes no sense holds nothing
					continue
				}
				if h.ring == r.d.ring && h.seq != 0 {
					slots[i] = h.slot()
					slots[i].bloom = append(bloom(nil), b[trailerPages-trailerSize+bloomAt:][:bloomSize]...)
				}
			}
		})
	}
	wait.Wait()
	s.slots = slots
	return errors.Join(errs...)
}

// readTrailer reads the end of a block: its header, and behind it its bloom filter. A block that is none has an empty header.
func (r *Ring) readTrailer(s *segment, i int, b []byte) (header, error) {
	if _, err := s.file.ReadAt(b[:trailerPages], int64(i+1)*blockSize-trailerPages); err != nil {
		return header{}, fmt.Errorf("read block %d of %s: %w", i, segmentName(s.number), err)
	}
	h, err := parseHeader(b[trailerPages-trailerSize : trailerPages])
	if err != nil {
		return header{}, nil //nolint:nilerr // torn or never written: it holds nothing
	}
	return h, nil
}

// problem remembers and reports what is wrong. r.mu is held.
func (r *Ring) problem(err error) {
	text := err.Error()
	if !slices.Contains(r.problems, text) && len(r.problems) < 100 {
		r.problems = append(r.problems, text)
	}
	go r.report(err)
}

// fail takes a device out of writing. r.mu is held.
func (r *Ring) fail(d *device, err error) {
	if d.failed != nil {
		return
	}
	d.failed = err
	r.problem(fmt.Errorf("device %d (%s) takes no more blocks: %w", d.number, d.dir, err))
}
