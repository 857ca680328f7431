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

// writers is how many blocks are written at once: enough for a device to be busy while the next ones are made ready.
const writers = 4

// syncEvery is how often what was written is made permanent. Together with tailEvery it keeps the loss of a power cut below a second.
const syncEvery = 200 * time.Millisecond

// write takes finished blocks to the devices.
func (r *Ring) write() {
	defer r.stopped.Done()
	for img := range r.queue {
		h := img.Header // queries may look at img.Header
		h.Synced = r.synced.Load()
		block.Seal(img.Buf, &h)
		r.store(img)
		r.release(img, true)
	}
}

// store writes a block to its place, and to a second one if blocks are copied. A device that refuses is taken out, and the next one asked.
func (r *Ring) store(img *block.Image) {
	var used *device
	copies := 0
	why := state.CauseDisk
	for copies <= int(r.d.Copies) {
		d, s, at, err := r.place(used)
		if err != nil {
			if errors.Is(err, errPinned) {
				why = state.CausePinned
			}
			break
		}
		_, err = s.file.WriteAt(img.Buf, int64(at)*block.Size)
		r.placed(d, s, at, img, err)
		if err != nil {
			continue
		}
		used = d
		copies++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case copies == 0:
		r.dropped[why].Add(uint64(img.Header.Packets))
		delete(r.flights, img.Header.Seq)
		if why == state.CausePinned {
			r.problem(errors.New("nothing is recorded: every segment is protected from overwriting; end the protection of an interval"))
		}
	default:
		r.written.Add(block.Size)
		if copies <= int(r.d.Copies) {
			r.problem(errors.New("blocks have no copy: too few devices take them"))
		}
	}
}

// place gives out the next slot of a device other than not: the devices take turns.
func (r *Ring) place(not *device) (*device, *segment, int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
	if s := d.current; s == nil || s.used == len(s.slots) {
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
		b := index.SlotOf(&img.Header)
		b.Bloom = slices.Clone(block.BloomOf(img.Buf))
		b.Keys, b.Chunks = append([]uint64(nil), img.Keys...), slices.Clone(img.Chunks)
		s.slots[at] = b
		d.dirty[s.file] = true
	}
	full := s.used == len(s.slots) && s.inFlight == 0 && s.State == state.Open && d.failed == nil
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
	r.mu.Unlock()
	err := r.sorter.Write(&s.index, r.indexed(s), slots)
	if err == nil {
		err = s.file.Sync()
	}
	defer r.shed()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		s.State = state.Closed
		for i := range s.slots {
			if s.slots[i].Keys != nil && s.slots[i].Flags&block.FlagPartial == 0 {
				s.slots[i].Bloom = nil
			}
			s.slots[i].Keys, s.slots[i].Chunks = nil, nil
		}
		err = r.saveEntry(d, s.number, false)
	}
	if err != nil {
		r.fail(d, fmt.Errorf("close %s: %w", files.SegmentName(s.number), err))
	}
}

// release ends one use of an image. done says that it is on the disk, or lost.
func (r *Ring) release(img *block.Image, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
	r.mu.Lock()
	defer r.mu.Unlock()
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
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.sync()
			r.mu.Lock()
			r.rate.tick(r.now(), r.written.Load())
			r.mu.Unlock()
		case <-r.stop:
			r.sync()
			return
		}
	}
}

// sync makes permanent what was written up to now.
func (r *Ring) sync() {
	r.mu.Lock()
	upTo := r.total.Load()
	for _, total := range r.flights {
		upTo = min(upTo, total-1)
	}
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

// A rate is how fast blocks are written, over the last seconds.
type rate struct {
	at, bytes [16]uint64
	n         int
}

func (t *rate) tick(now int64, bytes uint64) {
	t.at[t.n%len(t.at)], t.bytes[t.n%len(t.at)] = uint64(now), bytes
	t.n++
}
