package ring

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The names of a ring's files in the directory of a device.
const (
	stateName = "state"
	tailsName = "tails"
)

func segmentName(n int) string { return fmt.Sprintf("%06d.pcapng", n) }

// The state file holds what the ring is, and what is in each of its segments, in pages that are written in two places by turns: a power cut leaves one.
const (
	stateMagic      = "GALVORST"
	segmentEntry    = 64
	entriesPerPage  = (pageSize - 64) / segmentEntry
	maxName         = 128
	stateDescriptor = 2 * pageSize // bytes of the two places of the descriptor
)

// A descriptor is what the state file says about the ring on this device.
type descriptor struct {
	name       string
	ring       uint64
	device     uint16
	devices    uint16
	copies     uint16
	generation uint32
	segment    int64 // bytes
	segments   uint32
	created    int64
	dropped    [causes]uint64
	discarded  uint64
	clean      bool // it was closed, so nothing has to be looked for
}

func stateSize(segments int) int64 {
	pages := (segments + entriesPerPage - 1) / entriesPerPage
	return stateDescriptor + int64(pages)*2*pageSize
}

// A page of the state file begins with its checksum and its turn.
const pageHead = 16

// A stateFile writes the pages of a state file by turns. Ring.mu guards what is in them; writing is the caller's.
type stateFile struct {
	file  File
	turns []uint64 // of the descriptor, then of the pages of segments
}

func (s *stateFile) write(place int, page []byte) error {
	s.turns[place]++
	le.PutUint64(page[8:], s.turns[place])
	le.PutUint32(page, 0)
	le.PutUint32(page, crc32.Checksum(page[4:pageSize], castagnoli))
	_, err := s.file.WriteAt(page[:pageSize], int64(place)*2*pageSize+int64(s.turns[place]&1)*pageSize)
	return err
}

// newest returns the valid page of the two that are in b, and its turn.
func newest(b []byte) (page []byte, turn uint64) {
	for _, p := range [][]byte{b[:pageSize], b[pageSize : 2*pageSize]} {
		if le.Uint32(p) == crc32.Checksum(p[4:], castagnoli) && le.Uint64(p[8:]) > turn {
			page, turn = p, le.Uint64(p[8:])
		}
	}
	return page, turn
}

func (d *descriptor) put(b []byte) {
	clear(b[:pageSize])
	b = b[pageHead:]
	copy(b, stateMagic)
	le.PutUint16(b[8:], formatVersion)
	le.PutUint16(b[10:], d.device)
	le.PutUint16(b[12:], d.devices)
	le.PutUint16(b[14:], d.copies)
	le.PutUint64(b[16:], d.ring)
	le.PutUint32(b[24:], d.generation)
	le.PutUint32(b[28:], d.segments)
	le.PutUint64(b[32:], uint64(d.segment))
	le.PutUint64(b[40:], uint64(d.created))
	for i, n := range d.dropped {
		le.PutUint64(b[48+8*i:], n)
	}
	le.PutUint64(b[80:], d.discarded)
	if d.clean {
		b[88] = 1
	}
	b[89] = byte(len(d.name))
	copy(b[90:], d.name)
}

func parseDescriptor(b []byte) (d descriptor, err error) {
	b = b[pageHead:]
	if string(b[:8]) != stateMagic {
		return d, errors.New("it is not the state of a ring")
	}
	if v := le.Uint16(b[8:]); v != formatVersion {
		return d, fmt.Errorf("it has version %d, and this program reads %d", v, formatVersion)
	}
	d = descriptor{
		device: le.Uint16(b[10:]), devices: le.Uint16(b[12:]), copies: le.Uint16(b[14:]), ring: le.Uint64(b[16:]), generation: le.Uint32(b[24:]),
		segments: le.Uint32(b[28:]), segment: int64(le.Uint64(b[32:])), created: int64(le.Uint64(b[40:])), discarded: le.Uint64(b[80:]), clean: b[88] == 1,
	}
	for i := range d.dropped {
		d.dropped[i] = le.Uint64(b[48+8*i:])
	}
	d.name = string(b[90:][:min(b[89], maxName)])
	if d.segment < minSegment || d.segment > maxSegment || d.segment%blockSize != 0 || d.segments < minSegments || d.segments > 1<<20 || d.devices == 0 || d.device >= d.devices {
		return d, errors.New("its sizes make no sense")
	}
	return d, nil
}

// A segmentState is what is known about a segment without looking into it.
type segmentState uint32

const (
	segmentEmpty  segmentState = iota // it was never written
	segmentOpen                       // being written: its blocks say what is in it
	segmentClosed                     // full: its index says what is in it
)

// putEntry writes what the state file says of a segment.
func (s *segment) putEntry(b []byte) {
	le.PutUint32(b, uint32(s.state))
	le.PutUint64(b[8:], s.seqLo)
	le.PutUint64(b[16:], s.seqHi)
	le.PutUint64(b[24:], uint64(s.first))
	le.PutUint64(b[32:], uint64(s.last))
	le.PutUint64(b[40:], uint64(s.pinned))
	le.PutUint64(b[48:], s.floor)
	le.PutUint64(b[56:], s.totalHi)
}

func (s *segment) parseEntry(b []byte) {
	s.state = segmentState(le.Uint32(b))
	if s.state > segmentClosed {
		s.state = segmentOpen
	}
	s.seqLo, s.seqHi = le.Uint64(b[8:]), le.Uint64(b[16:])
	s.first, s.last = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	s.pinned, s.floor, s.totalHi = int64(le.Uint64(b[40:])), le.Uint64(b[48:]), le.Uint64(b[56:])
}

// readState reads the state of a device: the descriptor and the entries of all segments. A page of entries that is in neither of its places means
// that the blocks of its segments have to be asked.
func readState(f File) (d descriptor, entries [][]byte, turns []uint64, err error) {
	size, err := f.Size()
	if err != nil {
		return d, nil, nil, err
	}
	if size < stateDescriptor || size > stateSize(1<<20) || size%(2*pageSize) != 0 {
		return d, nil, nil, fmt.Errorf("a state file of %d bytes makes no sense", size)
	}
	b, err := newPages(int(size))
	if err != nil {
		return d, nil, nil, err
	}
	defer freePages(b)
	if _, err := f.ReadAt(b, 0); err != nil {
		return d, nil, nil, err
	}
	page, turn := newest(b)
	if page == nil {
		return d, nil, nil, errors.New("both copies of its description are damaged")
	}
	if d, err = parseDescriptor(page); err != nil {
		return d, nil, nil, err
	}
	if stateSize(int(d.segments)) != size {
		return d, nil, nil, errors.New("it is not as long as its description says")
	}
	turns = append(turns, turn)
	for at := int64(stateDescriptor); at < size; at += 2 * pageSize {
		page, turn := newest(b[at:])
		turns = append(turns, turn)
		for i := range entriesPerPage {
			if len(entries) == int(d.segments) {
				break
			}
			var e []byte
			if page != nil {
				e = append(e, page[64+i*segmentEntry:][:segmentEntry]...)
			}
			entries = append(entries, e)
		}
	}
	return d, entries, turns, nil
}

// unknownEntry is a segment of which the state file says nothing.
func (s *segment) unknownEntry() {
	s.state, s.first, s.last, s.seqLo, s.seqHi, s.floor = segmentOpen, math.MaxInt64, math.MinInt64, 0, 0, 0
}
