package ring

import (
	"errors"
	"fmt"

	"galvo/services/internal/ring/aio"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
)

// A task is a block to be looked at, or, without one, the message that everything before bound has been named.
type task struct {
	index.Slot
	plan   block.Pages  // that are to be read first, for these
	buf    []byte       // where they were read ahead from the first place; nil if they were not
	failed error        // or could not be
	chunks block.Chunks // that may have what the query wants
	exact  bool         // the exact index has said so
	cut    bool         // the interval cuts it, and it has nothing of what the query wants: how many of its packets lie in the interval?
	places []place      // where it lies
	waits  bool         // it is on its way there
	shown  *snapshot    // or a copy of it while it is unfinished
	from   uint32       // ordinal of the first packet that was not looked at before
	done   chan struct{}
	after  chan struct{} // done of the one that must be looked at before; nil if there is none
	v      *view         // nil if nothing matched
	passed uint32        // if nothing matched: packets that were looked at
	lost   block.Chunks  // that the query wants, and that are damaged: the others are read
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

// look reads what the query may want of a block, and keeps what it wants; nil if that is nothing.
func (q *Results) look(t *task) *view {
	v := q.view()
	if t.cut {
		v.NoFlows = true
		if q.countCut(t, v) {
			q.drop(v)
			return nil
		}
		t.cut, t.chunks = false, block.All
		q.again(t, v)
	}
	v.NoFlows = !q.flows
	why := q.seek(t, v)
	if errors.Is(why, errNeedsFlows) {
		q.again(t, v)
		v.NoFlows = false
		why = q.seek(t, v)
	}
	if why != nil {
		q.drop(v)
		switch {
		case q.ctx.Err() != nil: // the files may have been closed meanwhile, and nobody gets what is in them
		case errors.Is(why, errOverwritten):
			q.gap(t.First, t.Last, whyMeanwhile)
		default:
			q.damaged(t, why)
		}
		return nil
	}
	q.count(func(s *Scan) {
		if t.from == 0 { // else it is what was added to one that was not finished
			s.Read++
		}
		s.Packets += uint64(v.looked)
		s.found += uint64(len(v.packets))
		if v.Header.Last >= q.told {
			s.drops.add(v.Header.Dropped)
		}
	})
	if len(v.packets) == 0 {
		t.passed = v.rest
		q.drop(v)
		return nil
	}
	v.order()
	return v
}

// seek reads what the query may want of a block, and asks the filter.
func (q *Results) seek(t *task, v *view) error {
	if err := q.fetch(t, v); err != nil {
		return err
	}
	return q.match(t, v)
}

// again makes a view as it was before its block was read.
func (q *Results) again(t *task, v *view) {
	q.empty(v)
	v.clear()
	t.lost = 0
}

var errOverwritten = errors.New("overwritten")

// damaged says that a block cannot be read.
func (q *Results) damaged(t *task, why error) {
	q.missing(t.First, t.Last)
	q.complain(t, why)
}

// missing says that packets of a time are damaged.
func (q *Results) missing(from, to int64) { q.gap(from, to, whyDamaged) }

// complain says what is wrong with a block.
func (q *Results) complain(t *task, why error) {
	q.ring.mu.Lock()
	defer q.ring.mu.Unlock()
	q.ring.problem(fmt.Errorf("block %d: %w", t.Seq, why))
}

// fetch reads the chunks of a block that the query may want: from memory, or from the first of its places that has them. If none has all of them, what is whole is
// in v.Chunks, and the rest in t.lost.
func (q *Results) fetch(t *task, v *view) error {
	v.Chunks, v.Bare = block.All, false
	if t.buf == nil {
		t.narrow(!v.NoFlows)
	}
	if t.shown != nil {
		v.Buf, v.Header = t.shown.buf, t.shown.h
		q.count(func(s *Scan) { s.Bytes += uint64(v.Header.FlowsEnd) })
		return nil
	}
	b, early := t.buf, t.buf != nil
	if !early {
		var err error
		if b, err = q.ring.buffers.Get(); err != nil {
			return err
		}
	}
	v.Buf, v.owned, t.buf = b, true, nil
	if t.waits {
		if h, ok := q.ring.copyWaiting(t.Seq, b); ok {
			v.Header = h
			q.count(func(s *Scan) { s.Bytes += uint64(h.FlowsEnd) })
			return nil
		}
		t.places = q.ring.locate(t.Seq)
	}
	why, some := error(errOverwritten), -1
	for i, p := range t.places {
		lost, err := q.readPart(t, p, v, early && i == 0)
		if errors.Is(err, block.ErrHead) {
			q.ring.learnNear(p)
			lost, err = q.readPart(t, p, v, false)
		}
		switch {
		case err == nil && v.Header.Seq == t.Seq && lost == 0:
			return nil
		case q.ring.gone(p, t.Seq) || err == nil && v.Header.Seq > t.Seq && q.ring.cfg.ReadOnly: // perhaps by who writes it
		case err == nil && v.Header.Seq != t.Seq:
			why = p.fault(fmt.Errorf("block %d lies in its place", v.Header.Seq))
		case err == nil:
			why, some = block.ErrSum, i
		default:
			why = err
		}
	}
	if some < 0 {
		return why
	}
	p := t.places[some]
	lost, err := q.readPart(t, p, v, false)
	if err != nil || v.Header.Seq != t.Seq || q.ring.gone(p, t.Seq) {
		return why
	}
	t.lost = lost
	q.complain(t, p.fault(fmt.Errorf("%d of its %d chunks: %w", lost.Len(), block.MaxChunks, why)))
	return nil
}

// mostPages is how many pages of a block are read for some of its chunks: for more it is read as a whole.
const mostPages = block.Size / files.PageSize / 2

// narrow makes the plan of a task, and reports whether it is to read a part of its block from the disk.
func (t *task) narrow(flows bool) bool {
	end := t.DataEnd
	if flows {
		end = t.FlowsEnd
	}
	if t.plan = block.Plan(t.chunks, t.DataEnd, end); t.plan.Len() > mostPages {
		t.plan = block.AllPages
	}
	return len(t.places) > 0 && !t.waits && t.shown == nil && t.plan != block.AllPages
}

// readPart reads the chunks of a block that the query may want, from a place. It returns those of them that are damaged: v has the others. It may be another
// block by now. early says that its plan was read.
func (q *Results) readPart(t *task, p place, v *view, early bool) (lost block.Chunks, err error) {
	want, missing, have := t.chunks, t.plan, block.Pages{}
	if missing == block.AllPages {
		want = block.All
	}
	for missing != (block.Pages{}) {
		err := t.failed
		if t.failed = nil; !early {
			err = q.readPages(p, &missing, v.Buf)
		}
		if early = false; err != nil {
			return 0, p.fault(err)
		}
		have.Join(missing)
		if have == block.AllPages {
			if v.Header, err = block.Check(v.Buf); err == nil {
				v.Chunks, v.Bare = block.All, false
				return 0, q.ours(p, v)
			}
		}
		if missing, err = v.Part(want, &have, &q.ring.heads); err != nil {
			return 0, p.fault(err)
		}
		if err := q.ours(p, v); err != nil || v.Header.Seq != t.Seq {
			return 0, err
		}
	}
	if err := v.Verify(want, &q.ring.heads); err != nil {
		return 0, p.fault(err)
	}
	return want &^ v.Chunks, nil
}

// readPages reads pages of a block to their place in b, several pieces at once.
func (q *Results) readPages(p place, pages *block.Pages, b []byte) error {
	var failed error
	q.readAll(p.pieces(pages, b, nil), func(_ int, err error) { failed = errors.Join(failed, err) })
	return failed
}

// pieces appends the pieces of a block in which its pages are read.
func (p place) pieces(pages *block.Pages, b []byte, dst []aio.Piece) []aio.Piece {
	for from, to := range pages.Pieces() {
		dst = append(dst, aio.Piece{File: p.s.file, B: b[from:to], At: int64(p.i)*block.Size + int64(from)})
	}
	return dst
}

func (q *Results) readAll(pieces []aio.Piece, done func(i int, err error)) {
	n := 0
	for i := range pieces {
		n += len(pieces[i].B)
	}
	q.count(func(s *Scan) { s.Bytes += uint64(n) })
	q.ring.reader.Read(pieces, done)
}

// ours returns an error if a block is one of another ring.
func (q *Results) ours(p place, v *view) error {
	if v.Header.Ring != q.ring.d.Ring {
		return p.fault(errors.New("it belongs to another ring"))
	}
	return nil
}

// fault says of an error where the block lies.
func (p place) fault(err error) error {
	return fmt.Errorf("%s: block %d of %s: %w", p.s.dev.name, p.i, files.SegmentName(p.s.number), err)
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
	h := img.Header
	block.Copy(b, img.Buf, &h)
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
	p := place{s, i}
	if _, err := s.file.ReadAt(b[:block.Size], int64(i)*block.Size); err != nil {
		return block.Header{}, p.fault(err)
	}
	h, err := block.Check(b)
	if err == nil && h.Ring != r.d.Ring {
		err = errors.New("it belongs to another ring")
	}
	if err != nil {
		return h, p.fault(err)
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

// empty gives back the memory of a view's block.
func (q *Results) empty(v *view) {
	if v.owned {
		q.ring.buffers.Put(v.Buf)
	}
	v.Buf, v.owned = nil, false
}

// drop gives back a view and the memory of its block.
func (q *Results) drop(v *view) {
	if v.free {
		return
	}
	q.empty(v)
	v.clear()
	q.scanMu.Lock()
	q.idle = append(q.idle, v)
	q.scanMu.Unlock()
	<-q.tokens
}
