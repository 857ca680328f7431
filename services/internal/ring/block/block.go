// Package block is the unit that a ring writes and indexes: 1 MiB, a pcapng section with packets, the table of their flows, a bloom filter over their keys and a
// header with checksums. A Builder makes one out of packets, a Reader with its Walker goes through one, or through some of its chunks, and gives the packets back
// with what was known of their flows. ../FORMAT.md has the bytes.
//
// It is about bytes in memory: where a block lies, and who waits for it, is up to package ring.
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/ring/sum"
)

// Size is the size of a block: what a ring writes and indexes at once.
const Size = 1 << 20

// A block ends with its trailer: a header, where its chunks begin, and a bloom filter over the keys of its packets.
const (
	trailerSize = bloomAt + BloomSize + 4
	trailerAt   = Size - trailerSize
	headerAt    = 8 // in the trailer
	headerSize  = 120
	chunksAt    = headerAt + headerSize
	chunkEntry  = 8
	bloomAt     = chunksAt + MaxChunks*chunkEntry
	BloomSize   = 4096
)

// TrailerPages is what is read to see the trailer of a block: two pages of 4096 bytes at its end.
const TrailerPages = 8192

// Types of pcapng blocks for local use, which readers skip.
const (
	typeTrailer = 0x80004701
	typeFlows   = 0x80004702
	typePadding = 0x80004703
)

// maxLocal is the largest block for local use: of more than 256 KiB some tools think that they are damaged.
const maxLocal = 64 << 10

// LocalHead is what a block for local use takes beside its content.
const LocalHead = 12

const magic = "GALVORNG"

// FormatVersion is that of all of a ring's files.
const FormatVersion = 2

var le = binary.LittleEndian

// A Header says what is in a block. Times are ns since the epoch.
type Header struct {
	Worker     uint16
	Generation uint32 // number of the Open that wrote it, from 1
	Ring       uint64
	Seq        uint64 // of the block within the ring, from 1; 0 is a block that was never written
	First      int64  // earliest time of a packet
	Last       int64  // latest
	Packets    uint32
	DataStart  uint32 // first enhanced packet block
	DataEnd    uint32 // end of the last one; the flow table begins here
	FlowsEnd   uint32 // end of the flow table; padding begins here
	Lost       uint64 // frames that ports lost, if FlagLost
	Dropped    uint64 // packets that the ring did not take since it was created
	Total      uint64 // captured bytes that the ring took since it was created, this block's too
	Bytes      uint32 // captured bytes of this block
	Entries    uint32 // of the flow table
	Flags      uint16
	Synced     uint64 // every block whose total is at most this was on the disk for good when this one was made
	DataSum    uint32 // CRC-32C of everything before the flow table
	Sum        uint32 // and of everything before the padding
}

// Flags of a header.
const (
	FlagUnsorted = 1 << iota // the packets' times do not rise
	FlagTail                 // it was not full: a copy in a tail slot
	FlagPartial              // the key list of the block was too long: its bloom filter is complete, exact indexes leave it out
	FlagLost                 // Lost is known: ports lost so many frames while the ring was open, up to when the block was finished
)

func (h *Header) put(b []byte) {
	copy(b, magic)
	le.PutUint16(b[8:], FormatVersion)
	le.PutUint16(b[10:], h.Worker)
	le.PutUint32(b[12:], h.Generation)
	le.PutUint64(b[16:], h.Ring)
	le.PutUint64(b[24:], h.Seq)
	le.PutUint64(b[32:], uint64(h.First))
	le.PutUint64(b[40:], uint64(h.Last))
	le.PutUint32(b[48:], h.Packets)
	le.PutUint32(b[52:], h.DataStart)
	le.PutUint32(b[56:], h.DataEnd)
	le.PutUint32(b[60:], h.FlowsEnd)
	le.PutUint32(b[68:], h.Bytes)
	le.PutUint64(b[72:], h.Lost)
	le.PutUint64(b[80:], h.Dropped)
	le.PutUint64(b[88:], h.Total)
	le.PutUint64(b[96:], h.Synced)
	le.PutUint16(b[104:], uint16(h.Entries))
	le.PutUint16(b[106:], h.Flags)
	le.PutUint32(b[108:], h.DataSum)
	le.PutUint32(b[112:], h.Sum)
}

