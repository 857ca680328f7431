package pcapng

import (
	"encoding/binary"
	"sort"
)

// keptOptions are the options of a packet, sections 3.5 and 4.3 of the draft, that a savefile made from this one can have too: by code, how large the number is
// that is its value, 0 for bytes. The hash is not among them, since the frame may be cut, nor are verdicts and custom options.
var keptOptions = map[uint16]int{optComment: 0, optDropCount: 8, optPacketID: 8, optQueue: 4}

// maxOptions is how many bytes of options are kept of one packet: later ones are left out.
const maxOptions = 128 << 10

// keptFlags are the bits of epb_flags that are no part of packet.Flags and still true when the FCS is gone: how the frame was received (unicast, multicast, ...)
// and what was wrong with it, but for the FCS.
const keptFlags = 7<<2 | epbPortErrors

// An optionSpan is where in Reader.options those of a packet lie.
type optionSpan struct{ packet, from, to int }

// Options returns what the savefile says about packet i of the last Read beside its frame: comments, its id, its queue, how many were lost before it, and flags
// that packet.Flags does not have. It is for AppendPacket, and valid until the next Read; nil is nothing. HasOptions says whether it is worth asking.
func (r *Reader) Options(i int) []byte {
	k := sort.Search(len(r.spans), func(k int) bool { return r.spans[k].packet >= i })
	if k == len(r.spans) || r.spans[k].packet != i {
		return nil
	}
	return r.options[r.spans[k].from:r.spans[k].to]
}

// HasOptions reports whether Options returns any for a packet of the last Read.
func (r *Reader) HasOptions() bool { return len(r.spans) != 0 }

// packetOptions reads the options of the packet at hand: it notes those that are kept, in the byte order in which they are written, and returns epb_flags, 0 if there is none.
func (r *Reader) packetOptions(options []byte) (word uint32, err error) {
	from := len(r.options)
	r.options = append(r.options, 0, 0, 0, 0, 0, 0, 0, 0) // room for flags, which come first
	for len(options) >= 4 {
		code, v, rest, err := r.option(options)
		if err != nil {
			return 0, err
		}
		options = rest
		if code == optFlags && len(v) == 4 {
			word = r.u32(v)
		} else if number, kept := keptOptions[code]; kept && len(r.options)-from+4+pad4(len(v)) <= maxOptions {
			r.keep(code, v, number)
		}
	}
	if kept := word & keptFlags; kept != 0 {
		le.PutUint32(r.options[from:], optFlags|4<<16)
		le.PutUint32(r.options[from+4:], kept)
	} else if len(r.options) == from+8 {
		r.options = r.options[:from]
		return word, nil
	} else {
		from += 8
	}
	r.spans = append(r.spans, optionSpan{r.at, from, len(r.options)})
	return word, nil
}

// keep notes an option whose value is a number of so many bytes, or bytes.
func (r *Reader) keep(code uint16, v []byte, number int) {
	switch {
	case number == 0:
		r.options = appendOption(r.options, code, v)
	case len(v) != number:
	case number == 8:
		r.options = appendUint64(r.options, code, r.u64(v))
	default:
		r.options = appendOption(r.options, code, binary.LittleEndian.AppendUint32(nil, r.u32(v)))
	}
}
