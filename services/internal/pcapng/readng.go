package pcapng

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"galvo/services/internal/packet"
)

// A blockKind is what the Reader knows about a type of block. Blocks without a read function are skipped: name resolution,
// secrets, custom and local-use blocks.
type blockKind struct {
	name  string                                              // with its article, for errors
	min   int                                                 // bytes of the fixed part of the body
	frame bool                                                // read fills in a frame
	read  func(r *Reader, f *packet.Frame, body []byte) error // f is nil unless frame
}

var blockKinds = [...]blockKind{
	blockInterface:  {"an interface description block", 8, false, (*Reader).describe},
	blockObsolete:   {"a packet block", 20, true, (*Reader).obsolete},
	blockSimple:     {"a simple packet block", 4, true, (*Reader).simple},
	blockStatistics: {"an interface statistics block", 12, false, (*Reader).statistics},
	blockEnhanced:   {"an enhanced packet block", 20, true, (*Reader).enhanced},
}

var (
	sectionKind = blockKind{"a section header block", 16, false, (*Reader).section}
	otherKind   = blockKind{"a block", 0, false, func(*Reader, *packet.Frame, []byte) error { return nil }}
)

func kindOf(blockType uint32) *blockKind {
	switch {
	case blockType < uint32(len(blockKinds)) && blockKinds[blockType].read != nil:
		return &blockKinds[blockType]
	case blockType == blockSection:
		return &sectionKind
	}
	return &otherKind
}

// A localInterface is what a packet block needs of the interface description that it refers to.
type localInterface struct {
	index    uint16 // in Reader.interfaces
	ethernet bool
	fcs      uint8
	snap     uint32
	clock    clock
	missing  uint64 // as the last statistics say
}

// blocks finds the frames of a pcapng savefile. Blocks that hold no packet are read even where dst has no room left, up to the
// next packet.
func (r *Reader) blocks(dst []packet.Packet) (n int, err error) {
	if r.skipped.size != 0 {
		if done, err := r.skip(); !done || err != nil {
			return 0, err
		}
	}
	for {
		b := r.buf[r.pos:r.end]
		if len(b) < 12 {
			r.need, r.noun = 12, "a block header"
			return n, nil
		}
		kind := kindOf(r.u32(b))
		if kind == &sectionKind {
			if err := r.byteOrder(b[8:]); err != nil {
				return n, err
			}
		}
		total := r.u32(b[4:])
		if total < 12 || total > MaxBlockBytes || int(total) < 12+kind.min {
			return n, r.damaged("%s with a length of %d bytes", kind.name, total)
		}
		size := pad4(int(total)) // some writers leave the padding out of the length
		if len(b) < size {
			if r.need, r.noun = size, kind.name; kind == &otherKind && size > ChunkBytes {
				r.skipped = skippedBlock{r.base + int64(r.pos), int64(size), total}
				r.need = 12
			}
			return n, nil
		}
		if last := r.u32(b[size-4:]); last != total {
			return n, r.damaged("%s", kind.badEnd(total, last))
		}
		var f *packet.Frame
		if kind.frame {
			if n == len(dst) {
				return n, nil
			}
			f, r.at = &dst[n].Frame, n
			n++
		}
		if err := kind.read(r, f, b[8:size-4]); err != nil {
			if kind.frame {
				n--
			}
			return n, r.damaged("%s: %v", kind.name, err)
		}
		r.pos += size
	}
}

// A skippedBlock is one that holds no packet and is too large to have it whole in memory.
type skippedBlock struct {
	offset int64  // in the savefile
	size   int64  // with its padding; 0 is no block
	total  uint32 // the length that it begins with
}

// skip leaves out what is there of the block that is skipped, up to the length at its end, and reports whether that was reached.
func (r *Reader) skip() (done bool, err error) {
	s := r.skipped
	left := int(s.offset + s.size - 4 - r.base - int64(r.pos))
	n := min(left, r.end-r.pos)
	r.pos += n
	if left -= n; left > 0 || r.end-r.pos < 4 {
		r.need, r.noun = min(left+4, ChunkBytes), otherKind.name
		return false, nil
	}
	if last := r.u32(r.buf[r.pos:]); last != s.total {
		return false, &Error{What: "damaged", Offset: s.offset, Reason: otherKind.badEnd(s.total, last)}
	}
	r.pos += 4
	r.skipped = skippedBlock{}
	return true, nil
}