// crcAt is where the trailer's checksum stands in a header.
const crcAt = 64

// Version returns an error for a version of a ring's files that this program does not read.
func Version(v uint16) error {
	if v != FormatVersion {
		return fmt.Errorf("it has version %d, and this program reads %d: delete the ring and create it anew, or read it with the program that wrote it", v, FormatVersion)
	}
	return nil
}

// ErrSum is the error of what is damaged.
var ErrSum = errors.New("its checksum is wrong: it was torn by a power cut, or damaged later")

// ParseHeader reads the header of a block, of which b is the end, and checks the trailer.
func ParseHeader(b []byte) (h Header, err error) {
	trailer := b[len(b)-trailerSize:]
	if le.Uint32(trailer) != typeTrailer || le.Uint32(trailer[4:]) != trailerSize || string(trailer[headerAt:headerAt+8]) != magic {
		return h, errors.New("it does not end like a block of a ring")
	}
	if le.Uint32(trailer[headerAt+crcAt:]) != trailerSum(trailer) {
		return h, ErrSum
	}
	b = trailer[headerAt:]
	if err := Version(le.Uint16(b[8:])); err != nil {
		return h, err
	}
	h = Header{
		Worker: le.Uint16(b[10:]), Generation: le.Uint32(b[12:]), Ring: le.Uint64(b[16:]), Seq: le.Uint64(b[24:]),
		First: int64(le.Uint64(b[32:])), Last: int64(le.Uint64(b[40:])), Packets: le.Uint32(b[48:]),
		DataStart: le.Uint32(b[52:]), DataEnd: le.Uint32(b[56:]), FlowsEnd: le.Uint32(b[60:]), Bytes: le.Uint32(b[68:]),
		Lost: le.Uint64(b[72:]), Dropped: le.Uint64(b[80:]), Total: le.Uint64(b[88:]), Synced: le.Uint64(b[96:]),
		Entries: uint32(le.Uint16(b[104:])), Flags: le.Uint16(b[106:]),
		DataSum: le.Uint32(b[108:]), Sum: le.Uint32(b[112:]),
	}
	if h.DataStart < 28 || h.DataStart > h.DataEnd || h.DataEnd > h.FlowsEnd || h.FlowsEnd > trailerAt {
		return h, errors.New("its header makes no sense")
	}
	return h, nil
}

// trailerSum is the checksum of a trailer, whose header may hold any.
func trailerSum(t []byte) uint32 {
	var none [4]byte
	before := sum.Of(t[:headerAt+crcAt])
	return sum.On(sum.On(before, none[:]), t[headerAt+crcAt+4:])
}

// Finish writes the trailer's frame, the header and the trailer's checksum. The header has the checksums of the rest, and table of chunks and bloom filter are there.
func Finish(block []byte, h *Header) {
	t := block[trailerAt:Size]
	le.PutUint32(t, typeTrailer)
	le.PutUint32(t[4:], trailerSize)
	le.PutUint32(t[trailerSize-4:], trailerSize)
	clear(t[headerAt:][:headerSize])
	h.put(t[headerAt:])
	le.PutUint32(t[headerAt+crcAt:], trailerSum(t))
}

// Seal completes a block: padding, and what Finish writes.
func Seal(block []byte, h *Header) {
	Pad(block[h.FlowsEnd:trailerAt])
	Finish(block, h)
}

// Resum gives a header the checksums of its block up to the padding.
func (h *Header) Resum(block []byte) {
	h.DataSum = sum.Of(block[:h.DataEnd])
	h.Sum = sum.On(h.DataSum, block[h.DataEnd:h.FlowsEnd])
}

// Copy copies what a finished block has beside its header, which is not written before it is sealed.
func Copy(dst, src []byte, h *Header) {
	copy(dst, src[:h.FlowsEnd])
	copy(dst[trailerAt+chunksAt:Size], src[trailerAt+chunksAt:Size])
}

// Check reads the header of a whole block and verifies its checksums.
func Check(block []byte) (Header, error) {
	h, err := ParseHeader(block)
	if err != nil {
		return h, err
	}
	if sum.Of(block[:h.FlowsEnd]) != h.Sum {
		return h, ErrSum
	}
	return h, nil
}

