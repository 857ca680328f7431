package ring

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// writers is how many write at once: enough for a device to be busy while the next blocks are made ready.
const writers = 4

// burst is how many blocks one of them writes at once at most, of those that wait. A device is asked as often for 4 MiB as for 1 MiB, and so are the processors.
const burst = 4

// syncEvery is how often what was written is made permanent. Together with tailEvery it keeps the loss of a power cut below a second.
const syncEvery = 200 * time.Millisecond

// write takes finished blocks to the devices.
func (r *Ring) write() {
	defer r.stopped.Done()
	for list, runs := r.next(); len(list) > 0; list, runs = r.next() {
		for i := range list {
			img := list[i].img
			h := img.Header // queries may look at img.Header
			h.Synced = r.synced.Load()
			block.Seal(img.Buf, &h)
		}
		r.store(list, runs)
		for i := range list {
			r.release(list[i].img, true)
		}
	}
}

// next waits for blocks and returns those that wait, with their places: blocks lie on a device in the order in which they ended. It returns none when the ring is closed.
func (r *Ring) next() (list []writing, runs []run) {
	r.taking.Lock()
	defer r.taking.Unlock()
	most := max(1, min(burst, cap(r.queue)/(2*writers))) // where there are few images, writing must not hold most of them
	for img := range r.queue {
		list = append(list, writing{img: img, why: state.CauseDisk})
		if len(list) == most || len(r.queue) == 0 { // nobody else takes from it
			return list, r.place(list)
		}
	}
	return list, r.place(list)
}

// A writing is a block on its way to the devices.
type writing struct {
	img    *block.Image
	has    *device // that has it already
	copies int
	over   bool // nobody takes it any more
	why    state.Cause
}

// A run is blocks that go to slots of a segment which follow each other.
type run struct {
	d    *device
	s    *segment
	at   int
	list []*writing
}

// store writes blocks to their places. A device that refuses is taken out, and the next one asked.
func (r *Ring) store(list []writing, runs []run) {
	for len(runs) > 0 {
		for i := range runs {
			r.writeRun(&runs[i])
		}
		runs = r.place(list)
	}
	r.handing.Lock()
	for i := range list {
		delete(r.flights, list[i].img.Header.Seq)
	}
	r.handing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		r.settled(&list[i])
	}
}

// settled notes what became of a block. r.mu is held.
func (r *Ring) settled(w *writing) {
	switch {
	case w.copies == 0:
		r.dropped[w.why].Add(uint64(w.img.Header.Packets))
		if w.why == state.CausePinned {
			r.problem(errors.New("nothing is recorded: every segment is protected from overwriting; end the protection of an interval"))
		}
	case w.copies <= int(r.d.Copies):
		r.problem(errors.New("blocks have no copy: too few devices take them"))
	}
}

// writeRun writes the blocks of a run at once; if that fails each one alone, to know which it is about.
func (r *Ring) writeRun(run *run) {
	var bufs [burst][]byte
	for i, w := range run.list {
		bufs[i] = w.img.Buf
	}
	all := files.WriteAll(run.s.file, bufs[:len(run.list)], int64(run.at)*block.Size)
	for i, w := range run.list {
		at, err := run.at+i, all
		if err != nil && len(run.list) > 1 {
			_, err = run.s.file.WriteAt(w.img.Buf, int64(at)*block.Size)
		}
		r.placed(run.d, run.s, at, w.img, err)
		if err == nil {
			w.has = run.d
			w.copies++
		}
	}
}

// place gives out a slot for each block, and for its copy, that is not written, and returns the slots in runs.
func (r *Ring) place(list []writing) (runs []run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		w := &list[i]
		has := w.has
		for n := w.copies; n <= int(r.d.Copies) && !w.over; n++ {
			d, s, at, err := r.slotNotOn(has)
			if err != nil {
				w.over = true
				if errors.Is(err, errPinned) {
					w.why = state.CausePinned
				}
				break
			}
			runs = appendRun(runs, d, s, at, w)
			has = d
		}
	}
	return runs
}

// appendRun adds a block to the run whose slots its own follows, or begins a new one.
func appendRun(runs []run, d *device, s *segment, at int, w *writing) []run {
	for i := range runs {
		if run := &runs[i]; run.s == s && run.at+len(run.list) == at {
			run.list = append(run.list, w)
			return runs
		}
	}
	return append(runs, run{d, s, at, []*writing{w}})
}

