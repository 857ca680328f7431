// Package state is the file that says what a ring is and what is in its segments, from which opening starts. ../FORMAT.md has the bytes.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/sum"
)

// The state file holds what the ring is, and what is in each of its segments, in pages that are written in two places by turns: a power cut leaves one.
const (
	stateMagic      = "GALVORST"
	segmentEntry    = 64
	EntriesPerPage  = (files.PageSize - 64) / segmentEntry
	MaxName         = 128
	MinSegments     = 3
	stateDescriptor = 2 * files.PageSize // bytes of the two places of the descriptor
)

// A Descriptor is what the state file says about the ring on this device.
type Descriptor struct {
	Name         string
	Ring         uint64
	Device       uint16
	Devices      uint16
	Copies       uint16
	Generation   uint32
	SegmentBytes int64 // bytes
	Segments     uint32
	Created      int64
	Dropped      [Causes]uint64
	Discarded    uint64
	Lost         uint64 // frames that ports lost while the ring was open
	Clean        bool   // it was closed, so nothing has to be looked for
	Lacking      bool   // blocks are not there that were recorded, and not overwritten
	Saved        int64  // when the ring was opened, or up to when it had recorded everything when it was closed
	Pauses       []Pause
	Kept         []Kept
	KeptTurn     uint32 // how often Kept was changed
	Overwritten  int64  // time of the last packet that was overwritten when the ring was closed, math.MinInt64 if none was; 0 = not known
	Ahead        Pause  // the same of what was recorded when the clock was ahead, from its earliest to its latest packet; zeros if there is nothing
	Total        uint64 // captured bytes of the blocks that were finished since the ring was made; 0 = not known
}

// A Pause is a time, ns since the epoch and both included, in which the ring was not recording: between its being closed, or cut off, and its being opened again.
type Pause struct{ From, To int64 }

// MaxPauses is how many pauses a descriptor has room for.
const MaxPauses = 200

// A Kept is a time, ns since the epoch and both included, that was whole when somebody protected it, until the protection ends. Of what is around it the
// segments that are protected have a part.
type Kept struct{ From, To, Until int64 }

// MaxKept is how many of them a descriptor has room for.
const MaxKept = 25

// Where the lists are in a descriptor, from the head of its page on.
const (
	atSaved       = 224
	atCount       = 232
	atKeptCount   = 234
	atKeptTurn    = 236
	atPauses      = 240
	onePause      = 16
	atKept        = atPauses + MaxPauses*onePause
	oneKept       = 24
	atOverwritten = atKept + MaxKept*oneKept
	atAhead       = atOverwritten + 8
	atLost        = atAhead + 16
	atTotal       = atLost + 8
)

// AddPause notes a pause. Those that ended before oldest say nothing any more; if there are too many still, the two oldest become one.
func (d *Descriptor) AddPause(p Pause, oldest int64) {
	d.Pauses = slices.DeleteFunc(d.Pauses, func(p Pause) bool { return p.To < oldest })
	if n := len(d.Pauses); n == MaxPauses {
		d.Pauses[1].From = min(d.Pauses[0].From, d.Pauses[1].From)
		d.Pauses = d.Pauses[1:]
	}
	d.Pauses = append(d.Pauses, p)
}

var le = binary.LittleEndian

// A Cause is why a packet was dropped.
type Cause int

const (
	CauseQueue  Cause = iota // the writers did not keep up
	CauseDisk                // no device took the block
	CausePinned              // everything is protected from overwriting
	CauseFormat              // the packet's interface could not be described
	Causes
)

// CauseNames are what causes are called where people see them.
var CauseNames = [Causes]string{"queue", "disk", "pinned", "format"}

// Size is how many bytes the file has for so many segments.
func Size(segments int) int64 {
	pages := (segments + EntriesPerPage - 1) / EntriesPerPage
	return stateDescriptor + int64(pages)*2*files.PageSize
}

// A page of the state file begins with its checksum and its turn.
const pageHead = 16

