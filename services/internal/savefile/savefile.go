// Package savefile makes a pipeline.Source of savefiles: pcap and pcapng, plain or compressed with gzip or zstd, from disk or from
// standard input.
//
// Several savefiles are merged by their timestamps; frames of equal time come in the order in which the files are given. The frames of
// one file keep their order, also where their timestamps do not rise.
//
// Interfaces are numbered through the files in the order given. The descriptions before a file's first packet are read when
// it is opened and numbered then, for all files; a description that comes later takes the next number when its first frame
// is delivered. So for one file the index is that of the interface description, and it never depends on timing.
//
// A damaged savefile does not end the others: everything before the damage is delivered, and the errors come where io.EOF would.
//
// Plain files are read, not mapped: reading chunk by chunk into the second-level cache is twice as fast as walking a mapping, and a file
// that is cut while it is read is an error and no signal.
//
// Frames borrow the chunk of their file's reader until the next Next. A Source has one reader: only Interfaces and Progress may be
// called from elsewhere.
package savefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync/atomic"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// A Source reads one or several savefiles.
type Source struct {
	files   []*file
	next    func(dst []packet.Packet) (int, error)
	options [][]byte // of the packets that next returned, if annotated; else of earlier ones
	errs    []error  // of files that have ended, in the order in which they did
	table   atomic.Pointer[[]pipeline.Interface]
	packets atomic.Uint64

	annotated bool // one of the packets that next returned has options

	queue []*file // files with frames in hand, a heap whose first one has the earliest frame
	empty []*file // files whose frames in hand were all delivered
}

// Progress is how far a Source has come.
type Progress struct {
	Bytes   int64 // read of the files as they lie on disk
	Total   int64 // what the files hold; 0 if one of them has no size, as standard input
	Packets uint64

	pcapng.Remarks
}

// Note says in plain words what of the files is not told as they have it; empty is nothing.
func (p Progress) Note() string {
	var notes []string
	for _, n := range []struct {
		packets uint64
		text    string
	}{
		{p.Misdated, "the times of %d packets are before 1970 or after 2261, which no savefile that is written can say: there they are 1970 or 2262"},
		{p.Undated, "%d packets have no time in the savefiles: here it is the beginning of 1970"},
		{p.Missing, "%d packets are missing in the savefiles, as these say themselves: they were lost or dropped in the capture, and are in no count here"},
	} {
		if n.packets != 0 {
			notes = append(notes, fmt.Sprintf(n.text, n.packets))
		}
	}
	return strings.Join(notes, "; ")
}

// Open opens savefiles; the name "-" is stdin, which may be given once. What it is, is found by content, not by name. It
// fails if one of them is missing, empty or no savefile, and names every one that is.
func Open(names []string, stdin io.Reader) (*Source, error) { return OpenWith(os.Open, names, stdin) }

// OpenWith is Open for files that are opened in another way than by os.Open.
func OpenWith(opener func(name string) (*os.File, error), names []string, stdin io.Reader) (*Source, error) {
	if len(names) == 0 {
		return nil, errors.New("name a savefile, or - for standard input")
	}
	s := &Source{}
	s.table.Store(new([]pipeline.Interface))
	var errs []error
	for _, name := range names {
		f, err := open(opener, name, stdin)
		if err != nil {
			errs = append(errs, fmt.Errorf("open savefile %s: %w", name, err))
			continue
		}
		if name == "-" {
			stdin = nil
		}
		f.order = len(s.files)
		s.files = append(s.files, f)
	}
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, s.Close())...)
	}
	for _, f := range s.files {
		s.number(f)
	}
	s.next = s.merge
	s.empty = append(s.empty, s.files...)
	if len(s.files) == 1 {
		s.next = s.single
	}
	return s, nil
}

// Is reports whether a file begins as savefiles do, compressed or not. Its content, not its name, says so.
func Is(f *os.File) bool {
	opened, err := open(func(string) (*os.File, error) { return f, nil }, f.Name(), nil)
	if err != nil {
		return false // and it is closed
	}
	return opened.close() == nil
}

// Next implements pipeline.Source. Now is the time of the last frame.
func (s *Source) Next(ctx context.Context, b *pipeline.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if cap(b.Packets) < pipeline.BatchSize {
		b.Packets = make([]packet.Packet, pipeline.BatchSize)
	}
	b.Packets = b.Packets[:pipeline.BatchSize]
	n, err := s.next(b.Packets)
	b.Packets, b.Options = b.Packets[:n], nil
	if s.annotated {
		b.Options = s.options[:n]
	}
	if n > 0 {
		b.Now = b.Packets[n-1].Time
		s.packets.Add(uint64(n))
	}
	return err
}

// Interfaces implements pipeline.Source. It may be called at any time.
func (s *Source) Interfaces() []pipeline.Interface { return *s.table.Load() }

// Section returns what the section headers before the first packets say: the comments of all files, a line each, and of a single file its hardware and
// operating system.
func (s *Source) Section() pcapng.Section {
	var all pcapng.Section
	var comments []string
	for _, f := range s.files {
		told := f.reader.Section()
		if len(s.files) == 1 {
			all.Hardware, all.OS = told.Hardware, told.OS
		}
		if told.Comment != "" {
			comments = append(comments, told.Comment)
		}
	}
	all.Comment = strings.Join(comments, "\n")
	return all
}

// Progress says how far the Source has come. It may be called at any time.
func (s *Source) Progress() Progress {
	p := Progress{Packets: s.packets.Load()}
	known := true
	for _, f := range s.files {
		p.Bytes += f.raw.bytes.Load()
		p.Misdated += f.misdated.Load()
		p.Undated += f.undated.Load()
		p.Missing += f.missing.Load()
		p.Total += f.size
		known = known && f.size > 0
	}
	if !known {
		p.Total = 0
	}
	return p
}

// Close closes the files, but not standard input.
func (s *Source) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// single is the whole work for one file: its interface table is the Source's.
func (s *Source) single(dst []packet.Packet) (int, error) {
	f := s.files[0]
	n, err := f.read(dst)
	s.begin()
	if f.reader.HasOptions() {
		for i := range n {
			s.note(i, f.reader.Options(i))
		}
	}
	if len(f.reader.Interfaces()) > len(f.index) {
		s.number(f)
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("savefile %s: %w", f.name, err)
	}
	return n, err
}

// begin forgets the options of the packets before.
func (s *Source) begin() {
	if s.annotated {
		clear(s.options)
		s.annotated = false
	}
}

// note keeps the options of packet i until begin.
func (s *Source) note(i int, options []byte) {
	if options == nil {
		return
	}
	if s.options == nil {
		s.options = make([][]byte, pipeline.BatchSize)
	}
	s.options[i], s.annotated = options, true
}

// number gives every description that f has so far its index in the table. It reports whether there was room.
func (s *Source) number(f *file) bool {
	table := *s.table.Load()
	for _, in := range f.reader.Interfaces()[len(f.index):] {
		if len(table) > math.MaxUint16 {
			return false
		}
		f.index = append(f.index, uint16(len(table)))
		table = append(table, pipelineInterface(in, len(table)+1))
	}
	s.table.Store(&table)
	return true
}

func pipelineInterface(in pcapng.Interface, port int) pipeline.Interface {
	return pipeline.Interface{
		Port: port, Name: in.Name, Description: in.Description, Link: in.Link, SnapLen: in.SnapLen,
		SpeedBits: in.SpeedBits, MAC: in.MAC, FCSLen: in.FCSLen,
	}
}
