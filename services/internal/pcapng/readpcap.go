package pcapng

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"galvo/services/internal/packet"
)

// A pcapFile is what the header of a pcap savefile says about its records.
type pcapFile struct {
	unit     int64 // ns per unit of the second timestamp field
	head     int   // bytes of a record's header
	captured uint8 // bit at which the captured length begins in the second word of the header
	length   uint8 // and the length on the wire
	unsure   bool  // versions whose writers disagreed on the order of the two lengths
	max      uint32
	fcs      uint8
	ethernet bool
}

func (r *Reader) pcapMagic(magic uint32) bool {
	switch magic {
	case magicMicro:
		r.pcap = pcapFile{unit: 1000, head: 16, captured: 0, length: 32}
	case magicNano:
		r.pcap = pcapFile{unit: 1, head: 16, captured: 0, length: 32}
	case magicModified:
		r.pcap = pcapFile{unit: 1000, head: 24, captured: 0, length: 32}
	default:
		return false
	}
	return true
}

// pcapHeader parses the file header: draft-ietf-opsawg-pcap, section 4.
func (r *Reader) pcapHeader() error {
	const size = 24
	if err := r.fill(size, "a pcap header"); err != nil {
		return err
	}
	major, minor := r.u16(r.buf[4:]), r.u16(r.buf[6:])
	if major != 2 && major != 543 {
		return r.damaged("pcap version %d.%d is not known", major, minor)
	}
	p := &r.pcap
	if major == 2 && minor < 3 {
		p.captured, p.length = p.length, p.captured
	}
	p.unsure = major == 543 || minor == 3

	network := r.u32(r.buf[20:])
	if reserved := network & pcapReserved; reserved != 0 {
		return r.damaged("a link type of %#08x: of its upper bits %#08x have no meaning", network, reserved)
	}
	if r.aix(major, minor, network) {
		p.unit = 1
		if network = uint32(aixLinks[network]); network == noLink {
			return r.damaged("frames of FDDI as AIX writes them are not read")
		}
	}
	if network&pcapFCSPresent != 0 {
		p.fcs = uint8(network>>28) * 2
	}
	in := Interface{Link: linkType(uint16(network)), SnapLen: r.u32(r.buf[16:]), FCSLen: p.fcs}
	p.ethernet = in.Link == packet.LinkEthernet
	p.max = maxCaptured(in.Link)
	r.interfaces = []Interface{in}
	r.pos = size
	return nil
}

// aixLinks are the link types of the kinds of interface (ifType of RFC 1573) that AIX's tcpdump writes in their place. On FDDI it pads frames.
var aixLinks = map[uint32]packet.LinkType{6: packet.LinkEthernet, 9: packet.LinkTokenRing, 15: noLink, 24: packet.LinkNull}

// noLink is no link type.
const noLink = 0xffff

// aix reports whether a savefile is one of AIX's tcpdump, whose times are in nanoseconds. As for Wireshark its version tells, which once was libpcap's too, with numbers
// that no libpcap of that time wrote as a link type, but for PPP.
func (r *Reader) aix(major, minor uint16, network uint32) bool {
	_, known := aixLinks[network]
	return known && major == 2 && minor == 2 && r.pcap.unit == 1000 && r.pcap.head == 16
}

// records finds the frames of a pcap savefile. What the loop needs is in local variables, and a header is read as two words: 2 of 5 ns per frame.
func (r *Reader) records(dst []packet.Packet) (n int, err error) {
	p, pos, buf, big := r.pcap, r.pos, r.buf[:r.end], r.big
	for n < len(dst) {
		b := buf[pos:]
		if len(b) < p.head || len(b) < 16 {
			r.need, r.noun = p.head, "a packet record's header"
			break
		}
		stamp, lengths := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if big {
			stamp = bits.RotateLeft64(bits.ReverseBytes64(stamp), 32)
			lengths = bits.RotateLeft64(bits.ReverseBytes64(lengths), 32)
		}
		captured, length := uint32(lengths>>p.captured), uint32(lengths>>p.length)
		if p.unsure && captured > length {
			captured, length = length, captured
		}
		if captured > p.max {
			r.pos = pos
			return n, r.damaged("a captured length of %d bytes, at most %d are possible", captured, p.max)
		}
		size := p.head + int(captured)
		if len(b) < size {
			r.need, r.noun = size, "a packet record"
			break
		}
		f := &dst[n].Frame
		f.Data = b[p.head:size:size]
		f.Len = max(length, captured)
		f.Iface = 0
		f.Flags = 0
		f.Time = int64(uint32(stamp))*1e9 + int64(stamp>>32)*p.unit
		if p.head > 16 {
			f.Flags = modifiedDirection(b[22])
		}
		if p.fcs != 0 {
			StripFCS(f, uint32(p.fcs), p.ethernet)
		}
		pos += size
		n++
	}
	r.pos = pos
	return n, nil
}

// modifiedDirection reads the packet type of a modified pcap record, a value of packet(7).
func modifiedDirection(packetType byte) packet.Flags {
	const outgoing = 4
	if packetType == outgoing {
		return packet.DirOut
	}
	return packet.DirIn
}

// StripFCS leaves the frame check sequence, of fcs bytes, out of a frame, and verifies it where all of it is captured and its kind is known
// (IEEE 802.3, section 3.2.9).
func StripFCS(f *packet.Frame, fcs uint32, ethernet bool) {
	if f.Len < fcs {
		return
	}
	f.Len -= fcs
	sum := f.Data[min(int(f.Len), len(f.Data)):]
	f.Data = f.Data[:len(f.Data)-len(sum)]
	if !ethernet || len(sum) != 4 || fcs != 4 {
		return
	}
	f.Flags &^= packet.FCSMask
	crc := crc32.ChecksumIEEE(f.Data)
	if sum[0] == byte(crc) && sum[1] == byte(crc>>8) && sum[2] == byte(crc>>16) && sum[3] == byte(crc>>24) {
		f.Flags |= packet.FCSGood
	} else {
		f.Flags |= packet.FCSBad
	}
}

// pcapFCSPresent in the link type field says that its upper four bits are the length of the FCS in units of two bytes.
const pcapFCSPresent = 1 << 26

// pcapReserved are bits of the link type field that nobody sets. libpcap and Wireshark refuse a savefile that has one of them: what its frames begin with is not known.
const pcapReserved = 0x03ff_0000

// linkType maps the numbers that some systems' tools wrote for raw IP, their own DLT_RAW, to the one of pcap-linktype(7).
func linkType(number uint16) packet.LinkType {
	if number == 12 || number == 14 {
		return packet.LinkRaw
	}
	return packet.LinkType(number)
}

// maxCaptured is the largest captured length that is not taken for damage: what libpcap allows for the link type, whatever the snap
// length in the header says.
func maxCaptured(link packet.LinkType) uint32 {
	switch link {
	case 189, 220, 231, 249, 266: // USB in its forms, D-Bus
		return 128 << 20
	case 279: // EBHSCR
		return 8 << 20
	}
	return 256 << 10
}
