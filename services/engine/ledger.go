package engine

import (
	"hash/fnv"

	"galvo/services/api"
)

// maxGaps is how many intervals of loss a port remembers.
const maxGaps = 32

// A ledger accounts for the frames of one port. Every frame that the NIC handed to the kernel was processed by a worker, dropped by the kernel
// because the worker's ring was full, lost because no engine was there, or is on its way to a worker. Frames that the NIC itself dropped come on top.
//
// The instants at which sockets begin to receive and at which the NIC's count is read differ by a few frames. When the port has been
// quiet for two readings for the first time after that, nothing is on its way, and what does not add up is put right.
type ledger struct {
	counts
	nic       uint64  // frames that the NIC had received at the last reading
	nicDrops  uint64  // frames that the NIC had dropped at the last reading
	last      total   // the last reading, to see whether the port is quiet
	unsettled bool    // no quiet reading came since the last attach
	away      api.Gap // the interval before the last attach, without its loss; zero if that was the first
	early     bool    // the last attach was the first one of this engine: what was lost before it is no capture's
	before    uint64  // frames lost so
	gaps      []api.Gap
	changed   bool // gaps, since somebody wrote them down
}

// counts are what has to outlive an engine that is killed.
type counts struct {
	Base   uint64 // NIC's count of received frames when accounting began
	Frames uint64 // processed by workers, own ones included
	Bytes  uint64
	Kernel uint64 // dropped by the kernel because a ring was full
	Engine uint64 // lost because no engine was there
	NIC    uint64 // dropped by the NIC while an engine was there
	Seen   int64  // when an engine was last known to be there, microseconds since the epoch; 0 = accounting has not begun
	Device device // whose count Base is of
}

// A device tells the NIC of a port from others: the kernel's index of the link, and in the upper half a hash of its name; 0 is not known. Indexes are not used
// again while the machine runs, names are.
type device uint64

func newDevice(index int, name string) device {
	h := fnv.New32a()
	h.Write([]byte(name))
	return device(h.Sum32())<<32 | device(uint32(index))
}

func (d device) sameLink(o device) bool { return uint32(d) == uint32(o) }
func (d device) sameName(o device) bool { return d>>32 == o>>32 }

// A total is a reading of both sides.
type total struct{ nic, accounted uint64 }

func (c *counts) accounted() uint64 { return c.Frames + c.Kernel + c.Engine }

// lost returns the frames that were gone before any filter of this engine saw them, for what lives as long as the engine. Those lost before it came
// are found out late, when captures run that have nothing to do with them.
func (l *ledger) lost() uint64 { return l.Kernel + l.Engine + l.NIC - l.before }

// attach accounts for a port whose sockets on d are about to receive. nic and drops are the NIC's counts, since is when the port last had one with an engine. Times are
// microseconds since the epoch, here and below.
func (l *ledger) attach(d device, nic, drops uint64, since, now int64) {
	before := l.Device
	l.away = api.Gap{}
	switch {
	case l.Seen == 0:
		l.Base = nic
	case before == 0 || d.sameLink(before): // goes on after a time without an engine
		l.away = api.Gap{Start: since, End: now, Cause: "engine"}
		l.miss(nic - l.Base - l.accounted())
	case d.sameName(before): // the port was removed and came back as a device whose counts began at zero: what that received without our sockets is lost
		l.Base = -l.accounted() // modulo 2^64, so that the new device's count begins at what is accounted for
		l.away = api.Gap{Start: since, End: now, Cause: "port"}
		l.miss(nic)
	default: // another NIC is the port now, and what it received before was no frame of this port
		l.Base = nic - l.accounted()
	}
	l.Device, l.nic, l.nicDrops, l.Seen, l.unsettled = d, nic, drops, now, true
}

// read takes a reading of the NIC's counts; waiting is how many frames are in the workers' rings.
func (l *ledger) read(nic, drops, waiting uint64, last, now int64) {
	if drops > l.nicDrops {
		d := drops - l.nicDrops
		l.NIC += d
		l.gap(api.Gap{Start: last, End: now, Lost: d, Cause: "nic"})
	}
	l.nic, l.nicDrops, l.Seen = nic, drops, now
	reading := total{nic, l.accounted()}
	if l.unsettled && waiting == 0 && reading == l.last {
		l.settle()
		reading.accounted = l.accounted()
	}
	l.last = reading
}

// settle puts right what does not add up: in the interval before the last attach if there was one, else in where counting began.
func (l *ledger) settle() {
	l.unsettled = false
	off := l.nic - l.Base - l.accounted() // modulo 2^64: may stand for a negative number
	if l.away.Cause == "" {
		l.Base += off
	} else {
		l.miss(off)
	}
}

// miss notes frames that were lost in the interval before the last attach; modulo 2^64, since settling may lower their number.
func (l *ledger) miss(frames uint64) {
	if frames == 0 {
		return
	}
	l.Engine += frames
	if l.early {
		l.before += frames
	}
	l.changed = true
	for i := range l.gaps {
		if g := &l.gaps[i]; g.Start == l.away.Start && g.Cause == l.away.Cause {
			g.Lost += frames
			return
		}
	}
	g := l.away
	g.Lost = frames
	l.gap(g)
}

// dropped notes what the kernel dropped between two times.
func (l *ledger) dropped(frames uint64, last, now int64) {
	if frames == 0 {
		return
	}
	l.Kernel += frames
	l.gap(api.Gap{Start: last, End: now, Lost: frames, Cause: "kernel"})
}

// gap notes an interval of loss; one that continues the last one of the same cause is joined to it.
func (l *ledger) gap(g api.Gap) {
	l.changed = true
	if n := len(l.gaps); n > 0 && l.gaps[n-1].Cause == g.Cause && l.gaps[n-1].End >= g.Start {
		l.gaps[n-1].End = g.End
		l.gaps[n-1].Lost += g.Lost
		return
	}
	if len(l.gaps) == maxGaps {
		l.gaps = append(l.gaps[:0], l.gaps[1:]...)
	}
	l.gaps = append(l.gaps, g)
}
