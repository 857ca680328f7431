package ring

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// recover finds out what is in the ring: from the state, and where that says that a segment was being written, from its blocks. r.mu is held.
func (r *Ring) recover() {
	newest := index.Slot{}
	synced := make(map[*device]uint64) // up to which total blocks were there for good, as they say themselves: what others say is of a time when the device may have been away
	var open []*segment
	listed := r.listOpen()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Open {
				l := listed[s]
				s.slots, s.torn = l.slots, l.torn
				if l.err != nil {
					r.problem(fmt.Errorf("%s: %w", d.name, l.err))
				}
				if s.span(); s.unknown && s.SeqHi == 0 && len(s.torn) == 0 {
					s.State = state.Empty
					continue
				}
				open = append(open, s)
			}
			if s.SeqHi > newest.Seq {
				newest.Seq = s.SeqHi
			}
			r.total.Store(max(r.total.Load(), s.TotalHi))
		}
	}
	b, err := r.buffers.Get()
	if err != nil {
		r.problem(err)
		return
	}
	defer r.buffers.Put(b)
	for _, s := range open {
		for i := range s.slots {
			if s.slots[i].Seq == 0 {
				continue
			}
			if h, err := r.readTrailer(s, i, b); err == nil {
				synced[s.dev] = max(synced[s.dev], h.Synced)
			}
		}
	}
	for _, d := range r.devices {
		synced[d] = max(synced[d], r.syncedBefore(d, b))
		if r.d.Clean { // what is not whole is no longer what was written
			synced[d] = math.MaxUint64
		}
	}
	whole := make(map[uint64]bool)
	torn := 0
	for _, s := range open {
		for i := range s.slots {
			b := &s.slots[i]
			if b.Seq != 0 && b.Total > synced[s.dev] && !r.wholeBlock(s, i) {
				*b = index.Slot{}
				torn++
			}
			if b.Seq != 0 {
				whole[b.Seq] = true
			}
			if b.Total > s.Floor {
				s.used = i + 1
			}
		}
		if s.Pinned > r.now() && s.hasOld(math.MinInt64, math.MaxInt64) {
			s.used = len(s.slots) // the protection may be about what would be overwritten next
		}
		s.damaged(synced[s.dev])
		if n := len(s.torn); n > 0 {
			r.problem(fmt.Errorf("%s: %d blocks of %s are damaged", s.dev.name, n, files.SegmentName(s.number)))
		}
		s.span()
		if d := s.dev; s.broken == nil && (d.current == nil || s.SeqHi > d.current.SeqHi) {
			d.current = s
		}
	}
	r.floors()
	if torn > 0 {
		r.problem(fmt.Errorf("%d blocks were torn when the ring was cut off; what they held up to the last tail is kept", torn))
	}
	if slices.ContainsFunc(r.devices, func(d *device) bool { return d.missing }) {
		// Blocks of the missing device may have the next numbers. When it comes back no two blocks may have the same.
		newest.Seq += 1<<20 + rand.Uint64N(1<<44)
	}
	r.seq.Store(newest.Seq)
	r.synced.Store(r.total.Load())
	if !r.d.Clean {
		r.untail(whole, synced)
	}
}

// listOpen asks the blocks of the segments that were being written, those of all devices at once. r.mu is held.
func (r *Ring) listOpen() map[*segment]*listing {
	all := make(map[*segment]*listing)
	var list []*listing
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Open {
				all[s] = r.listing(s)
				list = append(list, all[s])
			}
		}
	}
	inParallel(len(list), len(r.devices), func(i int) { r.read(list[i]) })
	return all
}

// syncedBefore returns up to which total blocks were on the disk for good when the newest block of a device's full segments was written: where no segment is open that tells
// what is unfinished in a tail slot from what was finished, and overwritten, long ago. r.mu is held.
func (r *Ring) syncedBefore(d *device, b []byte) uint64 {
	var last *segment
	for _, s := range d.segments {
		if s.State == state.Closed && (last == nil || s.SeqHi > last.SeqHi) {
			last = s
		}
	}
	if last == nil || r.d.Clean || r.load(last) != nil {
		return 0
	}
	i := slices.IndexFunc(last.slots, func(b index.Slot) bool { return b.Seq == last.SeqHi })
	if i < 0 {
		return 0
	}
	h, err := r.readTrailer(last, i, b)
	if err != nil || h.Seq != last.SeqHi {
		return 0
	}
	return h.Synced
}

// damaged leaves of the places of a segment that was being written, whose blocks make no sense, those that were not torn when the ring was cut off: before one that
// was on the disk for good, and where nobody was writing yet.
func (s *segment) damaged(synced uint64) {
	if synced == math.MaxUint64 {
		return
	}
	last := -1
	for i := range s.slots {
		if b := &s.slots[i]; b.Total > s.Floor && b.Total <= synced {
			last = i
		}
	}
	s.torn = slices.DeleteFunc(s.torn, func(i int) bool { return i > last && i < s.used+writers*burst })
}

