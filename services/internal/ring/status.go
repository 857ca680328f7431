package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A State is what a ring is and how it does.
type State struct {
	Name      string
	ID        uint64
	Created   int64 // ns since the epoch
	Copies    int   // of each block beside the first
	Devices   []DeviceState
	Size      int64 // bytes for packets and their indexes, of one copy
	SizeRaw   int64 // bytes on all devices
	Used      int64 // of Size, with blocks that are not finished yet
	Oldest    int64 // time of the oldest packet; 0 if there is none
	Newest    int64
	Packets   uint64 // recorded since the ring was opened
	Bytes     uint64 // captured bytes recorded since the ring was created; more than Used once it has wrapped
	Discarded uint64 // packets that rules left out, since the ring was created
	Dropped   map[string]uint64
	Rate      float64 // bytes per second of Bytes, over the last seconds
	Queued    int     // blocks that wait for the disk
	Pins      []Pin
	Problems  []string // what went wrong since the ring was opened, oldest first
}

// A DeviceState is a ring's part on one device.
type DeviceState struct {
	Dir     string
	Missing bool
	Failed  string // why it takes no blocks; empty if it does
	Size    int64
	Used    int64
}

// State says how the ring does.
func (r *Ring) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handing.Lock()
	defer r.handing.Unlock()
	s := State{
		Name: r.d.Name, ID: r.d.Ring, Created: r.d.Created, Copies: int(r.d.Copies), Packets: r.packets.Load(), Bytes: r.recorded(),
		Discarded: r.discarded.Load(), Dropped: make(map[string]uint64), Rate: r.rate.perSecond(), Queued: len(r.waiting), Problems: slices.Clone(r.problems),
	}
	for i, name := range state.CauseNames {
		s.Dropped[name] = r.dropped[i].Load()
	}
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, d := range r.devices {
		ds := DeviceState{Dir: d.dir, Missing: d.missing, Size: int64(len(d.segments)) * r.d.SegmentBytes}
		if d.failed != nil {
			ds.Failed = d.failed.Error()
		}
		for _, g := range d.segments {
			switch {
			case g.State == state.Empty:
				continue
			case g.State == state.Closed:
				ds.Used += r.d.SegmentBytes
			default:
				g.span()
				for i := range g.slots {
					if g.slots[i].Seq != 0 {
						ds.Used += block.Size
					}
				}
			}
			oldest, newest = min(oldest, g.First), max(newest, g.Last)
		}
		s.SizeRaw += ds.Size
		s.Used += ds.Used
		s.Devices = append(s.Devices, ds)
	}
	for _, img := range r.waiting {
		oldest, newest = min(oldest, img.Header.First), max(newest, img.Header.Last)
	}
	unfinished := int64(len(r.waiting))
	for _, st := range r.stages {
		if st.current.Load() != 0 {
			unfinished++
		}
		if first, last := st.first.Load(), st.last.Load(); st.current.Load() != 0 && first <= last {
			oldest, newest = min(oldest, first), max(newest, last)
		}
	}
	if oldest <= newest {
		s.Oldest, s.Newest = min(r.covered(oldest), newest), newest
	}
	s.Size = s.SizeRaw / int64(s.Copies+1)
	s.Used = min(s.Used/int64(s.Copies+1)+unfinished*block.Size, s.Size)
	s.Pins = r.pins()
	return s
}

// recorded returns the bytes of packets that the ring took since it was created, with those of unfinished blocks. r.handing is held.
func (r *Ring) recorded() uint64 {
	n := r.total.Load()
	for _, st := range r.stages {
		if st.current.Load() != 0 {
			n += st.bytes.Load()
		}
	}
	return n
}

// Memory returns the bytes that the ring takes: for what its devices have not taken yet, which is taken whole when the ring is opened, and for its readers.
func (r *Ring) Memory() (queue, readers uint64) {
	readers = r.buffers.Taken()
	for _, s := range r.closedByAge() {
		sketch, pages := s.index.Memory()
		readers += uint64(sketch + pages)
	}
	return uint64(len(r.memory)), readers
}

// perSecond returns the rate over what the ticks cover.
func (t *rate) perSecond() float64 {
	if t.n < 2 {
		return 0
	}
	last := (t.n - 1) % len(t.at)
	first := max(t.n-len(t.at), 0) % len(t.at)
	if t.at[last] <= t.at[first] {
		return 0
	}
	return float64(t.bytes[last]-t.bytes[first]) / (float64(t.at[last]-t.at[first]) / 1e9)
}

// A Pin protects a time from being overwritten.
type Pin struct {
	From, To int64 // times of the packets in the protected segments
	Until    int64 // when the protection ends
	Bytes    int64 // that are protected
}

