package ring

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// Without its state a ring is what its segments say. Each block names the ring, and says when it was finished, in captured bytes; so what lies on several devices can be put
// together, and it is known which blocks are not there.

// lostState reports whether an error is that a device's state is not there, or says nothing any more. Who only reads takes one that cannot be read for lost, too; for who
// writes the device may be a better one the next time.
func (r *Ring) lostState(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, state.ErrDamaged) || r.cfg.ReadOnly && errors.Is(err, state.ErrUnread)
}

// Holds reports whether files of a ring that have packets lie in one of the directories, or some of which that is not known: whether or not it can be opened, nobody should
// remove them unasked. What a creation that was cut off has left has none.
func Holds(c Config) (bool, error) {
	c, err := c.withDefaults()
	if err != nil {
		return false, err
	}
	b, err := files.Pages(block.TrailerPages)
	if err != nil {
		return false, err
	}
	defer files.Free(b)
	for _, dir := range c.Dirs {
		if holds(c.Store(dir), b) {
			return true, nil
		}
	}
	return false, nil
}

// holds is Holds for a device. Of each segment the blocks are asked that are written first.
func holds(s files.Store, b []byte) bool {
	if f, err := s.Open(files.StateName, false); err == nil {
		_, err = state.Read(f)
		if f.Close(); err != nil && !errors.Is(err, state.ErrDamaged) { // one of another version, for one
			return true
		}
	}
	numbers, err := s.Segments()
	for _, n := range numbers {
		f, operr := s.Open(files.SegmentName(n), false)
		if operr != nil {
			return true
		}
		size, serr := f.Size()
		packets := serr != nil
		for i := int64(0); i < writers*burst && (i+1)*block.Size <= size && !packets; i++ {
			_, rerr := f.ReadAt(b, (i+1)*block.Size-block.TrailerPages)
			h, herr := block.ParseHeader(b)
			packets = rerr != nil || herr == nil && h.Seq != 0
		}
		if f.Close(); packets {
			return true
		}
	}
	return err != nil && !errors.Is(err, os.ErrNotExist)
}

// A remnant is a segment file of which no state says anything.
type remnant struct {
	number int
	size   int64
	rings  map[uint64]int // how many of the blocks that were asked name a ring
	later  bool           // where its size would have an index there is a block with packets: it was longer
}

// rebuild makes out a device by its segments. why says what is wrong with its state; it is returned if there are no segments either.
func (r *Ring) rebuild(d *device, why error) error {
	numbers, err := d.store.Segments()
	if err != nil || len(numbers) == 0 {
		return why
	}
	list, err := r.remnants(d, numbers)
	if err != nil {
		return fmt.Errorf("its state is lost, and its segments do not say what it was: %w", err)
	}
	if r.d.Ring == 0 {
		r.d = state.Descriptor{
			Name: cmp.Or(r.cfg.Name, filepath.Base(filepath.Clean(d.dir))), Ring: ringOf(list), Devices: uint16(len(r.cfg.Dirs)), Copies: uint16(r.cfg.Replicas),
			SegmentBytes: segmentBytes(list),
		}
	}
	list = slices.DeleteFunc(list, func(m remnant) bool { return m.rings[r.d.Ring] == 0 })
	if len(list) == 0 {
		return errors.New("its state is lost, and its segments belong to another ring")
	}
	n := max(list[len(list)-1].number+1, int(r.d.Segments))
	if !r.cfg.ReadOnly {
		err := r.complete(list, n)
		if r.d.Segments != 0 && n != int(r.d.Segments) {
			err = fmt.Errorf("it has %d segments, and other devices have %d", n, r.d.Segments)
		}
		if err != nil {
			return fmt.Errorf("its state is lost, and it cannot be made anew, because %w: \"galvo ring export\" gets the packets out of what is there", err)
		}
	}
	return r.reclaim(d, why, n, list)
}

