package pcapng

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"galvo/services/internal/packet"
)

// maxOption is the largest value of an option: its length field has 16 bits.
const maxOption = 65535

var le = binary.LittleEndian

// AppendSection appends a section header block, which begins a savefile. The interfaces of a section are numbered from 0 in the
// order of their AppendInterface. Texts longer than 65535 bytes are cut at the end of a UTF-8 character, here and below.
func AppendSection(dst []byte, s Section) []byte {
	length := int64(-1)
	if s.Length > 0 {
		length = s.Length
	}
	dst, start := begin(dst, blockSection)
	dst = le.AppendUint32(dst, byteOrderMagic)
	dst = le.AppendUint16(dst, 1)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint64(dst, uint64(length))
	dst = appendText(dst, optHardware, s.Hardware)
	dst = appendText(dst, optOS, s.OS)
	dst = appendText(dst, optApplication, s.Application)
	dst = appendText(dst, optComment, s.Comment)
	return finish(dst, start)
}

// AppendInterface appends an interface description block. Timestamps of the interface are in nanoseconds.
func AppendInterface(dst []byte, in Interface) []byte {
	dst, start := begin(dst, blockInterface)
	dst = le.AppendUint16(dst, uint16(in.Link))
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, in.SnapLen)
	dst = appendText(dst, optName, in.Name)
	dst = appendText(dst, optDescription, in.Description)
	if in.MAC != [6]byte{} {
		dst = appendOption(dst, optMAC, in.MAC[:])
	}
	if in.SpeedBits != 0 {
		dst = appendUint64(dst, optSpeed, in.SpeedBits)
	}
	dst = appendOption(dst, optTimeUnit, []byte{9})
	if in.Filter != "" {
		dst = appendText(dst, optFilter, "\x00"+in.Filter)
	}
	dst = appendOption(dst, optFCSLen, []byte{in.FCSLen})
	return finish(dst, start)
}

// PacketSize returns how many bytes PutPacket writes for a frame of so many captured bytes.
func PacketSize(captured int, flags packet.Flags, options []byte) int {
	word, rest := packetWord(flags, options)
	return packetSize(captured, word, rest)
}

// packetSize is PacketSize with what packetWord returns.
func packetSize(captured int, word uint32, rest []byte) int {
	size := enhancedHead + pad4(captured) + 4
	if word != 0 {
		size += 8
	}
	size += len(rest)
	if word != 0 || len(rest) != 0 {
		size += 4
	}
	return size
}

// enhancedHead is the number of bytes of an enhanced packet block before its data.
const enhancedHead = 28

// AppendPacket appends a frame as PutPacket puts it: time is in ns since the epoch, data are the captured bytes, and wireLen is the length on the wire. It allocates only to
// make dst larger.
func AppendPacket(dst []byte, iface uint32, time int64, data []byte, wireLen uint32, flags packet.Flags, options []byte) []byte {
	size, start := PacketSize(len(data), flags, options), len(dst)
	dst = slices.Grow(dst, size)[:start+size]
	PutPacket(dst[start:], iface, &packet.Frame{Data: data, Len: wireLen, Time: time, Flags: flags}, len(data), options)
	return dst
}

// PutPacket writes the first captured bytes of a frame as an enhanced packet block to the beginning of b, which has PacketSize bytes at least, and returns how many it took.
// iface is the number of the interface in its section. The data are without FCS unless the interface says otherwise; a time before the epoch becomes 0. Of the flags a
// direction and a wrong FCS are kept. options are what else is said about the packet, from Reader.Options or AppendComment, or nil.
func PutPacket(b []byte, iface uint32, f *packet.Frame, captured int, options []byte) int {
	word, rest := packetWord(f.Flags, options)
	size := packetSize(captured, word, rest)
	b = b[:size:size]
	ticks := uint64(max(f.Time, 0))
	end := enhancedHead + pad4(captured)
	le.PutUint32(b[end-4:], 0) // the padding, where there is any
	h := (*[enhancedHead]byte)(b)
	le.PutUint64(h[:], blockEnhanced|uint64(size)<<32)
	le.PutUint64(h[8:], uint64(iface)|ticks>>32<<32)
	le.PutUint64(h[16:], ticks&math.MaxUint32|uint64(captured)<<32)
	le.PutUint32(h[24:], f.Len)
	copy(b[enhancedHead:], f.Data[:captured])

	if word != 0 {
		le.PutUint64(b[end:], optFlags|4<<16|uint64(word)<<32)
		end += 8
	}
	if len(rest) != 0 {
		end += copy(b[end:], rest)
	}
	if end < size-4 {
		le.PutUint32(b[end:], optEnd)
	}
	le.PutUint32(b[size-4:], uint32(size))
	return size
}

// packetWord returns the epb_flags of a frame, 0 for none, and its other options.
func packetWord(flags packet.Flags, options []byte) (word uint32, rest []byte) {
	word = uint32(flags & packet.DirMask)
	if flags&packet.FCSMask == packet.FCSBad {
		word |= epbCRCError
	}
	if len(options) >= 8 && le.Uint16(options) == optFlags {
		return word | le.Uint32(options[4:]), options[8:]
	}
	return word, options
}