// A File writes the pages of a state file by turns. It has one user at a time.
type File struct {
	File  files.File
	Turns []uint64 // of the descriptor, then of the pages of segments
}

func (s *File) write(place int, page []byte) error {
	s.Turns[place]++
	le.PutUint64(page[8:], s.Turns[place])
	le.PutUint32(page, 0)
	le.PutUint32(page, sum.Of(page[4:files.PageSize]))
	_, err := s.File.WriteAt(page[:files.PageSize], int64(place)*2*files.PageSize+int64(s.Turns[place]&1)*files.PageSize)
	return err
}

// WriteSegment writes the page with the entry of a segment. of returns the others' too, and nil for a segment that there is not.
func (s *File) WriteSegment(number int, page []byte, of func(n int) *Segment) error {
	clear(page)
	from := number / EntriesPerPage * EntriesPerPage
	for i := range EntriesPerPage {
		if e := of(from + i); e != nil {
			e.Put(page[64+i*segmentEntry:])
		}
	}
	return s.write(1+number/EntriesPerPage, page)
}

// WriteDescriptor writes what the ring is.
func (s *File) WriteDescriptor(d *Descriptor, page []byte) error {
	d.Put(page)
	return s.write(0, page)
}

// WriteEmpty fills the state file of a new ring.
func WriteEmpty(f files.File, d *Descriptor, page []byte) error {
	s := File{File: f, Turns: make([]uint64, Size(int(d.Segments))/(2*files.PageSize))}
	empty := Segment{First: math.MaxInt64, Last: math.MinInt64}
	for place := 1; place < len(s.Turns); place++ {
		if err := s.WriteSegment((place-1)*EntriesPerPage, page, func(int) *Segment { return &empty }); err != nil {
			return err
		}
	}
	return s.WriteDescriptor(d, page)
}

// newest returns the valid page of the two that are in b, and its turn. doubt says that the other one is damaged, and may have been the newer one.
func newest(b []byte) (page []byte, turn uint64, doubt bool) {
	valid := 0
	for _, p := range [][]byte{b[:files.PageSize], b[files.PageSize : 2*files.PageSize]} {
		if le.Uint32(p) != sum.Of(p[4:]) || le.Uint64(p[8:]) == 0 {
			continue
		}
		if valid++; le.Uint64(p[8:]) > turn {
			page, turn = p, le.Uint64(p[8:])
		}
	}
	return page, turn, valid == 1 && turn > 1 // the first turn has no page before it
}

// Put makes a page of it, but for its checksum and turn.
func (d *Descriptor) Put(b []byte) {
	clear(b[:files.PageSize])
	b = b[pageHead:]
	copy(b, stateMagic)
	le.PutUint16(b[8:], block.FormatVersion)
	le.PutUint16(b[10:], d.Device)
	le.PutUint16(b[12:], d.Devices)
	le.PutUint16(b[14:], d.Copies)
	le.PutUint64(b[16:], d.Ring)
	le.PutUint32(b[24:], d.Generation)
	le.PutUint32(b[28:], d.Segments)
	le.PutUint64(b[32:], uint64(d.SegmentBytes))
	le.PutUint64(b[40:], uint64(d.Created))
	for i, n := range d.Dropped {
		le.PutUint64(b[48+8*i:], n)
	}
	le.PutUint64(b[80:], d.Discarded)
	for bit, set := range []bool{d.Clean, d.Lacking} {
		if set {
			b[88] |= 1 << bit
		}
	}
	b[89] = byte(len(d.Name))
	copy(b[90:], d.Name)
	le.PutUint64(b[atSaved:], uint64(d.Saved))
	le.PutUint16(b[atCount:], uint16(len(d.Pauses)))
	for i, p := range d.Pauses {
		at := b[atPauses+i*onePause:]
		le.PutUint64(at, uint64(p.From))
		le.PutUint64(at[8:], uint64(p.To))
	}
	le.PutUint16(b[atKeptCount:], uint16(len(d.Kept)))
	le.PutUint32(b[atKeptTurn:], d.KeptTurn)
	for i, k := range d.Kept {
		at := b[atKept+i*oneKept:]
		le.PutUint64(at, uint64(k.From))
		le.PutUint64(at[8:], uint64(k.To))
		le.PutUint64(at[16:], uint64(k.Until))
	}
	le.PutUint64(b[atOverwritten:], uint64(d.Overwritten))
	le.PutUint64(b[atAhead:], uint64(d.Ahead.From))
	le.PutUint64(b[atAhead+8:], uint64(d.Ahead.To))
	le.PutUint64(b[atLost:], d.Lost)
	le.PutUint64(b[atTotal:], d.Total)
}

