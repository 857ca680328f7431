package ring

import (
	"errors"
	"fmt"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// A task is a block to be looked at, or, without one, the message that everything before bound has been named.
type task struct {
	index.Slot
	places []place   // where it lies
	waits  bool      // it is on its way there
	shown  *snapshot // or a copy of it while it is unfinished
	from   uint32    // ordinal of the first packet that was not looked at before
	done   chan struct{}
	after  chan struct{} // done of the one that must be looked at before; nil if there is none
	v      *view         // nil if nothing matched
	passed uint32        // if nothing matched: packets that were looked at
	held   *view         // packets that waited for what this block says; nil if there are none
	bound  int64         // before this time nothing is recorded any more; what comes next in time may still be recorded after it
	fence  bool
	final  bool
}

// A place is where a block lies.
type place struct {
	s *segment
	i int
}

// look reads a block and keeps what the query wants of it; nil if that is nothing.
func (q *Results) look(t *task) *view {
	v := q.view()
	why := q.fetch(t, v)
	if why == nil {
		why = q.match(t, v)
	}
	if why != nil {
		q.drop(v)
		if errors.Is(why, errOverwritten) {
			q.gap(t.First, t.Last, whyMeanwhile)
		} else {
			q.gap(t.First, t.Last, "damaged")
			q.ring.mu.Lock()
			q.ring.problem(fmt.Errorf("block %d: %w", t.Seq, why))
			q.ring.mu.Unlock()
		}
		return nil
	}
	q.count(func(s *Scan) {
		if t.from == 0 { // else it is what was added to one that was not finished
			s.Read++
		}
		s.Packets += uint64(v.looked)
		s.drops.add(v.Header.Dropped)
	})
	if len(v.packets) == 0 {
		t.passed = v.rest
		q.drop(v)
		return nil
	}
	v.order()
	return v
}

var errOverwritten = errors.New("overwritten")

// fetch reads the bytes of a block: from memory, or from the first of its places that has it.
func (q *Results) fetch(t *task, v *view) error {
	if t.shown != nil {
		v.Buf, v.Header = t.shown.buf, t.shown.h
		q.count(func(s *Scan) { s.Bytes += uint64(v.Header.FlowsEnd) })
		return nil
	}
	b, err := q.ring.buffers.Get()
	if err != nil {
		return err
	}
	v.Buf, v.owned = b, true
	if t.waits {
		if h, ok := q.ring.copyWaiting(t.Seq, b); ok {
			v.Header = h
			q.count(func(s *Scan) { s.Bytes += uint64(h.FlowsEnd) })
			return nil
		}
		t.places = q.ring.locate(t.Seq)
	}
	why := error(errOverwritten)
	for _, p := range t.places {
		h, err := q.ring.readBlock(p.s, p.i, b)
		q.count(func(s *Scan) { s.Bytes += block.Size })
		switch {
		case err == nil && h.Seq == t.Seq:
			v.Header = h
			return nil
		case err == nil, q.ring.gone(p, t.Seq):
		default:
			why = err
		}
	}
	return why
}

// copyWaiting copies a block that waits for the disk; ok is false if it no longer does.
func (r *Ring) copyWaiting(seq uint64, b []byte) (block.Header, bool) {
	r.handing.Lock()
	img := r.waiting[seq]
	if img != nil {
		img.Refs++
	}
	r.handing.Unlock()
	if img == nil {
		return block.Header{}, false
	}
	copy(b, img.Buf[:img.Header.FlowsEnd])
	h := img.Header
	r.release(img, false)
	return h, true
}

// locate returns where a block lies that was written lately.
func (r *Ring) locate(seq uint64) (places []place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		for _, s := range d.segments {
			for i := range s.slots {
				if s.slots[i].Seq == seq {
					places = append(places, place{s, i})
				}
			}
		}
	}
	return places
}

// readBlock reads a block and checks it.
func (r *Ring) readBlock(s *segment, i int, b []byte) (block.Header, error) {
	if _, err := s.file.ReadAt(b[:block.Size], int64(i)*block.Size); err != nil {
		return block.Header{}, fmt.Errorf("device %d: read block %d of %s: %w", s.dev.number, i, files.SegmentName(s.number), err)
	}
	h, err := block.Check(b)
	if err == nil && h.Ring != r.d.Ring {
		err = errors.New("it belongs to another ring")
	}
	if err != nil {
		return h, fmt.Errorf("device %d: block %d of %s: %w", s.dev.number, i, files.SegmentName(s.number), err)
	}
	return h, nil
}

// gone reports whether a place has been given to another block.
func (r *Ring) gone(p place, seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.s.slots != nil && p.s.slots[p.i].Seq != seq
}

// view lends a view.
func (q *Results) view() *view {
	q.scanMu.Lock()
	defer q.scanMu.Unlock()
	if n := len(q.idle); n > 0 {
		v := q.idle[n-1]
		q.idle = q.idle[:n-1]
		return v
	}
	return &view{}
}

// drop gives back a view and the memory of its block.
func (q *Results) drop(v *view) {
	if v.free {
		return
	}
	if v.owned {
		q.ring.buffers.Put(v.Buf)
	}
	v.Buf, v.owned, v.next, v.looked = nil, false, 0, 0
	v.packets, v.meta, v.passed = v.packets[:0], v.meta[:0], v.passed[:0]
	q.scanMu.Lock()
	q.idle = append(q.idle, v)
	q.scanMu.Unlock()
	<-q.tokens
}