// Pad fills b with blocks for local use. len(b) is 0 or a multiple of 4 from LocalHead on.
func Pad(b []byte) {
	for len(b) > 0 {
		n := min(len(b), maxLocal)
		if rest := len(b) - n; rest > 0 && rest < LocalHead {
			n -= LocalHead
		}
		le.PutUint32(b, typePadding)
		le.PutUint32(b[4:], uint32(n))
		clear(b[8 : n-4])
		le.PutUint32(b[n-4:], uint32(n))
		b = b[n:]
	}
}

// AppendHead appends what a block begins with: a section header, and the descriptions of the interfaces, numbered as the source numbers them.
func AppendHead(dst []byte, table []pipeline.Interface) []byte {
	start := len(dst)
	dst = pcapng.AppendSection(dst, pcapng.Section{Application: "Galvo", Length: Size})
	le.PutUint64(dst[start+16:], uint64(Size-(len(dst)-start)))
	for _, in := range table {
		dst = pcapng.AppendInterface(dst, pcapng.Interface{
			Name: in.Name, Description: in.Description, Link: in.Link, SpeedBits: in.SpeedBits, MAC: in.MAC,
		})
	}
	return dst
}

// Empty makes a block that was never written. It has an interface, without which libpcap does not read a savefile that begins with it.
func Empty(b []byte, id uint64) {
	head := AppendHead(b[:0], []pipeline.Interface{{Link: packet.LinkEthernet}})
	h := Header{Ring: id, DataStart: uint32(len(head)), DataEnd: uint32(len(head)), FlowsEnd: uint32(len(head)), First: math.MaxInt64, Last: math.MinInt64}
	clear(b[trailerAt:Size])
	h.Resum(b)
	endChunks(b, 0, 0, &h)
	Seal(b[:Size], &h)
}

// A Bloom filter has BloomSize bytes; 4 bits stand for a key. With 1100 keys, as a block of real traffic has, one of 5000 blocks is read in vain.
type Bloom []byte

// BloomOf returns the bloom filter of a block, of which b is the end. It is a part of b.
func BloomOf(b []byte) Bloom { return Bloom(b[len(b)-trailerSize+bloomAt:][:BloomSize]) }

func (b Bloom) addHash(h uint64) {
	for range 4 {
		b[h>>3&(BloomSize-1)] |= 1 << (h & 7)
		h >>= 15
	}
}

// Has reports whether the filter may have a key: false is sure.
func (b Bloom) Has(key uint64) bool {
	h := Hash(key)
	for range 4 {
		if b[h>>3&(BloomSize-1)]>>(h&7)&1 == 0 {
			return false
		}
		h >>= 15
	}
	return true
}

// Hash is that of a key: the finalizer of splitmix64.
func Hash(key uint64) uint64 {
	key = (key ^ key>>30) * 0xbf58476d1ce4e5b9
	key = (key ^ key>>27) * 0x94d049bb133111eb
	return key ^ key>>31
}

// CheckPadding checks what the checksum leaves out.
func CheckPadding(b []byte, h *Header) error {
	for at := int(h.FlowsEnd); at < trailerAt; {
		size := int(le.Uint32(b[at+4:]))
		if trailerAt-at < LocalHead || le.Uint32(b[at:]) != typePadding || size < LocalHead || size > maxLocal || size > trailerAt-at || le.Uint32(b[at+size-4:]) != uint32(size) {
			return errors.New("its padding is damaged: other programs may stop there")
		}
		at += size
	}
	return nil
}

// Newer reports whether h is of a later state of the worker's blocks than o.
func (h *Header) Newer(o *Header) bool {
	if h.Seq != o.Seq {
		return h.Seq > o.Seq
	}
	return h.Packets > o.Packets
}

// maxEach is how many keys of a range are looked for one by one in a bloom filter; a larger range may be in every block.
const maxEach = 16

// HasRange reports whether the filter may have a key of a range.
func (b Bloom) HasRange(k filter.KeyRange) bool {
	if k.Hi-k.Lo >= maxEach {
		return true
	}
	for key := k.Lo; key <= k.Hi; key++ {
		if b.Has(uint64(key)) {
			return true
		}
	}
	return false
}