// slotNotOn gives out the next slot of a device other than not: the devices take turns. r.mu is held.
func (r *Ring) slotNotOn(not *device) (*device, *segment, int, error) {
	why := errors.New("no device takes blocks")
	first := r.turn
	for i := range len(r.devices) {
		d := r.devices[(first+i)%len(r.devices)]
		if d == not || !d.usable() {
			continue
		}
		if not == nil {
			r.turn = (first + i + 1) % len(r.devices)
		}
		s, at, err := r.slotOn(d)
		if err == nil {
			return d, s, at, nil
		}
		if !errors.Is(err, errPinned) {
			r.fail(d, err)
		}
		why = err
	}
	return nil, nil, 0, why
}

// slotOn gives out the next slot of a device. r.mu is held.
func (r *Ring) slotOn(d *device) (*segment, int, error) {
	if s := d.current; s == nil || s.broken != nil || s.used == len(s.slots) {
		next, err := d.victim(r.now())
		if err != nil {
			return nil, 0, err
		}
		if err := r.open(d, next); err != nil {
			return nil, 0, err
		}
	}
	s := d.current
	at := s.used
	s.used++
	s.inFlight++
	r.forget(&s.slots[at])
	s.slots[at] = index.Slot{}
	s.torn = slices.DeleteFunc(s.torn, func(i int) bool { return i == at })
	return s, at, nil
}

// placed notes how writing a block to its slot ended, and closes the segment if it was the last one.
func (r *Ring) placed(d *device, s *segment, at int, img *block.Image, err error) {
	r.mu.Lock()
	s.inFlight--
	if err != nil {
		s.lost++
		r.fail(d, fmt.Errorf("write block %d of %s: %w", at, files.SegmentName(s.number), err))
	} else {
		s.slots[at] = index.SlotOf(&img.Header)
		s.shelves.Keep(&s.slots[at], img, &r.spare)
		d.dirty[s.file] = true
	}
	full := s.used == len(s.slots) && s.inFlight == 0 && s.broken == nil && s.State == state.Open && d.failed == nil
	r.mu.Unlock()
	if full {
		r.rekey(s)
		r.close(d, s)
	}
}

// rekey finds the keys of blocks that were written before the ring was opened, so that the exact index of a full segment knows them.
func (r *Ring) rekey(s *segment) {
	r.mu.Lock()
	slots := slices.Clone(s.slots)
	r.mu.Unlock()
	buf, err := r.buffers.Get()
	if err != nil {
		return // their bloom filters do
	}
	defer r.buffers.Put(buf)
	var known block.Tables
	for i := range slots {
		b := &slots[i]
		if b.Seq == 0 || b.Keys != nil || b.Flags&block.FlagPartial != 0 {
			continue
		}
		keys, chunks := r.keysOf(s, i, b.Seq, buf, &known)
		r.mu.Lock()
		s.slots[i].Keys, s.slots[i].Chunks = keys, chunks
		r.mu.Unlock()
	}
}

// keysOf reads a block and returns the keys of its packets, and the chunks that have them; nil if it cannot be read, which a query will say.
func (r *Ring) keysOf(s *segment, i int, seq uint64, buf []byte, known *block.Tables) (keys []uint64, chunks []block.Chunks) {
	h, err := r.readBlock(s, i, buf)
	if err != nil || h.Seq != seq {
		return nil, nil
	}
	v := &block.Reader{Buf: buf, Header: h, Chunks: block.All}
	w, err := v.Walk(known)
	if err != nil {
		return nil, nil
	}
	found, err := w.Keys(&h)
	if err != nil || len(found) > block.MaxKeys {
		return nil, nil
	}
	keys, chunks = make([]uint64, 0, len(found)), make([]block.Chunks, 0, len(found))
	for k, c := range found {
		keys, chunks = append(keys, uint64(k)), append(chunks, c)
	}
	return keys, chunks
}

// close gives a full segment its index. Its blocks can be read meanwhile.
func (r *Ring) close(d *device, s *segment) {
	r.mu.Lock()
	s.span()
	slots := append([]index.Slot(nil), s.slots...)
	err := r.writeDescriptor(d, false) // what was overwritten, which the index on the disk says as yet
	r.mu.Unlock()
	if err == nil {
		err = d.state.File.Sync()
	}
	if err == nil {
		err = r.sorter.Write(&s.index, r.indexed(s), slots)
	}
	if err == nil {
		err = s.file.Sync()
	}
	defer r.trim()
	defer r.shed()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		s.State = state.Closed
		for i := range s.slots {
			if s.slots[i].Keys != nil && s.slots[i].Flags&block.FlagPartial == 0 {
				s.slots[i].Bloom = nil
			}
			s.slots[i].Bloom = slices.Clone(s.slots[i].Bloom)
			s.slots[i].Keys, s.slots[i].Chunks = nil, nil
		}
		if len(r.queries) == 0 { // else one may look at them, and nobody uses them again
			s.shelves.GiveBack(&r.spare)
		}
		s.shelves = nil
		err = r.saveEntry(d, s.number, false)
	}
	if err != nil {
		r.fail(d, fmt.Errorf("close %s: %w", files.SegmentName(s.number), err))
	}
}

