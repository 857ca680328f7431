package capture

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/sink"
)

// Bounds of the time that packets wait in a queue without need. Together with those of the source they make a packet reach its sink
// within 200 ms.
const (
	tick      = 25 * time.Millisecond  // between two looks into the queue
	orderWait = 150 * time.Millisecond // after its reception, of a packet for workers that lag behind
	noteTime  = 200 * time.Millisecond // between two notes of what was lost
	endSlack  = 250 * time.Millisecond // after the end time by the clock, for frames in receive rings
	lagWait   = 2 * time.Second        // for workers that lag behind, where nobody waits for packets: at the end, and on a storage device
)

// outSize is the size of the buffer in which runs of several workers are put in order.
const outSize = 128 << 10

// A drain takes the packets out of a capture's queue and writes them to its sink.
type drain struct {
	ctx  context.Context
	c    *Capture
	sink sink.Sink
	err  error // of the sink; nothing is written after it

	header    bool              // was written
	described []packet.LinkType // of the interfaces that were written
	unflushed bool
	noted     time.Time // when what outlives the engine was last brought up to date
	stuck     time.Time // since when packets wait for a lagging worker and none leaves
	ending    time.Time // since when it is past the end time by the clock, and a worker is not

	split split

	heads []run   // by lane: a snapshot of what can be read
	marks []int64 // by lane: up to where its worker had come before the snapshot
	out   run     // short runs, to be written together
}

func newDrain(ctx context.Context, c *Capture, s sink.Sink) *drain {
	return &drain{ctx: ctx, c: c, sink: s, heads: make([]run, len(c.lanes)), marks: make([]int64, len(c.lanes))}
}