func parseDescriptor(b []byte) (d Descriptor, err error) {
	b = b[pageHead:]
	if string(b[:8]) != stateMagic {
		return d, errors.New("it is not the state of a ring")
	}
	if err := block.Version(le.Uint16(b[8:])); err != nil {
		return d, err
	}
	d = Descriptor{
		Device: le.Uint16(b[10:]), Devices: le.Uint16(b[12:]), Copies: le.Uint16(b[14:]), Ring: le.Uint64(b[16:]), Generation: le.Uint32(b[24:]),
		Segments: le.Uint32(b[28:]), SegmentBytes: int64(le.Uint64(b[32:])), Created: int64(le.Uint64(b[40:])), Discarded: le.Uint64(b[80:]), Clean: b[88]&1 != 0, Lacking: b[88]&2 != 0,
	}
	for i := range d.Dropped {
		d.Dropped[i] = le.Uint64(b[48+8*i:])
	}
	d.Name = string(b[90:][:min(b[89], MaxName)])
	d.Saved = int64(le.Uint64(b[atSaved:]))
	for i := range min(int(le.Uint16(b[atCount:])), MaxPauses) {
		at := b[atPauses+i*onePause:]
		d.Pauses = append(d.Pauses, Pause{int64(le.Uint64(at)), int64(le.Uint64(at[8:]))})
	}
	d.KeptTurn = le.Uint32(b[atKeptTurn:])
	for i := range min(int(le.Uint16(b[atKeptCount:])), MaxKept) {
		at := b[atKept+i*oneKept:]
		d.Kept = append(d.Kept, Kept{int64(le.Uint64(at)), int64(le.Uint64(at[8:])), int64(le.Uint64(at[16:]))})
	}
	d.Overwritten = int64(le.Uint64(b[atOverwritten:]))
	d.Ahead = Pause{int64(le.Uint64(b[atAhead:])), int64(le.Uint64(b[atAhead+8:]))}
	d.Lost = le.Uint64(b[atLost:])
	d.Total = le.Uint64(b[atTotal:])
	if d.SegmentBytes < index.MinSegment || d.SegmentBytes > index.MaxSegment || d.SegmentBytes%block.Size != 0 || d.Segments < MinSegments || d.Segments > 1<<20 || d.Devices == 0 || d.Device >= d.Devices || d.Copies >= d.Devices {
		return d, errors.New("its sizes make no sense")
	}
	return d, nil
}

// A segmentState is what is known about a segment without looking into it.
type segmentState uint32

const (
	Empty  segmentState = iota // it was never written
	Open                       // being written: its blocks say what is in it
	Closed                     // full: its index says what is in it
)

// A Segment is what the state file says of a segment.
type Segment struct {
	State        segmentState
	SeqLo, SeqHi uint64 // of its blocks
	First, Last  int64  // times of its packets
	Pinned       int64  // not overwritten before this time
	Floor        uint64 // block.Header.Total of its blocks was at most this before it was opened: above are new ones
	TotalHi      uint64 // the highest block.Header.Total
}

