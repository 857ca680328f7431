package capture

import (
	"sync"
	"sync/atomic"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// A lane is a capture's part in one worker. All of it but the reading end of its queue and shown belongs to the worker.
type lane struct {
	c *Capture
	queue
	hold *hold // if the capture holds packets
	counts
	shown shown
	last  counts // as stored in shown

	through atomic.Int64 // up to this time everything was looked at; only where the source waits

	saved  *cell       // of the file that outlives the engine; nil if there is none
	ifaces []ifaceStat // by index of the interface table
	links  []pipeline.Interface

	mu          sync.Mutex
	shownIfaces []ifaceStat // ifaces at the end of the last batch, if the capture is split; guarded by mu

	// of the batch at hand
	on      bool // the capture looks at this batch
	partial bool // some frames of the batch lie outside the capture's window
	opened  bool // a chunk was begun
	seen    int  // packets of the batch up to which the capture looks

	thatBytes uint64 // when the second began
}

// An ifaceCount is how many frames of a batch came from an interface.
type ifaceCount struct {
	iface  uint16
	frames uint64
}

// An ifaceStat counts the frames of one interface.
type ifaceStat struct{ looked, accepted, dropped uint64 }

// begin prepares for a batch with frames from lo to hi.
func (l *lane) begin(b *pipeline.Batch, lo, hi int64) {
	c := l.c
	l.on = len(b.Packets) != 0 && hi >= c.from && (lo < c.until || l.waits() != 0) && c.end.Load() == nil
	l.partial = lo < c.from || hi >= c.until
	l.seen = 0
	if l.on {
		l.seen = len(b.Packets)
	}
}

// finish counts what was looked at and shows the counters and packets of the batch.
func (l *lane) finish(b *pipeline.Batch, tally []ifaceCount) {
	if l.partial || l.seen < len(b.Packets) {
		l.look(b)
	} else {
		l.looked += uint64(l.seen)
		for _, t := range tally {
			l.iface(t.iface).looked += t.frames
		}
	}
	l.on = false
	if l.hold != nil && l.c.end.Load() == nil {
		l.expire(b.Now)
	}
	l.tick(b.Now)
	if l.c.spec.Block && l.c.end.Load() == nil {
		l.through.Store(b.Mark())
	}
	l.show()
}

// show gives others the counters and the queued packets.
func (l *lane) show() {
	if l.counts == l.last {
		return
	}
	l.last = l.counts
	l.saved.store([cellWords]uint64{l.looked, l.captured, l.dropped, l.held, l.bytes})
	l.shown.store(&l.counts)
	if l.c.splits() {
		l.showIfaces()
	}
	l.queue.publish() // last, so that nothing is delivered that was not counted
}

// showIfaces gives others the counters by interface, unless somebody reads them now: the next batch comes soon.
func (l *lane) showIfaces() {
	if l.mu.TryLock() {
		l.shownIfaces = append(l.shownIfaces[:0], l.ifaces...)
		l.mu.Unlock()
	}
}

// look counts the frames of the batch that lie in the capture's window and before its end.
func (l *lane) look(b *pipeline.Batch) {
	for i := range b.Packets[:l.seen] {
		f := &b.Packets[i].Frame
		if l.partial && !l.inWindow(f.Time) {
			continue
		}
		l.looked++
		l.iface(f.Iface).looked++
	}
}

func (l *lane) inWindow(t int64) bool { return t >= l.c.from && t < l.c.until }

// tick takes the rate once a second.
func (l *lane) tick(now int64) {
	second := uint64(now / 1e9)
	if second == l.second {
		return
	}
	l.rate = 0
	if second == l.second+1 {
		l.rate = l.bytes - l.thatBytes
	}
	l.second, l.thatBytes = second, l.bytes
}

// fellBehind reports whether the batch made the queue longer by another MB than the sink keeps up with. Where worker and sink share a processor
// the sink must have its turn before the queue has grown out of the cache: writing it costs 60 ns for a packet inside and 130 outside.
func (l *lane) fellBehind() bool {
	opened := l.opened
	l.opened = false
	return opened && l.c.pool.used()%yieldChunks == 0
}

func (l *lane) iface(i uint16) *ifaceStat {
	for int(i) >= len(l.ifaces) {
		l.ifaces = append(l.ifaces, ifaceStat{})
	}
	return &l.ifaces[i]
}

// An outcome says what became of a packet of which the filter said yes.
type outcome uint8

const (
	counted outcome = iota // as captured or dropped
	final                  // captured, and the capture ends behind it
	refused                // the capture ended before it: it was not looked at
)

// put queues a packet of which the filter said yes, with its options, or counts it as dropped.
func (l *lane) put(f *packet.Frame, options []byte) outcome {
	c := l.c
	if c.oneLink && !l.sameLink(f.Iface) {
		return refused
	}
	n := min(len(f.Data), c.snap)
	size := c.format.size(n, f.Flags, options)
	if size > chunkSize { // of the largest frames, with a comment of many pages
		options = nil
		size = c.format.size(n, f.Flags, nil)
	}
	room := l.queue.room(size)
	if room == nil && c.spec.Block {
		room = l.wait(size)
	}
	if room == nil {
		l.dropped++
		l.iface(f.Iface).dropped++
		return counted
	}
	ok, last := true, false
	if c.limited {
		ok, last = c.admit(n)
	}
	if !ok {
		return refused
	}
	c.format.encode(room, f, n, options)
	if l.queue.n == 0 {
		l.opened = true
		c.kick()
	}
	l.queue.wrote(size, n)
	l.captured++
	l.bytes += uint64(n)
	l.iface(f.Iface).accepted++
	if !last {
		return counted
	}
	c.finish(Finished, c.limitReason())
	return final
}

// wait blocks the worker until there is room, or returns nil when the capture has ended.
func (l *lane) wait(size int) []byte {
	c := l.c
	l.queue.publish()
	c.blocked.Add(1)
	defer c.blocked.Add(-1)
	for {
		c.kick()
		if room := l.queue.room(size); room != nil {
			return room
		}
		select {
		case <-c.room:
		case <-c.over:
			return nil
		}
	}
}

// kick wakes the goroutine that drains, if it sleeps.
func (c *Capture) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sameLink reports whether the interface has the link type of all packets before; the first one decides.
func (l *lane) sameLink(iface uint16) bool {
	if int(iface) >= len(l.links) {
		l.links = l.c.feed.Interfaces()
	}
	var link packet.LinkType
	if int(iface) < len(l.links) {
		link = l.links[iface].Link
	}
	if l.c.link.CompareAndSwap(0, int32(link)+1) || l.c.link.Load() == int32(link)+1 {
		return true
	}
	l.c.finish(Failed, otherLink(packet.LinkType(l.c.link.Load()-1), link))
	return false
}