// wholeBlock reads a block and reports whether it is whole. r.mu is held.
func (r *Ring) wholeBlock(s *segment, i int) bool {
	b, err := r.buffers.Get()
	if err != nil {
		return false
	}
	defer r.buffers.Put(b)
	if _, err := s.file.ReadAt(b, int64(i)*block.Size); err != nil {
		return false
	}
	h, err := block.Check(b)
	return err == nil && h.Ring == r.d.Ring
}

// untail puts blocks that were unfinished to their place: of each worker, and each opening that was cut off, the newest one in its tail slots that is nowhere else. Blocks
// whose total is at most that of synced, and which the worker has finished, were on the disk for good. r.mu is held.
func (r *Ring) untail(whole map[uint64]bool, synced map[*device]uint64) {
	type tail struct {
		h   block.Header
		buf []byte
	}
	type whose struct {
		worker  uint16
		opening uint32
	}
	tails, newer := make(map[whose]tail), make(map[uint16]uint64)
	for _, d := range r.devices {
		for _, s := range d.segments {
			for i := range s.slots {
				newer[s.slots[i].Worker] = max(newer[s.slots[i].Worker], s.slots[i].Seq)
			}
		}
	}
	for _, d := range r.devices {
		if d.tails == nil || d.said.Clean {
			continue
		}
		size, err := d.tails.Size()
		for at := int64(0); err == nil && at+block.Size <= size; at += block.Size {
			b, rerr := r.buffers.Get()
			if rerr != nil {
				break
			}
			h, ok := r.readTail(d.tails, b, at)
			of := whose{h.Worker, d.said.Generation}
			old := tails[of]
			finished := h.Total <= synced[d] && newer[h.Worker] > h.Seq // the total is as of then: others may have gone on while the worker had nothing
			if !ok || whole[h.Seq] || finished || h.Generation+1 < d.said.Generation || r.holds(h.Seq) || old.buf != nil && !h.Newer(&old.h) {
				r.buffers.Put(b)
				continue
			}
			if old.buf != nil {
				r.buffers.Put(old.buf)
			}
			tails[of] = tail{h, b}
		}
		if err != nil {
			r.problem(fmt.Errorf("%s: %s: %w", d.name, files.TailsName, err))
		}
	}
	var order []tail
	for _, t := range tails {
		order = append(order, t)
	}
	slices.SortFunc(order, func(a, b tail) int { return cmp.Compare(a.h.Seq, b.h.Seq) })
	for _, t := range order {
		r.seq.Store(max(r.seq.Load(), t.h.Seq))
		r.restore(t.h, t.buf)
	}
}

// holds reports whether a block is in a closed segment. r.mu is held.
func (r *Ring) holds(seq uint64) bool {
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State != state.Closed || seq < s.SeqLo || seq > s.SeqHi || r.load(s) != nil {
				continue
			}
			if slices.ContainsFunc(s.slots, func(b index.Slot) bool { return b.Seq == seq }) {
				return true
			}
		}
	}
	return false
}

// readTail reads a tail slot. ok is false if it holds no whole block of this ring.
func (r *Ring) readTail(f files.File, b []byte, at int64) (h block.Header, ok bool) {
	if _, err := f.ReadAt(b, at); err != nil {
		return h, false
	}
	h, err := block.Check(b)
	return h, err == nil && h.Ring == r.d.Ring && h.Seq != 0
}

// restore makes a block of a tail slot one of the ring's. A ring that is only read keeps it in memory. r.mu is held.
func (r *Ring) restore(h block.Header, b []byte) {
	h.Flags = h.Flags&^block.FlagTail | block.FlagPartial // its keys are not known
	h.Total = r.total.Add(uint64(h.Bytes))
	block.Seal(b, &h)
	if r.cfg.ReadOnly {
		r.waiting[h.Seq] = &block.Image{Buf: b, Header: h, Refs: 1}
		return
	}
	copies, err := 0, errors.New("no device takes blocks")
	for _, d := range r.devices {
		if copies > int(r.d.Copies) || !d.usable() {
			continue
		}
		s, at, why := r.slotOn(d)
		if why != nil {
			err = why
			continue
		}
		s.inFlight--
		if _, why := s.file.WriteAt(b, int64(at)*block.Size); why != nil {
			r.fail(d, why)
			continue
		}
		s.slots[at] = index.SlotOf(&h)
		s.slots[at].Bloom = slices.Clone(block.BloomOf(b))
		s.span()
		d.dirty[s.file] = true
		copies++
	}
	if copies == 0 {
		r.problem(fmt.Errorf("an unfinished block cannot be put to its place: %w", err))
	}
	r.buffers.Put(b)
}
