package capture

import (
	"math"
	"slices"
	"strings"
	"time"

	"galvo/services/internal/pcapng"
	"galvo/services/internal/sink"
)

// A split makes a drain write several savefiles, each complete in itself. Its zero value is that of a sink that takes one stream.
//
// A file is full before a packet that would make it longer than Spec.SplitBytes. Spec.SplitTime divides time from the start of the capture on: a packet of
// the next interval begins a new file, and a file is complete when its interval is over by the clock, or, if the packets are not of now, by what the source has come
// past, so that nobody waits for a packet to have it.
type split struct {
	files sink.Files // nil if there is one stream
	open  bool
	began time.Time // when the file at hand was begun
	start int64     // from when on intervals are counted; 0 until that is known
	until int64     // the first time that belongs into the next file

	bytes     uint64 // of the file at hand
	packets   uint64
	delivered []uint64   // packets in the file at hand, by interface
	total     []uint64   // in all files, by interface
	base      []spanStat // by interface, of when the file was begun
	lost      []uint64   // by interface when the file was begun
}

// A spanStat is what had been counted for an interface of the output when a file was begun.
type spanStat struct {
	looked, dropped uint64
	queued          int64 // accepted and not delivered then; below 0 while a worker has not shown yet what of its batch was delivered
}

// splits reports whether there may be more than one file.
func (c *Capture) splits() bool { return c.spec.SplitBytes != 0 || c.spec.SplitTime != 0 }

// beginSplit prepares for a sink of several files, whose first one is begun already.
func (d *drain) beginSplit() {
	files, ok := d.sink.(sink.Files)
	if !ok {
		return
	}
	d.split = split{files: files, open: true, began: time.Now(), until: math.MaxInt64}
	if !d.c.spec.Block { // else time is that of the packets
		d.split.start = max(d.c.started, d.c.spec.Start)
		d.split.until = d.c.nextSplit(d.split.start, d.split.start)
	}
}

// nextSplit returns the end of the interval that a time lies in.
func (c *Capture) nextSplit(start, t int64) int64 {
	every := int64(c.spec.SplitTime)
	if every == 0 {
		return math.MaxInt64
	}
	n := max(t-start, 0) / every
	return start + (n+1)*every
}

// fit cuts from r the packets that belong into the file at hand.
func (d *drain) fit(r run) (cut, rest run) {
	s := &d.split
	if !s.open {
		return run{}, r
	}
	if !d.c.splits() {
		return r, run{}
	}
	room := math.MaxInt
	if limit := d.c.spec.SplitBytes; limit != 0 {
		room = int(min(limit, math.MaxInt/2)) - int(s.bytes) - d.endBytes()
	}
	at := 0
	for at < len(r.b) {
		p := d.c.format.read(r.b[at:])
		if s.start == 0 {
			s.start = p.time
			s.until = d.c.nextSplit(p.time, p.time)
		}
		if p.time >= s.until || at+p.size > room && uint64(cut.packets)+s.packets > 0 {
			break
		}
		at += p.size
		cut.packets++
		cut.captured += p.captured
	}
	cut.b = r.b[:at]
	return cut, run{r.b[at:], r.packets - cut.packets, r.captured - cut.captured}
}

// moreBytes is room for what a scan may have to say more at its end: larger numbers, and how far it came.
const moreBytes = 160

// endBytes is how long the statistics at the end of a file may be.
func (d *drain) endBytes() int {
	if !d.c.format.pcapng {
		return 0
	}
	var end pcapng.Statistics
	if d.c.spec.Scan != nil { // any file may be the last one
		end.Comment = d.c.scanned() + strings.Repeat(" ", moreBytes)
	}
	return len(d.described) * len(pcapng.AppendStatistics(nil, 0, end))
}

// countDelivered counts packets in the file at hand.
func (d *drain) countDelivered(b []byte) {
	s := &d.split
	for at := 0; at < len(b) && d.c.format.pcapng; {
		i := int(le.Uint32(b[at+8:]))
		s.room(i)
		s.delivered[i]++
		s.total[i]++
		at += d.c.format.read(b[at:]).size
	}
}

// room makes room for the counts of interface i.
func (s *split) room(i int) {
	for len(s.delivered) <= i {
		s.delivered = append(s.delivered, 0)
	}
	for len(s.total) <= i {
		s.total = append(s.total, 0)
	}
}

