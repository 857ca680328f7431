package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"galvo/services/internal/packet"
	"galvo/services/internal/pcapng"
	"galvo/services/internal/pipeline"
)

// FORMAT.md has the bytes of what follows.

// blockSize is the size of a block: what a ring writes and indexes at once.
const blockSize = 1 << 20

// A block ends with its trailer: a header, and a bloom filter over the keys of its packets.
const (
	trailerSize = bloomSize + 128
	trailerAt   = blockSize - trailerSize
	headerAt    = 8 // in the trailer
	bloomAt     = 116
	bloomSize   = 4096
)

// trailerPages is what is read to see the header and the bloom filter of a block: whole pages at its end.
const trailerPages = 2 * pageSize

// Types of pcapng blocks for local use, which readers skip.
const (
	typeTrailer = 0x80004701
	typeFlows   = 0x80004702
	typePadding = 0x80004703
	typeIndex   = 0x80004704
)

// maxLocal is the largest block for local use: of more than 256 KiB some tools think that they are damaged.
const maxLocal = 64 << 10

// localHead is what a block for local use takes beside its content.
const localHead = 12

const (
	magic         = "GALVORNG"
	formatVersion = 1
)

var le = binary.LittleEndian

// castagnoli is the polynomial of CRC-32C, which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A header says what is in a block. Times are ns since the epoch.
type header struct {
	worker     uint16
	generation uint32 // number of the Open that wrote it, from 1
	ring       uint64
	seq        uint64 // of the block within the ring, from 1; 0 is a block that was never written
	first      int64  // earliest time of a packet
	last       int64  // latest
	packets    uint32
	dataStart  uint32 // first enhanced packet block
	dataEnd    uint32 // end of the last one; the flow table begins here
	flowsEnd   uint32 // end of the flow table; padding begins here
	crc        uint32 // CRC-32C of the block but the padding, with this field 0
	lost       uint64 // by the worker's ports since the ring was opened
	dropped    uint64 // packets that the ring did not take since it was created
	total      uint64 // captured bytes that the ring took since it was created, this block's too
	bytes      uint32 // captured bytes of this block
	entries    uint32 // of the flow table
	flags      uint16
	synced     uint64 // every block whose total is at most this was on the disk for good when this one was made
}

// Flags of a header.
const (
	flagUnsorted = 1 << iota // the packets' times do not rise
	flagTail                 // it was not full: a copy in a tail slot
	flagPartial              // the key list of the block was too long: its bloom filter is complete, exact indexes leave it out
)

func (h *header) put(b []byte) {
	copy(b, magic)
	le.PutUint16(b[8:], formatVersion)
	le.PutUint16(b[10:], h.worker)
	le.PutUint32(b[12:], h.generation)
	le.PutUint64(b[16:], h.ring)
	le.PutUint64(b[24:], h.seq)
	le.PutUint64(b[32:], uint64(h.first))
	le.PutUint64(b[40:], uint64(h.last))
	le.PutUint32(b[48:], h.packets)
	le.PutUint32(b[52:], h.dataStart)
	le.PutUint32(b[56:], h.dataEnd)
	le.PutUint32(b[60:], h.flowsEnd)
	le.PutUint32(b[64:], h.crc)
	le.PutUint32(b[68:], h.bytes)
	le.PutUint64(b[72:], h.lost)
	le.PutUint64(b[80:], h.dropped)
	le.PutUint64(b[88:], h.total)
	le.PutUint64(b[96:], h.synced)
	le.PutUint16(b[104:], uint16(h.entries))
	le.PutUint16(b[106:], h.flags)
}

// crcAt is where the checksum stands in a header.
const crcAt = 64

// parseHeader reads a header out of a trailer. It checks what can be checked without the rest of the block.
func parseHeader(trailer []byte) (h header, err error) {
	if le.Uint32(trailer) != typeTrailer || le.Uint32(trailer[4:]) != trailerSize || string(trailer[headerAt:headerAt+8]) != magic {
		return h, errors.New("it does not end like a block of a ring")
	}
	b := trailer[headerAt:]
	if v := le.Uint16(b[8:]); v != formatVersion {
		return h, fmt.Errorf("it has version %d, and this program reads %d", v, formatVersion)
	}
	h = header{
		worker: le.Uint16(b[10:]), generation: le.Uint32(b[12:]), ring: le.Uint64(b[16:]), seq: le.Uint64(b[24:]),
		first: int64(le.Uint64(b[32:])), last: int64(le.Uint64(b[40:])), packets: le.Uint32(b[48:]),
		dataStart: le.Uint32(b[52:]), dataEnd: le.Uint32(b[56:]), flowsEnd: le.Uint32(b[60:]), crc: le.Uint32(b[64:]), bytes: le.Uint32(b[68:]),
		lost: le.Uint64(b[72:]), dropped: le.Uint64(b[80:]), total: le.Uint64(b[88:]), synced: le.Uint64(b[96:]),
		entries: uint32(le.Uint16(b[104:])), flags: le.Uint16(b[106:]),
	}
	if h.dataStart < 28 || h.dataStart > h.dataEnd || h.dataEnd > h.flowsEnd || h.flowsEnd > trailerAt {
		return h, errors.New("its header makes no sense")
	}
	return h, nil
}

