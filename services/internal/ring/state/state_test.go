package state

import (
	"bytes"
	"io"
	"testing"

	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/sum"
)

// memory is a file.
type memory struct{ b []byte }

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if n := copy(b, m.b[min(at, int64(len(m.b))):]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) { return copy(m.b[at:], b), nil }
func (m *memory) Sync() error                             { return nil }
func (m *memory) Size() (int64, error)                    { return int64(len(m.b)), nil }
func (m *memory) Close() error                            { return nil }

// FuzzState reads state files with any content behind checksums that are right. One that makes sense says the same when it is written again.
func FuzzState(f *testing.F) {
	page := make([]byte, files.PageSize)
	d := Descriptor{Ring: 5, Devices: 2, Device: 1, Copies: 1, Segments: 70, SegmentBytes: 4 << 20, Name: "all", Pauses: []Pause{{1, 2}}, Generation: 3}
	d.Put(page)
	entries := make([]byte, files.PageSize)
	(&Segment{State: Closed, SeqLo: 3, SeqHi: 9, First: 1, Last: 2}).Put(entries[64:])
	f.Add(page[pageHead:600], entries[64:200], uint64(1), uint16(70))
	f.Fuzz(func(t *testing.T, desc, entries []byte, turn uint64, segments uint16) {
		file := &memory{make([]byte, Size(int(segments)))}
		put := func(place int64, content []byte, from int) {
			b := file.b[place*files.PageSize:][:files.PageSize]
			copy(b[from:], content)
			le.PutUint64(b[8:], turn)
			le.PutUint32(b, sum.Of(b[4:]))
		}
		put(0, desc, pageHead)
		if len(file.b) > 2*files.PageSize {
			put(3, entries, 64)
		}
		c, err := Read(file)
		if err != nil {
			return
		}
		d, list, turns := c.Descriptor, c.Segments, c.Turns
		if len(list) != int(d.Segments) || len(turns) != len(file.b)/(2*files.PageSize) || int(d.Copies) >= int(d.Devices) {
			t.Fatalf("%d entries, %d turns, %+v", len(list), len(turns), d)
		}
		for _, e := range list {
			s, back := e.Segment, Segment{}
			out := make([]byte, segmentEntry)
			s.Put(out)
			if back.Parse(out); back != s {
				t.Fatalf("%+v becomes %+v", s, back)
			}
		}
		once, twice := make([]byte, files.PageSize), make([]byte, files.PageSize)
		d.Put(once)
		again, err := parseDescriptor(once)
		if again.Put(twice); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%+v becomes %+v, %v", d, again, err)
		}
	})
}
