package call

import (
	"bytes"
	"unsafe"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/expect"
	"galvo/services/internal/l7/text"
)

// A stream reads the SIP messages (RFC 3261) of one direction of a flow, piece by piece: it tells where they begin and end, the identifiers of their
// calls, and what their SDP announces. It remembers the last messages, so that a segment that is sent again finds its own.
type stream struct {
	key    uint64 // flow and direction
	seen   int64  // ns since the epoch, of the last packet
	next   uint32 // sequence number of the byte to come
	number uint32 // of messages so far
	phase  phase
	open   bool // something was read
	bye    bool
	typed  bool // the body is SDP, or has parts
	fold   bool // the value of an identifier may be on the line to come
	skip   bool // the line is longer than there is room for: what follows up to its end is left out
	length int  // of the body as the header says it, -1 = does not
	left   int  // bytes of the body to come
	lines  int  // read of this message
	now    span
	last   [history]span // messages before, in a ring
	sdp    sdpReader
	n      uint16 // of line
	line   [384]byte
}

// history is how many messages a stream remembers: more than a segment can end.
const history = 8

const streamBytes = int(unsafe.Sizeof(stream{}))

// A span is a message: where in the stream it lies, and the identifiers of its call, Call-ID first.
type span struct {
	from, to uint32 // sequence numbers
	number   uint32
	ids      [4]uint64
	known    bool // all of the header was read, or an identifier
}

// A phase is what a stream is in the middle of.
type phase uint8

const (
	betweenMessages phase = iota
	inStartLine
	inHeader
	inBody
	outOfStep // a part is missing, and where the next message begins is not known
)

// What bounds the work on a message: what has more lines is read no further, and more endpoints are not announced.
const (
	maxLines     = 128
	maxEndpoints = 20
)

// A sink is where a stream writes what it finds in a packet: what is known about the packet, and media.
type sink struct {
	call     *flow.Call
	calls    *Table
	expected *expect.Table
	now      int64 // ns since the epoch, of the packet
	datagram bool
}

// read takes the bytes of a packet that go on where the stream is.
func (s *stream) read(b []byte, to *sink) {
	s.open = true
	for len(b) > 0 {
		switch s.phase {
		case betweenMessages:
			n := 0
			for n < len(b) && (b[n] == '\r' || b[n] == '\n') { // keep-alives (RFC 5626 section 3.5.1)
				n++
			}
			s.next += uint32(n)
			if b = b[n:]; len(b) == 0 {
				return
			}
			s.begin(s.next)
		case inBody:
			n := min(len(b), s.left)
			if s.typed {
				s.text(b[:n], to)
			}
			s.touch(to)
			s.next += uint32(n)
			if s.left -= n; s.left == 0 {
				s.end(to)
			}
			b = b[n:]
		case outOfStep:
			if !begins(b) {
				s.touch(to)
				s.next += uint32(len(b))
				return
			}
			s.begin(s.next)
		default:
			n := bytes.IndexByte(b, '\n') + 1
			if n == 0 {
				s.keepLine(b)
				s.touch(to)
				s.next += uint32(len(b))
				return
			}
			line := b[:n]
			if s.n > 0 || s.skip {
				s.keepLine(line)
				line = s.line[:s.n]
			}
			s.next += uint32(n)
			s.header(chomp(line), to)
			s.n, s.skip = 0, false
			b = b[n:]
		}
	}
}

// begin starts a message at a place of the stream.
func (s *stream) begin(at uint32) {
	s.number++
	s.phase, s.now = inStartLine, span{from: at, number: s.number}
	s.bye, s.typed, s.fold, s.skip, s.length, s.lines, s.n = false, false, false, false, -1, 0, 0
	s.sdp = sdpReader{}
}

// touch notes that the packet carries a part of the message that is being read.
func (s *stream) touch(to *sink) { to.add(&s.now) }

// await notes that the packet carries a part of the message that is being read, and may belong to calls that the rest of its header tells.
func (s *stream) await(to *sink) {
	if s.touch(to); s.now.number != 0 && !s.now.known && s.phase != outOfStep {
		to.call.Pending, to.call.Message = true, s.message(s.now.number)
	}
}