// A begun is the checksum of the first bytes of a block: it costs a quarter while these are still in the processor's cache.
type begun struct {
	sum uint32
	to  int
}

// goOn takes in everything up to byte to.
func (s *begun) goOn(block []byte, to int) {
	s.sum, s.to = crc32.Update(s.sum, castagnoli, block[s.to:to]), to
}

// checksum is that of a whole block, whose header may hold any checksum. s is that of its beginning, or zero.
func checksum(block []byte, h *header, s begun) uint32 {
	t := block[trailerAt:]
	var none [4]byte
	s.goOn(block, int(h.flowsEnd))
	sum := s.sum
	sum = crc32.Update(sum, castagnoli, t[:headerAt+crcAt])
	sum = crc32.Update(sum, castagnoli, none[:])
	return crc32.Update(sum, castagnoli, t[headerAt+crcAt+4:])
}

// finishBlock writes the trailer's frame, the header and the checksum. The bloom filter is there. s is the checksum of the block's beginning, or zero.
func finishBlock(block []byte, h *header, s begun) {
	t := block[trailerAt:]
	le.PutUint32(t, typeTrailer)
	le.PutUint32(t[4:], trailerSize)
	clear(t[bloomAt+bloomSize : trailerSize-4])
	le.PutUint32(t[trailerSize-4:], trailerSize)
	h.crc = 0
	h.put(t[headerAt:])
	h.crc = checksum(block, h, s)
	le.PutUint32(t[headerAt+crcAt:], h.crc)
}

// checkBlock reads the header of a whole block and verifies its checksum.
func checkBlock(block []byte) (header, error) {
	h, err := parseHeader(block[trailerAt:])
	if err != nil {
		return h, err
	}
	if checksum(block, &h, begun{}) != h.crc {
		return h, errors.New("its checksum is wrong: it was torn by a power cut, or damaged later")
	}
	return h, nil
}

// pad fills b with blocks for local use. len(b) is 0 or a multiple of 4 from localHead on.
func pad(b []byte) {
	for len(b) > 0 {
		n := min(len(b), maxLocal)
		if rest := len(b) - n; rest > 0 && rest < localHead {
			n -= localHead
		}
		le.PutUint32(b, typePadding)
		le.PutUint32(b[4:], uint32(n))
		clear(b[8 : n-4])
		le.PutUint32(b[n-4:], uint32(n))
		b = b[n:]
	}
}

// appendHead appends what a block begins with: a section header, and the descriptions of the interfaces, numbered as the source numbers them.
func appendHead(dst []byte, table []pipeline.Interface) []byte {
	start := len(dst)
	dst = pcapng.AppendSection(dst, pcapng.Section{Application: "Galvo", Length: blockSize})
	le.PutUint64(dst[start+16:], uint64(blockSize-(len(dst)-start)))
	for _, in := range table {
		dst = pcapng.AppendInterface(dst, pcapng.Interface{
			Name: in.Name, Description: in.Description, Link: in.Link, SpeedBits: in.SpeedBits, MAC: in.MAC,
		})
	}
	return dst
}

// emptyBlock makes a block that was never written. It has an interface, without which libpcap does not read a savefile that begins with it.
func emptyBlock(b []byte, id uint64) {
	head := appendHead(b[:0], []pipeline.Interface{{Link: packet.LinkEthernet}})
	h := header{ring: id, dataStart: uint32(len(head)), dataEnd: uint32(len(head)), flowsEnd: uint32(len(head)), first: math.MaxInt64, last: math.MinInt64}
	pad(b[len(head):trailerAt])
	clear(b[trailerAt:blockSize])
	finishBlock(b, &h, begun{})
}

// packetSize is what a packet block of so many captured bytes takes.
func packetSize(captured int, flags packet.Flags) int { return pcapng.PacketSize(captured, flags, nil) }

// A bloom filter has bloomSize bytes; 4 bits stand for a key. With 1100 keys, as a block of real traffic has, one of 5000 blocks is read in vain.
type bloom []byte

func (b bloom) addHash(h uint64) {
	for range 4 {
		b[h>>3&(bloomSize-1)] |= 1 << (h & 7)
		h >>= 15
	}
}

func (b bloom) has(key uint64) bool {
	h := bloomHash(key)
	for range 4 {
		if b[h>>3&(bloomSize-1)]>>(h&7)&1 == 0 {
			return false
		}
		h >>= 15
	}
	return true
}

// bloomHash is the finalizer of splitmix64.
func bloomHash(key uint64) uint64 {
	key = (key ^ key>>30) * 0xbf58476d1ce4e5b9
	key = (key ^ key>>27) * 0x94d049bb133111eb
	return key ^ key>>31
}