// remnants looks into segment files.
func (r *Ring) remnants(d *device, numbers []int) (list []remnant, err error) {
	b, err := r.buffers.Get()
	if err != nil {
		return nil, err
	}
	defer r.buffers.Put(b)
	b = b[:block.TrailerPages]
	why := errors.New("none of their blocks is whole")
	for _, n := range numbers {
		f, err := d.store.Open(files.SegmentName(n), false)
		if err != nil {
			why = err
			continue
		}
		m := remnant{number: n, rings: make(map[uint64]int)}
		m.size, err = f.Size()
		if wrong := errors.Join(err, m.ask(f, b), f.Close()); wrong != nil {
			why = wrong
		}
		if len(m.rings) > 0 {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, why
	}
	return list, nil
}

// ask asks blocks what ring they are of, until some have said it, and the first one of those that should hold an index.
func (m *remnant) ask(f files.File, b []byte) (why error) {
	const enough = 4
	blocks := int(m.size / block.Size)
	header := func(i int) (h block.Header, ok bool) {
		_, err := f.ReadAt(b, int64(i+1)*block.Size-block.TrailerPages)
		if err == nil {
			h, err = block.ParseHeader(b)
		}
		if err != nil && why == nil {
			why = err
		}
		return h, err == nil
	}
	for i, found := 0, 0; i < blocks && found < enough; i++ {
		if h, ok := header(i); ok {
			m.rings[h.Ring]++
			found++
		}
	}
	if i := index.DataBlocks(m.size); i > 0 && i < blocks {
		h, ok := header(i)
		m.later = ok && h.Seq != 0
	}
	return why
}

// ringOf returns the id of the ring that most of the segments are of.
func ringOf(list []remnant) (id uint64) {
	votes := make(map[uint64]int)
	for _, m := range list {
		for ring, n := range m.rings {
			if votes[ring] += n; votes[ring] > votes[id] || votes[ring] == votes[id] && ring < id {
				id = ring
			}
		}
	}
	return id
}

// segmentBytes returns how long segments were: as the longest one, if that was not cut itself.
func segmentBytes(list []remnant) int64 {
	longest := slices.MaxFunc(list, func(a, b remnant) int { return cmp.Compare(a.size, b.size) })
	size := (longest.size + block.Size - 1) / block.Size * block.Size
	for longest.later && index.DataBlocks(size) <= int(longest.size/block.Size) {
		size += block.Size
	}
	return min(max(size, index.MinSegment), index.MaxSegment)
}

// complete returns an error if the n segments of a device are not all there as they were: then nothing is written to it.
func (r *Ring) complete(list []remnant, n int) error {
	if n < state.MinSegments {
		return fmt.Errorf("there are %d segments, and a ring has %d at least", n, state.MinSegments)
	}
	if missing := missingOf(list, n); len(missing) > 0 {
		return fmt.Errorf("segments are not there: %s", names(missing))
	}
	for _, m := range list {
		if m.size != r.d.SegmentBytes {
			return fmt.Errorf("%s has %d bytes, not %d", files.SegmentName(m.number), m.size, r.d.SegmentBytes)
		}
	}
	return nil
}

// missingOf returns which of the segments up to a number are not there.
func missingOf(list []remnant, n int) (missing []int) {
	for i := range n {
		if !slices.ContainsFunc(list, func(m remnant) bool { return m.number == i }) {
			missing = append(missing, i)
		}
	}
	return missing
}

// names names the first of some segments.
func names(numbers []int) string {
	const most = 5
	var list []string
	for _, n := range numbers[:min(len(numbers), most)] {
		list = append(list, files.SegmentName(n))
	}
	if more := len(numbers) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}

// reclaim opens a device whose segments were looked at. Who writes makes its state anew.
func (r *Ring) reclaim(d *device, why error, n int, list []remnant) error {
	d.rebuilt = true
	f, c, err := r.remains(d, n)
	if err != nil {
		return fmt.Errorf("make its state anew: %w", err)
	}
	c.Of(n)
	c.Descriptor, c.Doubt = r.d, false
	c.Device, c.Descriptor.Segments, c.Clean = r.freeIndex(d), uint32(n), false
	r.d.Segments = max(r.d.Segments, uint32(n))
	said := "it has no state"
	if errors.Is(why, state.ErrDamaged) || errors.Is(why, state.ErrUnread) {
		said = "its state is lost: " + why.Error()
	}
	said = fmt.Sprintf("%s: %s; what it is was found out by its %d segments, which do not say what is protected, nor why packets were dropped", d.name, said, len(list))
	r.mu.Lock()
	r.rebuilt = append(r.rebuilt, said)
	if !r.cfg.ReadOnly || errors.Is(why, state.ErrDamaged) || errors.Is(why, state.ErrUnread) {
		r.problem(errors.New(said))
	}
	if missing := missingOf(list, n); len(missing) > 0 {
		r.rebuilt = append(r.rebuilt, fmt.Sprintf("%s: segments are not there: %s", d.name, names(missing)))
	}
	r.mu.Unlock()
	return r.adopt(d, f, &c)
}

// remains opens what is left of a device's state, or makes it anew for who writes, and returns what it says yet. f is nil if there is none, and can be none.
func (r *Ring) remains(d *device, n int) (f files.File, c state.Content, err error) {
	f, err = d.store.Open(files.StateName, !r.cfg.ReadOnly)
	if r.cfg.ReadOnly {
		if err != nil {
			return nil, c, nil
		}
		c, _ = state.Read(f) //nolint:errcheck // it is known to be damaged
		return f, c, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		f, err = d.store.Create(files.StateName, state.Size(n))
	}
	if err != nil { // it can be read
		d.failed = fmt.Errorf("make its state anew: %w", err)
		return nil, c, nil
	}
	if err := lock(f); err != nil {
		return nil, c, errors.Join(err, f.Close())
	}
	if size, err := f.Size(); err != nil || size > state.Size(n) {
		return nil, c, errors.Join(err, fmt.Errorf("%s has %d bytes, and it would have %d", files.StateName, size, state.Size(n)), f.Close())
	}
	c, _ = state.Read(f) //nolint:errcheck // it is known to be damaged, or it is new
	return f, c, nil
}

// freeIndex returns the place of a device among the ring's, which that of its directory is unless another device has it.
func (r *Ring) freeIndex(d *device) uint16 {
	taken := func(i int) bool {
		return slices.ContainsFunc(r.devices, func(o *device) bool { return o != d && o.known && int(o.index) == i })
	}
	i := slices.Index(r.devices, d)
	for n := 0; taken(i); n++ {
		i = n
	}
	return uint16(i)
}

// isFull finds out whether a segment of which the state says nothing is full, by its index: then that names the blocks that lie where the first ones of another turn would.
func (r *Ring) isFull(s *segment) {
	slots, err := s.index.Table(r.indexed(s))
	if err != nil {
		return
	}
	b, err := r.buffers.Get()
	if err != nil {
		return
	}
	defer r.buffers.Put(b)
	for i := range min(len(slots), writers*burst) {
		if h, err := r.readTrailer(s, i, b); err != nil || h.Ring != r.d.Ring || h.Seq != slots[i].Seq {
			return
		}
	}
	if slices.ContainsFunc(slots, func(b index.Slot) bool { return b.Seq != 0 }) {
		s.State, s.slots = state.Closed, slots
		s.span()
		s.slots = nil // a large ring has millions
		r.stock.countEarly(s, slots)
	}
}

// floors notes of segments of which the state says nothing whether they were overwritten before: perhaps, if the device has no segment that was never written. r.mu is held.
func (r *Ring) floors() {
	for _, d := range r.devices {
		fresh := slices.ContainsFunc(d.segments, func(s *segment) bool { return s.State == state.Empty && s.broken == nil })
		for _, s := range d.segments {
			if s.unknown && !fresh && s.State != state.Empty {
				s.Floor = max(s.Floor, 1)
			}
		}
	}
}