func (k *blockKind) badEnd(total, last uint32) string {
	return fmt.Sprintf("%s begins with a length of %d and ends with %d", k.name, total, last)
}

func (r *Reader) byteOrder(b []byte) error {
	switch binary.LittleEndian.Uint32(b) {
	case byteOrderMagic:
		r.big = false
	case 0x4D3C2B1A:
		r.big = true
	default:
		return r.damaged("a section header block with the byte order % x", b[:4])
	}
	return nil
}

// section begins a section: section 4.1 of the draft. Interfaces are numbered from 0 again.
func (r *Reader) section(_ *packet.Frame, b []byte) error {
	major, minor := r.u16(b[4:]), r.u16(b[6:])
	if major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("version %d.%d is not known", major, minor)
	}
	r.local = r.local[:0]
	r.tell(b[16:])
	return nil
}

// tell notes what the options of a section header say, of each but comments the first one. An option beyond its block ends them.
func (r *Reader) tell(options []byte) {
	s := &r.told
	for len(options) >= 4 {
		code, v, rest, err := r.option(options)
		if err != nil {
			return
		}
		options = rest
		switch code {
		case optComment:
			if t := text(v); t != "" && len(s.Comment)+1+len(t) <= maxOption {
				s.Comment = strings.TrimPrefix(s.Comment+"\n"+t, "\n")
			}
		case optHardware:
			s.Hardware = cmp.Or(s.Hardware, text(v))
		case optOS:
			s.OS = cmp.Or(s.OS, text(v))
		case optApplication:
			s.Application = cmp.Or(s.Application, text(v))
		}
	}
}

// describe takes in an interface description block: section 4.2 of the draft.
func (r *Reader) describe(_ *packet.Frame, b []byte) error {
	in := Interface{Link: linkType(r.u16(b)), SnapLen: r.u32(b[4:])}
	unit, offset := byte(6), int64(0)
	for rest := b[8:]; len(rest) >= 4; {
		code, v, next, err := r.option(rest)
		if err != nil {
			return err
		}
		rest = next
		switch {
		case code == optName:
			in.Name = text(v)
		case code == optDescription:
			in.Description = text(v)
		case code == optFilter && len(v) > 1 && v[0] == 0: // other kinds of filter are byte code
			in.Filter = text(v[1:])
		case code == optMAC && len(v) == 6:
			copy(in.MAC[:], v)
		case code == optSpeed && len(v) == 8:
			in.SpeedBits = r.u64(v)
		case code == optFCSLen && len(v) == 1:
			in.FCSLen = fcsBytes(v[0])
		case code == optTimeUnit && len(v) == 1:
			unit = v[0]
		case code == optTimeOffset && len(v) == 8:
			offset = int64(r.u64(v))
		}
	}
	index, err := r.number(in)
	if err != nil {
		return err
	}
	r.local = append(r.local, localInterface{
		index: index, ethernet: in.Link == packet.LinkEthernet, fcs: in.FCSLen, snap: in.SnapLen, clock: newClock(unit, offset),
	})
	return nil
}

// number gives an interface its place in the table. When the table is full, as in a ring of many sections that repeat their
// interfaces, an equal description stands for the new one.
func (r *Reader) number(in Interface) (uint16, error) {
	if len(r.interfaces) <= math.MaxUint16 {
		r.interfaces = append(r.interfaces, in)
		return uint16(len(r.interfaces) - 1), nil
	}
	for i := len(r.interfaces) - 1; i >= 0; i-- {
		if r.interfaces[i] == in {
			return uint16(i), nil
		}
	}
	return 0, errors.New("more than 65536 interfaces")
}

// fcsBytes reads if_fcslen, which the draft gives in bits and its example, like most writers, in bytes.
func fcsBytes(v byte) uint8 {
	if v >= 16 {
		return v / 8
	}
	return v
}

// enhanced reads an enhanced packet block: section 4.3 of the draft.
func (r *Reader) enhanced(f *packet.Frame, b []byte) error { return r.frame(f, r.u32(b), b) }

