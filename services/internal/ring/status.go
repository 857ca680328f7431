package ring

import (
	"math"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/state"
)

// A State is what a ring is and how it does.
type State struct {
	Name      string
	ID        uint64
	Created   int64 // ns since the epoch
	Copies    int   // of each block beside the first
	Devices   []DeviceState
	Size      int64 // bytes for packets and their indexes, of one copy, on the devices that are there
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
	Rebuilt   []string // what is not known, and how the rest was found out, because a device has no state; empty if each has
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
		Discarded: r.discarded.Load(), Dropped: make(map[string]uint64), Rate: r.rate.perSecond(), Queued: len(r.waiting), Problems: slices.Clone(r.problems), Rebuilt: slices.Clone(r.rebuilt),
	}
	if said := r.ofStock(); said != "" {
		s.Problems = append(s.Problems, said)
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
	there := int64(0) // devices: one that is missing has no copy of what the others have
	for _, d := range r.devices {
		if !d.missing {
			there++
		}
	}
	times := max(min(int64(s.Copies+1), there), 1)
	s.Size = s.SizeRaw / times
	s.Used = min(s.Used/times+unfinished*block.Size, s.Size)
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
