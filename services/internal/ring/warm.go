package ring

import (
	"cmp"
	"errors"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/state"
)

// SetReorder changes Config.ReorderBytes, for queries that begin from now on.
func (r *Ring) SetReorder(bytes int64) { r.reorder.Store(bytes) }

// Reorder returns the memory in which queries put packets in order that begin now.
func (r *Ring) Reorder() int64 { return r.reorder.Load() }

// warmBytes is the memory for sketches, which say of a segment what is not in it, and for lists of blocks that nobody has asked for yet; what these leave of it is for pages of
// keys. It is a part of that of the readers, of which windows take half. The newest segments have them; of older ones a query reads a page, and the list.
func (r *Ring) warmBytes() int { return int(r.Reorder() / 16) }

// trim gives back what was read with, but for a 64th of the memory of the readers, with which the next query begins at once: 16 rings, the most that there are, leave
// three quarters of it to the others while nobody reads them.
func (r *Ring) trim() { r.buffers.Trim(r.ready()) }

// ready is how many buffers that is.
func (r *Ring) ready() int { return int(r.Reorder() / 64 / block.Size) }

// slotBytes is about what a block takes in a list.
const slotBytes = 160

// warm reads what every query asks of the segments that were full when the ring was opened, beginning with the newest.
func (r *Ring) warm() {
	defer r.trim()
	r.buffers.Ready(min(leastReaders, r.ready()))
	left, kept := r.warmBytes(), 0
	defer r.shed() // pages of keys, of which there may be more than what is left in the end
	for _, s := range r.closedByAge() {
		select {
		case <-r.stop:
			return
		default:
		}
		if err := s.index.Warm(r.indexed(s), left, left-kept); err != nil {
			continue // the query that asks says so
		}
		sketch, pages := s.index.Memory()
		kept += pages
		if left -= sketch; left > 0 {
			left -= r.list(s)
		}
	}
}

// list lists the blocks of a segment, and learns how one of them begins. It returns how much memory that took.
func (r *Ring) list(s *segment) int {
	r.preload(s)
	r.mu.Lock()
	n := len(s.slots)
	last := -1
	for i := range s.slots {
		if s.slots[i].Seq != 0 {
			last = i
		}
	}
	r.mu.Unlock()
	if last >= 0 {
		r.learn(place{s, last})
	}
	return n * slotBytes
}

// learn reads how a block begins, so that queries need not.
func (r *Ring) learn(p place) {
	b, err := r.buffers.Get()
	if err != nil {
		return
	}
	defer r.buffers.Put(b)
	v := block.Reader{Buf: b}
	missing := block.Plan(0, block.Size, block.Size)
	for have := (block.Pages{}); missing != (block.Pages{}) && err == nil; {
		r.reader.Read(p.pieces(&missing, b, nil), func(_ int, e error) { err = errors.Join(err, e) })
		have.Join(missing)
		if err == nil {
			missing, err = v.Part(0, &have, &r.heads)
		}
	}
	if err == nil && v.Header.Ring == r.d.Ring {
		_ = v.Verify(0, &r.heads) // what is damaged is not learnt
	}
}

// learnNear learns how the other blocks of a segment begin: one of which that is damaged mostly begins as they do.
func (r *Ring) learnNear(p place) {
	r.mu.Lock()
	slots := slices.Clone(p.s.slots)
	r.mu.Unlock()
	for i := range slots {
		if slots[i].Seq != 0 && i != p.i {
			r.learn(place{p.s, i})
		}
	}
}

// closedByAge returns the segments that are full, the newest first.
func (r *Ring) closedByAge() (list []*segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Closed {
				list = append(list, s)
			}
		}
	}
	slices.SortFunc(list, func(a, b *segment) int { return cmp.Compare(b.SeqHi, a.SeqHi) })
	return list
}

// shed gives up the pages of keys and the sketches of the oldest segments, for which there is no more room.
func (r *Ring) shed() {
	list, left := r.closedByAge(), r.warmBytes()
	for _, s := range list {
		sketch, _ := s.index.Memory()
		if left -= sketch; left < 0 {
			s.index.Shed(true)
		}
	}
	for _, s := range list {
		_, pages := s.index.Memory()
		if left -= pages; left < 0 {
			s.index.Shed(false)
		}
	}
}