// nextFile completes the file at hand, if there is one, and begins that of a packet with the time t.
func (d *drain) nextFile(t int64) {
	s := &d.split
	began := t
	if s.start != 0 && t >= s.until {
		s.until = d.c.nextSplit(s.start, t)
		began = s.until - int64(d.c.spec.SplitTime)
	}
	d.completeFile(false)
	if d.err != nil {
		return
	}
	if d.err = s.files.Begin(time.Unix(0, began)); d.err != nil {
		return
	}
	d.c.tell()
	s.open, s.began, s.bytes, s.packets = true, time.Now(), 0, 0
	d.header, d.described = false, nil
	d.writeHeader("")
}

// expireFile completes a file whose interval is over. busy says that there may be packets that wait to be written.
func (d *drain) expireFile(now time.Time, busy bool) {
	s := &d.split
	if !s.open || d.err != nil || s.until == math.MaxInt64 {
		return
	}
	over := now.Add(-endSlack).UnixNano() >= s.until && d.stuck.IsZero() // else what waits may belong into it
	if d.c.spec.Block {
		past := slices.Min(d.marks)                              // as they were before the last look for packets
		over = !busy && past >= s.until && past != math.MaxInt64 // at the source's end it is the last file, which has more to say
	}
	if over {
		d.completeFile(false)
	}
}

// completeFile writes the statistics of the file at hand and ends it. last is set for the last file of a capture, when the workers are at rest. A sink that
// has failed is asked too: a full device has room for the end of a file.
func (d *drain) completeFile(last bool) {
	s := &d.split
	if s.files == nil || !s.open {
		return
	}
	now, lost := ifaces(d.c, last), d.c.lostSince()
	var b []byte
	if d.c.format.pcapng && d.header {
		if s.bytes == 0 { // the sink did not take what begins the file
			b = d.head("")
		}
		for i := range d.described {
			b = pcapng.AppendStatistics(b, uint32(i), d.fileStatistics(i, now, lost, last))
		}
	}
	s.open, s.delivered, s.lost = false, nil, lost
	if err := s.files.Complete(b); d.err == nil {
		d.err = err
	}
}

// fileStatistics returns what was counted for interface i of the output while the file at hand was written.
func (d *drain) fileStatistics(i int, now []ifaceStat, lost []uint64, last bool) pcapng.Statistics {
	s := &d.split
	var sum ifaceStat
	for k, n := range now {
		if k != i && !d.c.format.single {
			continue
		}
		sum.looked, sum.accepted, sum.dropped = sum.looked+n.looked, sum.accepted+n.accepted, sum.dropped+n.dropped
	}
	for len(s.base) <= i {
		s.base = append(s.base, spanStat{})
	}
	s.room(i)
	base, queued := s.base[i], int64(sum.accepted-s.total[i])
	out := pcapng.Statistics{Delivered: s.delivered[i], Dropped: sum.dropped - base.dropped}
	if last {
		out.Dropped, queued = out.Dropped+uint64(queued), 0 // what was queued and is not in any file
	}
	// A packet counts where it is delivered: what is queued yet is left to the next file.
	received := int64(sum.looked-base.looked) - (queued - base.queued)
	if received < 0 { // what waited for a verdict was received before
		queued, received = queued+received, 0
	}
	s.base[i] = spanStat{looked: sum.looked, dropped: sum.dropped, queued: queued}
	out.Received, out.Accepted = uint64(received), out.Delivered+out.Dropped
	for k, n := range lost {
		if k != i && !d.c.format.single {
			continue
		}
		if k < len(s.lost) {
			n -= min(n, s.lost[k])
		}
		out.Lost += n
	}
	out.Received += out.Lost
	out.Time = time.Now().UnixNano()
	out.Start, out.End = s.began.UnixNano(), out.Time
	if last && (d.c.delivered.Load() == 0 || d.c.spec.Scan != nil) {
		out.Comment = d.c.scanned()
	}
	return out
}

// ifaces returns the sums over the lanes by interface: exact ones when the workers are at rest, and else those of the end of their last batch.
func ifaces(c *Capture, atRest bool) (sum []ifaceStat) {
	for _, l := range c.lanes {
		list := l.ifaces
		if !atRest {
			l.mu.Lock()
			list = append([]ifaceStat(nil), l.shownIfaces...)
			l.mu.Unlock()
		}
		for i, n := range list {
			if i == len(sum) {
				sum = append(sum, ifaceStat{})
			}
			sum[i].looked += n.looked
			sum[i].accepted += n.accepted
			sum[i].dropped += n.dropped
		}
	}
	return sum
}