// message returns the number of a message within the flow, which has two streams.
func (s *stream) message(number uint32) uint32 { return number<<1 | uint32(s.key&1) }

func (to *sink) add(m *span) {
	for _, id := range m.ids {
		if id == 0 {
			return
		}
		to.call.Add(id)
	}
}

// chomp returns a line without its end.
func chomp(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}

// keepLine stores a part of a line that goes on in the next packet.
func (s *stream) keepLine(b []byte) {
	n := copy(s.line[s.n:], b)
	s.n += uint16(n)
	s.skip = s.skip || n < len(b)
}

// header takes a line of the start and header of a message, without its end.
func (s *stream) header(line []byte, to *sink) {
	if s.lines++; s.lines > maxLines {
		s.phase = outOfStep
		s.touch(to)
		return
	}
	switch {
	case s.phase == inStartLine:
		if !isStartLine(line) {
			s.phase, s.now.known = outOfStep, true
			return
		}
		s.phase, s.bye = inHeader, text.HasPrefix(line, "BYE ")
	case len(line) == 0:
		s.now.known = true
		s.body(to)
		return
	case line[0] == ' ' || line[0] == '\t':
		if s.fold {
			s.identify(line, to)
		}
	default:
		s.field(line, to)
	}
	s.touch(to)
}

// field takes a header field: a name, which knows no case, blanks, a colon, the value.
func (s *stream) field(line []byte, to *sink) {
	s.fold = false
	name, value, ok := bytes.Cut(line, colon)
	if !ok {
		return
	}
	if len(name) == 0 || !text.Has("cilpa", text.Lower(name[0])) {
		return
	}
	name, value = bytes.TrimRight(name, " \t"), bytes.TrimSpace(value)
	switch {
	case isField(name, "call-id", "i"), isField(name, "p-palladion-id", ""), isField(name, "av-global-session-id", ""):
		if s.fold = len(value) == 0; !s.fold {
			s.identify(value, to)
		}
	case isField(name, "content-length", "l"):
		s.length = 0
		for _, c := range value {
			if c < '0' || c > '9' || s.length > 1<<20 {
				break
			}
			s.length = s.length*10 + int(c-'0')
		}
	case isField(name, "content-type", "c"):
		s.typed = text.HasFold(value, "application/sdp") || text.HasFold(value, "multipart/")
	}
}

var colon = []byte(":")

func isField(name []byte, long, short string) bool {
	return text.EqualFold(name, long) || short != "" && text.EqualFold(name, short)
}

// identify notes an identifier of the message's call.
func (s *stream) identify(value []byte, to *sink) {
	s.fold = false
	id := ID(bytes.TrimSpace(value))
	for i := range s.now.ids {
		if s.now.ids[i] == 0 {
			s.now.ids[i] = id
			break
		}
	}
	to.add(&s.now)
}

// body goes on behind the header.
func (s *stream) body(to *sink) {
	if s.touch(to); s.bye && s.now.ids[0] != 0 {
		to.calls.end(s.now.ids[0], to.now)
	}
	s.phase, s.left = inBody, s.length
	if s.length < 0 {
		s.left = 0
		if to.datagram {
			s.left = 1 << 16 // to the end of the datagram
		}
	}
	if s.left == 0 {
		s.end(to)
	}
}

// text takes a part of the body, line by line.
func (s *stream) text(b []byte, to *sink) {
	for len(b) > 0 && s.lines <= maxLines {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			s.keepLine(b)
			return
		}
		line := b[:n]
		if s.n > 0 || s.skip {
			s.keepLine(line)
			line = s.line[:s.n]
		}
		s.sdp.take(chomp(line), &s.now, to)
		s.n, s.skip = 0, false
		s.lines++
		b = b[n:]
	}
}

// end closes the message.
func (s *stream) end(to *sink) {
	if s.typed {
		if s.n > 0 {
			s.sdp.take(s.line[:s.n], &s.now, to)
		}
		s.sdp.finish(&s.now, to)
	}
	s.now.to = s.next
	s.last[s.number%history] = s.now
	s.phase, s.now, s.n, s.skip = betweenMessages, span{}, 0, false
}