// run writes the stream from its header to its statistics.
func (d *drain) run() error {
	c := d.c
	c.save()
	d.beginSplit()
	if !c.spec.Block || c.spec.Scan != nil {
		d.writeHeader("")
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for c.end.Load() == nil {
		busy := d.passes()
		d.flush()
		d.note(time.Now())
		d.expireFile(time.Now(), busy)
		if d.err == nil {
			d.err = context.Cause(d.ctx)
		}
		if d.err != nil || d.expired() {
			break
		}
		if busy {
			continue
		}
		select {
		case <-c.wake:
		case <-t.C:
		case <-c.over:
		case <-d.ctx.Done():
		}
	}
	failed := d.err != nil && c.finish(d.reason())
	c.feed.detach(c)
	for d.pass(time.Now(), true) {
	}
	if d.err != nil && !failed {
		c.fallShort(d.reason())
	}
	d.trailer()
	d.flush()
	return d.err
}

// passes makes passes while there is something to write, but not for ever, and reports whether there may be more.
func (d *drain) passes() bool {
	for range 16 {
		if !d.pass(time.Now(), false) {
			return false
		}
	}
	return true
}

// note brings what outlives the engine up to date, now and then.
func (d *drain) note(now time.Time) {
	if now.Sub(d.noted) >= noteTime {
		d.noted = now
		if now.UnixNano() < d.c.from && !d.c.spec.Block {
			d.c.forgetLost() // what was lost before the start is not the capture's
		}
		d.c.askLost()
		d.c.save()
	}
}

// expired reports whether the end time has come, and ends the capture then.
func (d *drain) expired() bool {
	c := d.c
	if c.until == math.MaxInt64 {
		return false
	}
	over := c.through() && (!c.spec.Block || c.counts().held == 0) // what waits learns its verdict from what comes behind the end
	if now := time.Now(); !over && !c.spec.Block && now.Add(-endSlack).UnixNano() >= c.until {
		if d.ending.IsZero() { // it may have been all of the process that had no turn
			d.ending = now
		}
		over = now.Sub(d.ending) >= lagWait || d.silent()
	}
	if over {
		c.finish(Finished, c.untilReason)
	}
	return over
}

// through reports whether every worker has come to the capture's end.
func (c *Capture) through() bool {
	for i := range c.lanes {
		if c.feed.stages[i].came() < c.until {
			return false
		}
	}
	return true
}

// pass writes what the queue holds at the time now, in the order of time, and reports whether it wrote anything. Unless it is the last one
// packets wait for workers that may still bring older ones, within bounds.
func (d *drain) pass(now time.Time, last bool) bool {
	c := d.c
	for i := range c.lanes {
		d.marks[i] = c.feed.stages[i].mark.Load()
	}
	waiting := false
	for i, l := range c.lanes {
		d.heads[i] = l.queue.peek()
		waiting = waiting || d.heads[i].packets != 0
	}
	if !waiting {
		d.stuck = time.Time{}
		return false
	}
	if d.err != nil {
		return false
	}
	d.describe()
	due := int64(math.MaxInt64)
	if !last {
		due = d.due(now)
	}
	moved := false
	for {
		i, bound := d.next(due)
		if i < 0 {
			break
		}
		r, rest := c.format.until(d.heads[i], bound)
		d.emit(r)
		c.lanes[i].queue.take(r)
		d.heads[i] = rest
		moved = true
		if rest.packets == 0 {
			break // there may be more: look again
		}
	}
	d.spill()
	d.giveRoom()
	if moved {
		d.stuck = time.Time{}
	} else if d.stuck.IsZero() {
		d.stuck = now
	}
	return moved && d.err == nil
}

// next returns the lane whose first packet comes next, and the time up to which its packets come before those of the others; or -1 if that
// is not known yet. Packets up to the time due wait for no worker that has none.
func (d *drain) next(due int64) (lane int, bound int64) {
	lane, bound = -1, math.MaxInt64
	first := int64(math.MaxInt64)
	for i, r := range d.heads {
		t := max(d.marks[i], due)
		if r.packets != 0 {
			t = d.c.format.read(r.b).time
		}
		switch {
		case r.packets != 0 && (lane < 0 || t < first):
			if lane >= 0 {
				bound = min(bound, first)
			}
			lane, first = i, t
		default:
			bound = min(bound, t)
		}
	}
	if lane >= 0 && first > bound {
		return -1, 0
	}
	return lane, bound
}

// due returns the time up to which packets may leave out of order rather than wait any longer for a worker that lags behind: it is long enough ago by the
// clock. All of them may when a worker waits for room, or soon there will be none; and when stamps are of another clock, which is ahead.
func (d *drain) due(now time.Time) int64 {
	c := d.c
	wait, patient := orderWait, d.split.files != nil && !d.silent()
	if patient {
		wait = lagWait
	}
	switch {
	case c.blocked.Load() != 0:
		return math.MaxInt64
	case c.spec.Block:
		return math.MinInt64
	case int(c.pool.left.Load()) < len(c.pool.chunks)/4, !d.stuck.IsZero() && now.Sub(d.stuck) > wait:
		return math.MaxInt64
	case patient: // how old packets are says nothing where the whole process had no turn
		return math.MinInt64
	}
	return now.Add(-orderWait).UnixNano()
}

// silent reports whether a worker has not had any batch yet, so that nothing is known of how far it is.
func (d *drain) silent() bool { return slices.Contains(d.marks, math.MinInt64) }

// giveRoom tells workers that wait that chunks were given back.
func (d *drain) giveRoom() {
	for range d.c.blocked.Load() {
		select {
		case d.c.room <- struct{}{}:
		default:
			return
		}
	}
}

// emit writes a run of packets; a short one together with the ones after it.
func (d *drain) emit(r run) {
	if len(d.heads) == 1 || len(r.b) > outSize/4 {
		d.spill()
		d.write(r)
		return
	}
	if len(d.out.b)+len(r.b) > outSize {
		d.spill()
	}
	if d.out.b == nil {
		d.out.b = make([]byte, 0, outSize)
	}
	d.out = run{append(d.out.b, r.b...), d.out.packets + r.packets, d.out.captured + r.captured}
}

// spill writes what emit has collected.
func (d *drain) spill() {
	if d.out.packets != 0 {
		d.write(d.out)
		d.out = run{b: d.out.b[:0]}
	}
}

// write writes whole packets, into several files if need be.
func (d *drain) write(r run) {
	if d.split.files == nil {
		d.deliver(r)
		return
	}
	for r.packets != 0 && d.err == nil {
		cut, rest := d.fit(r)
		if cut.packets == 0 {
			d.nextFile(d.c.format.read(r.b).time)
			continue
		}
		d.deliver(cut)
		d.split.packets += uint64(cut.packets)
		r = rest
	}
}

// deliver writes whole packets and counts those that the sink took.
func (d *drain) deliver(r run) {
	if d.err != nil {
		return
	}
	n := d.put(r.b)
	if n < len(r.b) {
		r = d.c.format.whole(r, n)
	}
	if d.split.files != nil {
		d.countDelivered(r.b)
	}
	d.c.deliveredBytes.Add(uint64(r.captured))
	d.c.delivered.Add(uint64(r.packets))
	d.c.save()
}

// writeRaw writes what is not a packet.
func (d *drain) writeRaw(b []byte) {
	if d.err == nil && len(b) != 0 && (d.split.files == nil || d.split.open) {
		d.put(b)
	}
}

func (d *drain) put(b []byte) (n int) {
	n, d.err = d.sink.Write(b)
	d.unflushed = true
	d.split.bytes += uint64(n)
	return n
}

func (d *drain) flush() {
	if d.unflushed && d.err == nil {
		d.err = d.sink.Flush()
		d.unflushed = false
	}
}

// writeHeader begins the savefile. A pcap one without interfaces yet waits for the first packet.
func (d *drain) writeHeader(scanned string) {
	c := d.c
	if c.format.pcapng {
		d.header = true
		d.writeRaw(d.head(scanned))
		return
	}
	link, ok := c.onlyLink()
	if !ok {
		return
	}
	d.header = true
	d.writeRaw(pcapng.AppendPcapHeader(nil, link, c.spec.SnapLen, c.format.nanos))
}

// head returns what begins a pcapng file: its section and the interfaces that there are.
func (d *drain) head(scanned string) []byte {
	d.described = nil
	return append(pcapng.AppendSection(nil, d.c.section(scanned)), d.interfaces()...)
}

// onlyLink returns the link type of all packets: that of the first one, or of the first interface of a live source, whose header comes
// before any packet.
func (c *Capture) onlyLink() (link packet.LinkType, ok bool) {
	if table := c.feed.Interfaces(); len(table) != 0 && !c.spec.Block {
		c.link.CompareAndSwap(0, int32(table[0].Link)+1)
	}
	n := c.link.Load()
	return packet.LinkType(n - 1), n != 0
}

// describe writes the header, if that is still to be done, and the interfaces that are new in the table.
func (d *drain) describe() {
	c := d.c
	if !d.header {
		d.writeHeader("")
		return
	}
	if !c.format.pcapng {
		return
	}
	before := len(d.described)
	if d.writeRaw(d.interfaces()); d.err != nil {
		d.described = d.described[:before]
	}
}

// interfaces describes those that are new in the table, in pcapng.
func (d *drain) interfaces() (b []byte) {
	c := d.c
	if c.format.single {
		if link, ok := c.onlyLink(); ok && len(d.described) == 0 {
			d.described = append(d.described, link)
			b = pcapng.AppendInterface(b, pcapng.Interface{Name: "any", Link: link, Filter: c.spec.Expression, SnapLen: c.spec.SnapLen})
		}
		return b
	}
	table := c.feed.Interfaces()
	for i, link := range d.described {
		if d.err == nil && table[i].Link != link { // another device has come to the port
			d.err = fmt.Errorf("interface %d has link type %d now, and had %d in this file: start another capture", i+1, table[i].Link, link)
		}
	}
	for _, in := range table[len(d.described):] {
		d.described = append(d.described, in.Link)
		b = pcapng.AppendInterface(b, c.iface(&in))
	}
	return b
}

// trailer ends the savefile: with a header if nothing else was written, and statistics.
func (d *drain) trailer() {
	if d.err != nil {
		d.completeFile(true)
		return
	}
	c := d.c
	scanned := ""
	if c.delivered.Load() == 0 || c.spec.Scan != nil {
		scanned = c.scanned()
	}
	if !d.header {
		c.link.CompareAndSwap(0, int32(packet.LinkEthernet)+1) // without any packet it does not matter
		d.writeHeader(scanned)
	}
	d.describe()
	if c.format.pcapng && len(d.described) == 0 && c.spec.Scan != nil { // else there is no place left for what was scanned
		d.described = append(d.described, packet.LinkEthernet)
		d.writeRaw(pcapng.AppendInterface(nil, pcapng.Interface{Name: "any", Link: packet.LinkEthernet, Filter: c.spec.Expression, SnapLen: c.spec.SnapLen}))
	}
	if d.split.files != nil {
		d.completeFile(true)
		return
	}
	if !c.format.pcapng {
		return
	}
	now := time.Now().UnixNano()
	for i := range d.described {
		s := c.statistics(i)
		s.Time, s.Start, s.End, s.Comment = now, d.c.started, now, scanned
		d.writeRaw(pcapng.AppendStatistics(nil, uint32(i), s))
	}
}

// reason says why the sink takes no more: as it says itself, or because who asked for the capture is gone.
func (d *drain) reason() (state, reason string) {
	var end *sink.End
	known := errors.As(d.err, &end)
	switch cause := context.Cause(d.ctx); {
	case cause != nil && !errors.Is(cause, context.Canceled):
		return Finished, cause.Error()
	case cause != nil && !known:
		return Finished, "client disconnected"
	case known && !end.Failed:
		return Finished, end.Words
	}
	return Failed, d.err.Error()
}