// release ends one use of an image. done says that it is on the disk, or lost.
func (r *Ring) release(img *block.Image, done bool) {
	r.handing.Lock()
	defer r.handing.Unlock()
	if done {
		delete(r.waiting, img.Header.Seq)
		close(r.changed)
		r.changed = make(chan struct{})
	}
	img.Refs--
	if img.Refs == 0 {
		r.free = append(r.free, img)
	}
}

// take returns a free image, or nil.
func (r *Ring) take() *block.Image {
	r.handing.Lock()
	defer r.handing.Unlock()
	n := len(r.free)
	if n == 0 {
		return nil
	}
	img := r.free[n-1]
	r.free = r.free[:n-1]
	img.Refs = 1
	return img
}

// writeTails saves unfinished blocks to tail slots.
func (r *Ring) writeTails() {
	defer r.stopped.Done()
	turns := make([]int, r.cfg.Workers)
	for img := range r.tails {
		img.Header.Flags |= block.FlagTail
		block.Finish(img.Buf, &img.Header)
		w := int(img.Header.Worker)
		turns[w]++
		if err := r.writeTail(img, int64(2*w+turns[w]&1)*block.Size); err != nil {
			r.mu.Lock()
			r.problem(fmt.Errorf("save an unfinished block: %w", err))
			r.mu.Unlock()
		}
		r.stages[w].saved <- img
	}
}

// writeTail writes the used part of a block and its trailer to one or two devices, and syncs.
func (r *Ring) writeTail(img *block.Image, at int64) error {
	err := errors.New("no device takes it")
	copies := 0
	for i := range r.devices {
		d := r.devices[(i+int(img.Header.Worker))%len(r.devices)]
		r.mu.Lock()
		usable := d.usable() && d.tails != nil
		r.mu.Unlock()
		if !usable || copies > int(r.d.Copies) {
			continue
		}
		end := (int(img.Header.FlowsEnd) + files.PageSize - 1) &^ (files.PageSize - 1)
		trailer := block.Size - block.TrailerPages
		_, werr := d.tails.WriteAt(img.Buf[:min(end, trailer)], at)
		if werr == nil {
			_, werr = d.tails.WriteAt(img.Buf[trailer:], at+int64(trailer))
		}
		if werr = errors.Join(werr, d.tails.Sync()); werr != nil {
			r.mu.Lock()
			r.fail(d, werr)
			r.mu.Unlock()
			err = werr
			continue
		}
		copies++
	}
	if copies > 0 {
		return nil
	}
	return err
}

// keepSynced makes permanent what was written, again and again.
func (r *Ring) keepSynced() {
	defer r.stopped.Done()
	rounds := 0
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.sync()
			if rounds++; rounds%watchEvery == 0 {
				r.watch()
			}
			r.mu.Lock()
			r.handing.Lock()
			r.rate.tick(r.now(), r.recorded())
			r.handing.Unlock()
			r.mu.Unlock()
		case <-r.stop:
			r.sync()
			return
		}
	}
}

// sync makes permanent what was written up to now.
func (r *Ring) sync() {
	r.handing.Lock()
	upTo := r.total.Load()
	for _, total := range r.flights {
		upTo = min(upTo, total-1)
	}
	r.handing.Unlock()
	r.mu.Lock()
	type pair struct {
		d *device
		f files.File
	}
	var files []pair
	for _, d := range r.devices {
		for f := range d.dirty {
			files = append(files, pair{d, f})
		}
		clear(d.dirty)
	}
	r.mu.Unlock()
	ok := true
	for _, p := range files {
		if err := p.f.Sync(); err != nil {
			r.mu.Lock()
			r.fail(p.d, fmt.Errorf("sync: %w", err))
			r.mu.Unlock()
			ok = false
		}
	}
	if ok {
		r.synced.Store(max(r.synced.Load(), upTo))
	}
}

// A rate is how fast the ring takes packets, over the last seconds. It does not wait for their blocks, of which a slow link fills one in many seconds.
type rate struct {
	at, bytes [16]uint64
	n         int
}

func (t *rate) tick(now int64, bytes uint64) {
	t.at[t.n%len(t.at)], t.bytes[t.n%len(t.at)] = uint64(now), bytes
	t.n++
}