// Put writes the entry of a segment into a page.
func (s *Segment) Put(b []byte) {
	le.PutUint32(b, uint32(s.State))
	le.PutUint64(b[8:], s.SeqLo)
	le.PutUint64(b[16:], s.SeqHi)
	le.PutUint64(b[24:], uint64(s.First))
	le.PutUint64(b[32:], uint64(s.Last))
	le.PutUint64(b[40:], uint64(s.Pinned))
	le.PutUint64(b[48:], s.Floor)
	le.PutUint64(b[56:], s.TotalHi)
}

// Parse reads the entry of a segment out of a page.
func (s *Segment) Parse(b []byte) {
	s.State = segmentState(le.Uint32(b))
	if s.State > Closed {
		s.State = Open
	}
	s.SeqLo, s.SeqHi = le.Uint64(b[8:]), le.Uint64(b[16:])
	s.First, s.Last = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	s.Pinned, s.Floor, s.TotalHi = int64(le.Uint64(b[40:])), le.Uint64(b[48:]), le.Uint64(b[56:])
}

// A Content is what Read finds: the state of a device.
type Content struct {
	Descriptor
	Segments []Entry
	Turns    []uint64 // as a File has them
	Doubt    bool     // the description may be an older one
}

// An Entry is what the state says of a segment. Nothing is known of it if neither place of its page is valid: its blocks have to be asked.
type Entry struct {
	Segment
	Known bool
	Doubt bool // it may be an older one
}

// The errors of a state that does not say what the ring is, and of one that the device does not give.
var (
	ErrDamaged = errors.New("it is damaged")
	ErrUnread  = errors.New("it cannot be read")
)

// Read reads the state of a device. Of one that is damaged it returns what is there of the segments, as many as the file has room for.
func Read(f files.File) (c Content, err error) {
	size, err := f.Size()
	if err != nil {
		return c, err
	}
	if size < stateDescriptor || size > Size(1<<20) || size%(2*files.PageSize) != 0 {
		return c, fmt.Errorf("%w: %d bytes make no sense", ErrDamaged, size)
	}
	b, err := files.Pages(int(size))
	if err != nil {
		return c, err
	}
	defer files.Free(b)
	if _, err := f.ReadAt(b, 0); err != nil {
		return c, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	page, turn, doubt := newest(b)
	c.Turns, c.Doubt = append(c.Turns, turn), doubt
	for at := int64(stateDescriptor); at < size; at += 2 * files.PageSize {
		c.readEntries(b[at:])
	}
	if page == nil {
		return c, fmt.Errorf("%w: both copies of what the ring is", ErrDamaged)
	}
	if c.Descriptor, err = parseDescriptor(page); err != nil {
		return c, err
	}
	n := int(c.Descriptor.Segments)
	if Size(n) != size {
		return c, fmt.Errorf("%w: it is not as long as it says", ErrDamaged)
	}
	c.Segments = c.Segments[:n]
	return c, nil
}

// readEntries reads what the two places of a page say of segments.
func (c *Content) readEntries(b []byte) {
	page, turn, doubt := newest(b)
	c.Turns = append(c.Turns, turn)
	for i := range EntriesPerPage {
		e := Entry{Known: page != nil, Doubt: doubt}
		if e.Unknown(); e.Known {
			e.Parse(page[64+i*segmentEntry:])
		}
		c.Segments = append(c.Segments, e)
	}
}

// Of makes a Content of segments of which nothing is known out of what there is of a state: it has n segments then.
func (c *Content) Of(n int) {
	if places := int(Size(n) / (2 * files.PageSize)); len(c.Turns) != places {
		*c = Content{Turns: make([]uint64, places)}
	}
	c.Segments = c.Segments[:min(n, len(c.Segments))]
	for len(c.Segments) < n {
		var e Entry
		e.Unknown()
		c.Segments = append(c.Segments, e)
	}
}

// Unknown is a segment of which the state file says nothing.
func (s *Segment) Unknown() {
	s.State, s.First, s.Last, s.SeqLo, s.SeqHi, s.Floor = Open, math.MaxInt64, math.MinInt64, 0, 0, 0
}