// obsolete reads a packet block: appendix A of the draft. Beside the interface it has a count of drops in 16 bits each.
func (r *Reader) obsolete(f *packet.Frame, b []byte) error { return r.frame(f, uint32(r.u16(b)), b) }

// frame reads what both have in common: timestamp, lengths, data, options.
func (r *Reader) frame(f *packet.Frame, id uint32, b []byte) error {
	if uint64(id) >= uint64(len(r.local)) {
		return fmt.Errorf("interface %d has no description", id)
	}
	in := &r.local[id]
	captured, data := r.u32(b[12:]), b[20:]
	if int64(captured) > int64(len(data)) {
		return fmt.Errorf("a captured length of %d bytes, %d are left in the block", captured, len(data))
	}
	f.Data = data[:captured:captured]
	f.Len = max(r.u32(b[16:]), captured)
	f.Iface = in.index
	f.Flags = 0
	var tells bool
	if f.Time, tells = in.clock.time(uint64(r.u32(b[4:]))<<32 | uint64(r.u32(b[8:]))); !tells {
		r.remarks.Misdated++
	}
	fcs := in.fcs
	if options := data[pad4(int(captured)):]; len(options) >= 4 {
		word, err := r.packetOptions(options)
		if err != nil {
			return err
		}
		f.Flags = frameFlags(word)
		if n := word >> epbFCSShift & epbFCSMask; n != 0 {
			fcs = uint8(n)
		}
	}
	if fcs != 0 {
		StripFCS(f, uint32(fcs), in.ethernet)
	}
	return nil
}

func frameFlags(word uint32) packet.Flags {
	var flags packet.Flags
	if d := packet.Flags(word & epbDirection); d != packet.DirMask {
		flags = d
	}
	if word&epbCRCError != 0 {
		flags |= packet.FCSBad
	}
	if word&epbPortErrors != 0 {
		flags |= packet.PortErr
	}
	return flags
}

// simple reads a simple packet block: section 4.4 of the draft. It belongs to interface 0 and holds up to its snap length.
func (r *Reader) simple(f *packet.Frame, b []byte) error {
	if len(r.local) == 0 {
		return errors.New("interface 0 has no description")
	}
	in := &r.local[0]
	length := r.u32(b)
	captured := length
	if in.snap != 0 {
		captured = min(length, in.snap)
	}
	data := b[4:]
	if int64(captured) > int64(len(data)) {
		return fmt.Errorf("a captured length of %d bytes, %d are left in the block", captured, len(data))
	}
	*f = packet.Frame{Data: data[:captured:captured], Len: length, Iface: in.index}
	r.remarks.Undated++
	if in.fcs != 0 {
		StripFCS(f, uint32(in.fcs), in.ethernet)
	}
	return nil
}

// statistics reads an interface statistics block, section 4.6 of the draft, for what was lost. They count from the capture's beginning, so the last one of an interface
// has it all. What makes no sense in it costs no packet, and is left out.
func (r *Reader) statistics(_ *packet.Frame, b []byte) error {
	id := r.u32(b)
	if uint64(id) >= uint64(len(r.local)) {
		return nil
	}
	missing, told := uint64(0), false
	for rest := b[12:]; len(rest) >= 4; {
		code, v, next, err := r.option(rest)
		if err != nil {
			break
		}
		rest = next
		if (code == optLost || code == optDropped) && len(v) == 8 {
			if n := r.u64(v); n < math.MaxInt64 { // some write all ones for what they do not know
				missing, told = missing+n, true
			}
		}
	}
	if in := &r.local[id]; told {
		r.remarks.Missing += missing - in.missing
		in.missing = missing
	}
	return nil
}

// option splits the first of a block's options off: section 3.5 of the draft. After the end of options rest is empty.
func (r *Reader) option(b []byte) (code uint16, value, rest []byte, err error) {
	code, size := r.u16(b), int(r.u16(b[2:]))
	if code == optEnd {
		return code, nil, nil, nil
	}
	if size > len(b)-4 {
		return 0, nil, nil, fmt.Errorf("option %d needs %d bytes, %d are left in the block", code, size, len(b)-4)
	}
	return code, b[4 : 4+size], b[min(4+pad4(size), len(b)):], nil
}

// text copies a string option. Some writers count a closing zero byte.
func text(v []byte) string {
	for i, c := range v {
		if c == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}