// AppendComment appends a comment to the options of a packet.
func AppendComment(options []byte, text string) []byte {
	return appendText(options, optComment, text)
}

// AppendStatistics appends an interface statistics block for the interface with this number in its section.
func AppendStatistics(dst []byte, iface uint32, s Statistics) []byte {
	dst, start := begin(dst, blockStatistics)
	dst = le.AppendUint32(dst, iface)
	dst = appendTime(dst, s.Time)
	dst = appendText(dst, optComment, s.Comment)
	dst = appendTimeOption(dst, optStart, s.Start)
	dst = appendTimeOption(dst, optStop, s.End)
	dst = appendUint64(dst, optReceived, s.Received)
	dst = appendUint64(dst, optLost, s.Lost)
	dst = appendUint64(dst, optAccepted, s.Accepted)
	dst = appendUint64(dst, optDropped, s.Dropped)
	dst = appendUint64(dst, optDelivered, s.Delivered)
	return finish(dst, start)
}

// begin appends the head of a block; finish ends its options, if there are any, and fills in its length.
func begin(dst []byte, blockType uint32) (_ []byte, start int) {
	start = len(dst)
	dst = le.AppendUint32(dst, blockType)
	return le.AppendUint32(dst, 0), start
}

func finish(dst []byte, start int) []byte {
	dst = le.AppendUint32(dst, optEnd)
	size := uint32(len(dst) - start + 4)
	le.PutUint32(dst[start+4:], size)
	return le.AppendUint32(dst, size)
}

func appendOption(dst []byte, code uint16, value []byte) []byte {
	dst = le.AppendUint16(dst, code)
	dst = le.AppendUint16(dst, uint16(len(value)))
	dst = append(dst, value...)
	return append(dst, "\x00\x00\x00"[:pad4(len(value))-len(value)]...)
}

// appendText appends a text, and nothing for an empty one.
func appendText(dst []byte, code uint16, text string) []byte {
	if text == "" {
		return dst
	}
	text = cut(text)
	dst = le.AppendUint16(dst, code)
	dst = le.AppendUint16(dst, uint16(len(text)))
	dst = append(dst, text...)
	return append(dst, "\x00\x00\x00"[:pad4(len(text))-len(text)]...)
}

func appendUint64(dst []byte, code uint16, v uint64) []byte {
	dst = le.AppendUint16(dst, code)
	dst = le.AppendUint16(dst, 8)
	return le.AppendUint64(dst, v)
}

func appendTimeOption(dst []byte, code uint16, time int64) []byte {
	dst = le.AppendUint16(dst, code)
	dst = le.AppendUint16(dst, 8)
	return appendTime(dst, time)
}

// appendTime appends a timestamp, of which the upper half comes first.
func appendTime(dst []byte, time int64) []byte {
	ticks := uint64(max(time, 0))
	dst = le.AppendUint32(dst, uint32(ticks>>32))
	return le.AppendUint32(dst, uint32(ticks))
}

// cut shortens a text to what an option can hold.
func cut(text string) string {
	if len(text) <= maxOption {
		return text
	}
	end := maxOption
	for end > maxOption-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// AppendPcapHeader appends the header of a pcap savefile whose timestamps are in nanoseconds, or else microseconds. A snap length
// of 0 stands for no limit and is written as 262144, the largest one that libpcap takes.
func AppendPcapHeader(dst []byte, link packet.LinkType, snapLen uint32, nanoseconds bool) []byte {
	magic := uint32(magicMicro)
	if nanoseconds {
		magic = magicNano
	}
	if snapLen == 0 {
		snapLen = 262144
	}
	dst = le.AppendUint32(dst, magic)
	dst = le.AppendUint16(dst, 2)
	dst = le.AppendUint16(dst, 4)
	dst = le.AppendUint64(dst, 0)
	dst = le.AppendUint32(dst, snapLen)
	return le.AppendUint32(dst, uint32(link))
}

// PcapPacketSize returns how many bytes AppendPcapPacket appends for a frame of so many captured bytes.
func PcapPacketSize(captured int) int { return 16 + captured }

// AppendPcapPacket appends a frame to a pcap savefile whose header had the same nanoseconds. time is in ns since the epoch; before
// it and after the year 2106 it is the nearest one that the format can say.
func AppendPcapPacket(dst []byte, time int64, data []byte, wireLen uint32, nanoseconds bool) []byte {
	start, size := len(dst), PcapPacketSize(len(data))
	dst = slices.Grow(dst, size)[:start+size]
	b := dst[start:]
	ns := min(uint64(max(time, 0)), math.MaxUint32*1e9+999_999_999)
	seconds, fraction := ns/1e9, ns%1e9
	if !nanoseconds {
		fraction /= 1000
	}
	le.PutUint32(b, uint32(seconds))
	le.PutUint32(b[4:], uint32(fraction))
	le.PutUint32(b[8:], uint32(len(data)))
	le.PutUint32(b[12:], wireLen)
	copy(b[16:], data)
	return dst
}