// Protect keeps the packets of an interval (ns since the epoch, half-open) from being overwritten until a time; whole segments are kept. Recording goes on
// in the others. A time that has passed ends the protection. It returns what is protected now; an error if so little would be left that recording stops soon.
func (r *Ring) Protect(from, to, until int64) ([]Pin, error) {
	was := map[*segment]int64{}
	err := r.protect(from, to, until, was) // before the blocks that are finished now take the place of older ones
	if err == nil {
		r.settle()
		if err = r.protect(from, to, until, was); err == nil && len(was) == 0 && until > r.now() {
			err = errors.New("it has no packet of the interval")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		for s, before := range was {
			r.keepUntil(s, before)
		}
		return nil, fmt.Errorf("protect an interval of ring %q: %w", r.d.Name, err)
	}
	return r.pins(), nil
}

// protect is Protect for what lies on the devices. It notes in was until when the segments were protected before. A segment that is being written and has old packets
// of the interval is left as it is: the next block goes to another one.
func (r *Ring) protect(from, to, until int64, was map[*segment]int64) error {
	r.mu.Lock()
	chosen, err := r.chosen(from, to, until)
	var left []*segment
	for _, s := range chosen {
		if _, known := was[s]; !known {
			was[s] = s.Pinned
		}
		r.keepUntil(s, until)
		if s == s.dev.current && s.hasOld(from, to) && until > r.now() {
			s.used = len(s.slots)
			if s.inFlight == 0 && s.broken == nil && s.dev.failed == nil { // else who writes does it
				left = append(left, s)
			}
		}
	}
	r.mu.Unlock()
	for _, s := range left {
		r.rekey(s)
		r.close(s.dev, s)
	}
	return err
}

// chosen returns the segments that have packets of an interval. r.mu is held.
func (r *Ring) chosen(from, to, until int64) (chosen []*segment, err error) {
	if r.closed {
		return nil, ErrClosed
	}
	now := r.now()
	if from >= to {
		return nil, errors.New("it ends before it begins")
	}
	for _, d := range r.devices {
		free := 0
		for _, s := range d.segments {
			if s.State == state.Open {
				s.span()
			}
			switch {
			case s.State != state.Empty && s.First < to && s.Last >= from:
				chosen = append(chosen, s)
			case s.broken == nil && (s.State == state.Empty || s.Pinned <= now):
				free++
			}
		}
		if until > now && free < minFree && d.failed == nil {
			return nil, fmt.Errorf("only %d of %d segments of %s would be left to record to; choose a shorter one", free, len(d.segments), d.name)
		}
	}
	return chosen, nil
}

// keepUntil protects a segment until a time. r.mu is held.
func (r *Ring) keepUntil(s *segment, until int64) {
	s.Pinned = until
	if s.dev.failed != nil || r.cfg.ReadOnly {
		return
	}
	if err := r.saveEntry(s.dev, s.number, true); err != nil {
		r.fail(s.dev, err)
	}
}

// hasOld reports whether a segment that is being written has packets of an interval where the next blocks would go. Ring.mu is held.
func (s *segment) hasOld(from, to int64) bool {
	return slices.ContainsFunc(s.slots[min(s.used, len(s.slots)):], func(b index.Slot) bool { return b.Seq != 0 && b.First < to && b.Last >= from })
}

// settle has the unfinished blocks finished, and waits until what was recorded before lies on the devices, for a moment: a segment is chosen by what is in it.
func (r *Ring) settle() {
	for _, s := range r.stages {
		s.part.Store(!s.finished.Load())
	}
	parted := func(s *stage) bool { return !s.part.Load() || s.finished.Load() }
	end := time.Now().Add(settleTime)
	for !allOf(r.stages, parted) && time.Now().Before(end) {
		time.Sleep(settleTime / 200)
	}
	last := r.seq.Load()
	for r.waitsFor(last) && time.Now().Before(end) {
		time.Sleep(settleTime / 200)
	}
}

// settleTime is longer than workers and devices take, unless something is wrong with them.
const settleTime = time.Second

func allOf(stages []*stage, is func(*stage) bool) bool {
	return !slices.ContainsFunc(stages, func(s *stage) bool { return !is(s) })
}

// waitsFor reports whether a block up to a number was not written yet.
func (r *Ring) waitsFor(last uint64) bool {
	r.handing.Lock()
	defer r.handing.Unlock()
	for seq := range r.waiting {
		if seq <= last {
			return true
		}
	}
	return false
}

// minFree is how many segments of a device protection leaves to recording.
const minFree = 2

// pins lists what is protected. Ring.mu is held.
func (r *Ring) pins() (list []Pin) {
	now := r.now()
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.State == state.Empty || s.Pinned <= now {
				continue
			}
			i := slices.IndexFunc(list, func(p Pin) bool { return p.Until == s.Pinned })
			if i < 0 {
				i = len(list)
				list = append(list, Pin{From: s.First, To: s.Last, Until: s.Pinned})
			}
			p := &list[i]
			p.From, p.To, p.Bytes = min(p.From, s.First), max(p.To, s.Last), p.Bytes+r.d.SegmentBytes
		}
	}
	return list
}
