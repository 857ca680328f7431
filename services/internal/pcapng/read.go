package pcapng

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"galvo/services/internal/packet"
)

// ChunkBytes is how much a Reader asks of its io.Reader at once: little enough to stay in the second-level cache between the kernel's
// copy and the parser, which is a fifth faster than 1 MiB. The chunk grows only for a single record that is larger.
const ChunkBytes = 256 << 10

// MaxBlockBytes is the largest block or record that a Reader accepts.
const MaxBlockBytes = 256 << 20

// A Reader finds the frames of one pcap or pcapng savefile. It has one chunk of memory and allocates nothing per frame.
type Reader struct {
	src    io.Reader
	srcErr error  // what src said when it ended
	buf    []byte // the chunk
	pos    int    // first byte in buf that was not parsed
	end    int    // end of what was read
	base   int64  // offset of buf[0] in the savefile

	// parse takes whole records from buf[pos:end]. Where it stops for want of bytes it sets need and noun.
	parse func(dst []packet.Packet) (int, error)
	need  int    // bytes from pos on that the next record needs
	noun  string // what needs them
	err   error  // the end of the savefile, or its damage

	big        bool    // byte order of the savefile, or of the current section
	told       Section // by the sections so far
	interfaces []Interface
	pcap       pcapFile
	local      []localInterface // of the current section
	skipped    skippedBlock     // at hand
	remarks    Remarks

	at      int          // index of the packet at hand in the current Read
	spans   []optionSpan // of the packets of the last Read that have options, in their order
	options []byte
}

// NewReader looks at the first bytes of a savefile. An error says that this is no savefile; one whose damage begins in its
// header, or that cannot be read at all, gets a Reader, whose Read says so. Of a pcapng savefile the interface descriptions before the first packet are read.
func NewReader(src io.Reader) (*Reader, error) { return newReader(src, ChunkBytes) }

// InterfacesOf returns the interfaces that a savefile in memory describes before its first packet.
func InterfacesOf(savefile []byte) ([]Interface, error) {
	r, err := newReader(bytes.NewReader(savefile), max(len(savefile), leastChunk))
	if err != nil {
		return nil, err
	}
	return r.Interfaces(), nil
}

// leastChunk has room for whatever a savefile begins with.
const leastChunk = 64

// newReader asks src for so many bytes at once.
func newReader(src io.Reader, chunk int) (*Reader, error) {
	r := &Reader{src: src, buf: make([]byte, chunk)}
	if err := r.fill(4, "a magic number"); err != nil {
		if r.srcErr != io.EOF {
			r.err = err
			return r, nil
		}
		if err == io.EOF {
			return nil, errors.New("the file is empty")
		}
		return nil, err
	}
	magic := binary.LittleEndian.Uint32(r.buf)
	switch {
	case magic == blockSection:
		r.parse = r.blocks
		r.Read(nil)
		return r, nil
	case r.pcapMagic(magic), r.pcapMagic(bits.ReverseBytes32(magic)):
		r.big = !r.pcapMagic(magic)
		r.parse = r.records
		r.err = r.pcapHeader()
		return r, nil
	}
	return nil, fmt.Errorf("neither pcap nor pcapng: the file begins with % x", r.buf[:4])
}

// Read fills in the Frame of up to len(dst) packets and returns how many. Where it returns frames the error is nil; io.EOF is the
// end of the savefile, an *Error its damage. The bytes of the frames are valid until the next Read. Read returns fewer frames than
// there is room for at the end of a chunk, so that a pipe's frames are not kept waiting.
//
// Timestamps outside the years 1678 to 2261 become the nearest one (see Remarks), a length on the wire below the captured one, which some
// writers leave 0, becomes that, and a frame check sequence is left out of Data and Len and verified if the link is Ethernet and all of it is captured.
// A simple packet block has no timestamp: its Time is 0.
func (r *Reader) Read(dst []packet.Packet) (int, error) {
	r.spans, r.options = r.spans[:0], r.options[:0]
	for r.err == nil {
		r.need = 0
		n, err := r.parse(dst)
		r.err = err
		if n > 0 || r.need == 0 && err == nil {
			return n, nil
		}
		if r.err == nil {
			r.err = r.fill(r.need, r.noun)
		}
	}
	return 0, r.err
}

// Interfaces returns the table that Frame.Iface indexes: every interface description so far, counted through the sections. It
// grows while the savefile is read and never changes.
func (r *Reader) Interfaces() []Interface { return r.interfaces }

// Section returns what the section headers so far say: the first hardware, operating system and program, and all comments, a line each. Of a pcap savefile it is
// empty.
func (r *Reader) Section() Section { return r.told }

// Remarks are what of a savefile its frames do not tell, in packets.
type Remarks struct {
	Misdated uint64 // had times outside the years 1970 to 2261, which the formats that are written cannot say
	Undated  uint64 // had no time, as simple packet blocks
	Missing  uint64 // were lost or dropped when the savefile was made: the last interface statistics of every interface say so (isb_ifdrop, isb_osdrop)
}

// Remarks returns what is remarkable so far.
func (r *Reader) Remarks() Remarks { return r.remarks }

// fill makes need bytes available at pos. It moves what is left to the front of the chunk, so frames handed out end here.
func (r *Reader) fill(need int, noun string) error {
	if need > MaxBlockBytes {
		return r.damaged("%s of %d bytes, at most %d are possible", noun, need, MaxBlockBytes)
	}
	copy(r.buf, r.buf[r.pos:r.end])
	r.base += int64(r.pos)
	r.end -= r.pos
	r.pos = 0
	for idle := 0; r.end < need; {
		if r.srcErr != nil || idle == 100 {
			return r.ended(need, noun)
		}
		if r.end == len(r.buf) {
			// By doubling, so that a length field that lies does not cost more memory than twice the file.
			r.buf = append(r.buf, make([]byte, min(len(r.buf), pad4(need)-len(r.buf)))...)
		}
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.srcErr = err
		idle++
		if n > 0 {
			idle = 0
		}
	}
	return nil
}

// ended says why fewer than need bytes are left.
func (r *Reader) ended(need int, noun string) error {
	offset, left := r.base, int64(r.end)
	if s := r.skipped; s.size != 0 {
		offset, left, need = s.offset, r.base+left-s.offset, int(s.size)
	}
	if r.srcErr == io.EOF && left == 0 {
		return io.EOF
	}
	e := &Error{What: "truncated", Offset: offset, Reason: fmt.Sprintf("%s needs %d bytes, %d are left", noun, need, left)}
	switch {
	case r.srcErr == io.EOF:
		return e
	case errors.Is(r.srcErr, io.ErrUnexpectedEOF):
		e.Err = r.srcErr
		e.Reason += ": " + r.srcErr.Error()
		return e
	}
	e.What, e.Err = "unreadable", cmp.Or(r.srcErr, io.ErrNoProgress)
	e.Reason = e.Err.Error()
	return e
}

// damaged returns an Error at the record or block that begins at pos.
func (r *Reader) damaged(format string, args ...any) error {
	return &Error{What: "damaged", Offset: r.base + int64(r.pos), Reason: fmt.Sprintf(format, args...)}
}

func (r *Reader) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if r.big {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (r *Reader) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if r.big {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func (r *Reader) u64(b []byte) uint64 {
	v := binary.LittleEndian.Uint64(b)
	if r.big {
		v = bits.ReverseBytes64(v)
	}
	return v
}
