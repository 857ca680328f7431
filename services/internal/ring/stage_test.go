package ring

import (
	"sync/atomic"
	"testing"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/rule"
)

// TestIdleLink records a packet a second for an hour: less than 60 MiB of the ring are used, and less is written.
func TestIdleLink(t *testing.T) {
	set := newSetting(t, 1, 256<<20)
	var clock atomic.Int64
	set.cfg.Now, set.cfg.SegmentBytes = clock.Load, 64<<20
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frame := mix(1, 1)[0]
	b := pipeline.Batch{Packets: make([]packet.Packet, 1), Meta: make([]pipeline.Meta, 1)}
	before := set.disks["a"].bytes()
	for i := range int64(3600) {
		for tick := range int64(10) { // batches without packets come as on a live port
			b.Now = epoch + i*1e9 + tick*1e8
			clock.Store(b.Now)
			b.Packets = b.Packets[:0]
			if tick == 0 {
				b.Packets = b.Packets[:1]
				b.Packets[0].Frame = frame
				b.Packets[0].Time = b.Now
				b.Packets[0].Decode(packet.LinkEthernet)
			}
			s.Process(&b)
			r.waitTails()
		}
	}
	s.Finish()
	waitIdle(t, r)
	used, written := r.State().Used, set.disks["a"].bytes()-before
	t.Logf("an hour of 1 packet/s uses %.1f MiB of the ring and writes %.1f MiB", float64(used)/(1<<20), float64(written)/(1<<20))
	if used > 60<<20 {
		t.Errorf("%d bytes of the ring", used)
	}
	have, _ := collect(t, r, everything)
	if len(have) != 3600 {
		t.Errorf("%d packets", len(have))
	}
	closeRing(t, r)
}

// TestStageAllocatesNothing counts what a batch allocates, with blocks that fill and are written.
func TestStageAllocatesNothing(t *testing.T) {
	set := newSetting(t, 1, 64<<20)
	set.cfg.Rules = []rule.Rule{{Filter: mustFilter(t, "port == 443"), Action: rule.SnapHeaders}}
	set.create(t)
	r := set.open(t)
	s := r.Stage(0, table)
	frames := mix(16, 256*40)
	w := &keeper{}
	worker(t, []pipeline.Stage{w}, &traffic{frames: frames})
	i := 0
	// The writers allocate a little for each block; a batch that ends no block allocates nothing.
	if n := testing.AllocsPerRun(30, func() {
		s.Process(&w.batches[i%len(w.batches)])
		i++
	}); n > 0.5 {
		t.Errorf("%.2f allocations per batch", n)
	}
	s.Finish()
	closeRing(t, r)
}

// What was written is no longer on its way, and is known to be on the disk for good soon after.
func TestSynced(t *testing.T) {
	set := newSetting(t, 2, 16<<20).create(t)
	r := set.open(t)
	defer closeRing(t, r)
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	play(t, s, &traffic{frames: mix(1, 20_000)})
	s.Finish()
	waitIdle(t, r)
	r.sync()
	r.handing.Lock()
	defer r.handing.Unlock()
	if len(r.flights) != 0 || r.synced.Load() != r.total.Load() || r.total.Load() == 0 {
		t.Errorf("%d blocks are on their way, %d of %d bytes are on the disk", len(r.flights), r.synced.Load(), r.total.Load())
	}
}

// A stage does not wait for who reads, or makes permanent, what the ring is.
func TestStageDoesNotWait(t *testing.T) {
	set := newSetting(t, 1, 16<<20)
	set.cfg.QueueBytes = 32 << 20
	r := set.create(t).open(t)
	defer closeRing(t, r)
	s := r.Stage(0, func() []pipeline.Interface { return ethernet })
	r.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(t, s, &traffic{frames: mix(1, 10_000)})
		s.Finish()
	}()
	select {
	case <-done:
	case <-time.After(longWait):
		t.Error("it waits")
	}
	r.mu.Unlock()
	<-done
	waitIdle(t, r)
}