// segment takes a segment of TCP at its place in the stream.
func (s *stream) segment(seq uint32, b []byte, to *sink) {
	if !s.open {
		s.next = seq
	}
	going := s.now
	d := int(int32(seq - s.next))
	if len(b) > -d && !s.leaves(d, b) {
		s.touch(to) // what it goes on with comes first
	}
	switch {
	case d > 0: // something is missing
		if s.phase == inBody && d <= s.left {
			s.left -= d
			s.n, s.skip = 0, true
			if s.left == 0 {
				s.end(to)
			}
		} else if s.phase != betweenMessages || !begins(b) {
			s.phase = outOfStep
		}
		s.next = seq
	case d < 0: // sent again, as far as it is not new
		s.again(seq, min(len(b), -d), to)
		if len(b) <= -d {
			return
		}
		b = b[-d:]
	}
	s.read(b, to)
	s.await(to)
	s.resolve(&going, to)
}

// leaves reports whether a segment that comes d bytes ahead of what is known carries nothing more of the message that was being read.
func (s *stream) leaves(d int, b []byte) bool {
	switch {
	case s.phase == inBody && d <= s.left:
		return d > 0 && d == s.left
	case s.phase == outOfStep, d > 0:
		return begins(b)
	}
	return false
}

// resolve says what became of the message that was being read before a packet, whose identifiers were not known, so that packets which waited for it
// learn them.
func (s *stream) resolve(going *span, to *sink) {
	if going.number == 0 || going.known {
		return
	}
	m := &s.now
	if m.number != going.number {
		m = &s.last[going.number%history]
	}
	switch {
	case m.number == going.number && !m.known && s.phase != outOfStep:
		return
	case m.number == going.number:
		for _, id := range m.ids {
			if id != 0 {
				to.call.Own++
			}
		}
	}
	to.call.Continues = s.message(going.number)
}

// again finds the messages that a segment carries parts of which was read before.
func (s *stream) again(seq uint32, n int, to *sink) {
	for i := range s.last {
		if m := &s.last[i]; m.number != 0 && int32(m.from-seq-uint32(n)) < 0 && int32(seq-m.to) < 0 {
			to.add(m)
		}
	}
	if int32(s.now.from-seq-uint32(n)) < 0 {
		s.await(to)
	}
}

// isStartLine reports whether a line begins a message: a request or a status.
func isStartLine(line []byte) bool {
	return text.HasPrefix(line, "SIP/2.0 ") || len(line) > 12 && line[0] >= 'A' && line[0] <= 'Z' && string(line[len(line)-8:]) == " SIP/2.0"
}

// begins reports whether a message may begin with b.
func begins(b []byte) bool {
	line, _, whole := text.CutLine(b)
	return whole && isStartLine(line)
}

// may reports whether b, in which no line ends but empty ones at its beginning, may be the beginning of a message.
func may(b []byte) bool {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	if len(b) <= 7 && "SIP/2.0"[:len(b)] == string(b) {
		return true
	}
	n := 0
	for n < len(b) && b[n] >= 'A' && b[n] <= 'Z' {
		n++
	}
	switch {
	case text.HasPrefix(b, "SIP/2.0"), n == len(b) && n <= 16:
		return true
	case n < 3 || n > 16 || b[n] != ' ':
		return false
	}
	rest := b[n+1:]
	return len(rest) < 5 || IsTarget(rest)
}

// IsTarget reports whether b begins with a URI that requests go to.
func IsTarget(b []byte) bool {
	return text.HasFold(b, "sip:") || text.HasFold(b, "sips:") || text.HasFold(b, "tel:") || text.HasFold(b, "urn:")
}

// MayBegin reports whether a message may begin with b, or after line ends at its beginning.
func MayBegin(b []byte) bool {
	return len(b) > 0 && (b[0] >= 'A' && b[0] <= 'Z' || b[0] == '\r' || b[0] == '\n') && may(b)
}
