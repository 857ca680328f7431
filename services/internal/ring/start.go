package ring

import (
	"fmt"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/state"
)

// start begins to record: a new generation, memory, and the goroutines that write.
func (r *Ring) start() error {
	r.mu.Lock()
	r.nextOpening()
	_, newest := r.stored()
	r.began = max(r.now(), newest) // where the clock was set back since what is there was recorded
	r.pause()
	r.d.Saved = r.now()
	usable := 0
	for _, d := range r.devices {
		if d.failed == nil {
			if err := r.prepare(d); err != nil {
				r.fail(d, err)
				continue
			}
			usable++
		}
	}
	r.mu.Unlock()
	r.closeLeft()
	r.reader.Ready(leastReaders)
	n := max(int(r.cfg.QueueBytes/block.Size)-2*r.cfg.Workers, 2*r.cfg.Workers+writers) // the images of tails are of the same memory
	var err error
	r.memory = r.cfg.Memory
	if size := (n + 2*r.cfg.Workers) * block.Size; len(r.memory) != size {
		if r.memory, err = files.Pages(size); err != nil {
			return err
		}
		files.Free(r.cfg.Memory)
		files.Touch(r.memory)
	}
	r.pin()
	r.queue, r.tails = make(chan *block.Image, n), make(chan *block.Image, 2*r.cfg.Workers)
	image := func(i int) *block.Image {
		return &block.Image{Buf: r.memory[i*block.Size : (i+1)*block.Size : (i+1)*block.Size], Keys: make([]uint64, 0, block.MaxKeys), Chunks: make([]block.Chunks, 0, block.MaxKeys)}
	}
	for i := range n {
		r.free = append(r.free, image(i))
	}
	for w := range r.cfg.Workers {
		s := newStage(r, w)
		s.saved <- image(n + 2*w)
		s.saved <- image(n + 2*w + 1)
		r.stages = append(r.stages, s)
	}
	r.stopped.Add(writers + 2)
	r.stopped.Go(func() {
		r.takeStock(false)
		r.warm()
	})
	for range writers {
		go r.write()
	}
	go r.writeTails()
	go r.keepSynced()
	return nil
}

// nextOpening numbers this opening, by which flows are told apart. While devices are missing these may be opened without those that are there: the rest of the number by that of the
// devices is the first one that is there, so that neither has the number of the other. r.mu is held.
func (r *Ring) nextOpening() {
	r.d.Generation++
	missing := func(d *device) bool { return d.missing }
	if !slices.ContainsFunc(r.devices, missing) {
		return
	}
	first := slices.IndexFunc(r.devices, func(d *device) bool { return !missing(d) })
	for r.d.Generation%uint32(len(r.devices)) != uint32(r.devices[first].index) {
		r.d.Generation++
	}
}

// pin tells the devices from where they will be asked to write.
func (r *Ring) pin() {
	for _, d := range r.devices {
		if p, ok := d.store.(files.Pinner); ok {
			unpin, err := p.Pin(r.memory)
			r.unpin = append(r.unpin, unpin)
			if err != nil {
				r.report(fmt.Errorf("%s is written with pwrite: %w", d.name, err))
			}
		}
	}
}

// closeLeft closes segments that were full, or left, when the ring was cut off.
func (r *Ring) closeLeft() {
	for _, d := range r.devices {
		for _, s := range d.segments {
			r.mu.Lock()
			left := d.failed == nil && s.broken == nil && s.State == state.Open && s.used > 0 && (s != d.current || s.used == len(s.slots))
			r.mu.Unlock()
			if left {
				r.close(d, s)
			}
		}
	}
}

// prepare makes a device ready for blocks: the new generation is on it, and a tail slot for each worker. r.mu is held.
func (r *Ring) prepare(d *device) error {
	size, err := d.tails.Size()
	if err != nil {
		return err
	}
	b, err := r.buffers.Get()
	if err != nil {
		return err
	}
	defer r.buffers.Put(b)
	clear(b)
	for at := size / block.Size * block.Size; at < int64(r.cfg.Workers)*2*block.Size; at += block.Size {
		if _, err := d.tails.WriteAt(b, at); err != nil {
			return fmt.Errorf("make room for the tails of more workers: %w", err)
		}
	}
	for n := 0; (d.rebuilt || d.pinned) && n < len(d.segments); n += state.EntriesPerPage {
		if err := r.saveEntry(d, n, false); err != nil {
			return err
		}
	}
	return r.saveDescriptor(d, false)
}
