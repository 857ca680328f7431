// Package pcapng reads savefiles in the pcap and pcapng formats and writes both. FORMAT.md beside it has the bytes.
//
// It is pure: it knows no file, no clock and no goroutine. A Reader takes bytes from an io.Reader in chunks and finds the frames in
// place; the frames borrow the chunk until the Reader's next Read. The Append functions write a block behind a slice of the caller
// and return it, as append does; they keep nothing, so that every sink and the ring can use them on memory of its own.
//
// It does not decompress, merge, name interfaces or decide what is lost: packages savefile and sink do.
package pcapng

import (
	"fmt"

	"galvo/services/internal/packet"
)

// An Interface is what an interface description block says. A pcap savefile has one, of which only the link type, the snap length and
// perhaps the length of the FCS are known.
type Interface struct {
	Name        string // "eth1"; may be empty
	Description string
	Filter      string // the capture filter, as text
	Link        packet.LinkType
	SnapLen     uint32 // 0 = no limit
	SpeedBits   uint64 // bit/s, 0 = unknown
	MAC         [6]byte
	FCSLen      uint8 // bytes of frame check sequence at the end of each frame in the savefile
}

// A Section is what a section header block says.
type Section struct {
	Hardware    string
	OS          string
	Application string // the program that wrote the section
	Comment     string
	Length      int64 // bytes of the section after its header; 0 = unknown, as in a stream
}

// Statistics is what an interface statistics block says. Times are ns since the epoch.
type Statistics struct {
	Time      int64  // of the statistics
	Start     int64  // of the capture
	End       int64  // of the capture
	Received  uint64 // frames that the port received (isb_ifrecv)
	Lost      uint64 // gone before any filter saw them (isb_ifdrop)
	Accepted  uint64 // the filter said yes (isb_filteraccept)
	Dropped   uint64 // matched, but the sink was too slow or full (isb_osdrop)
	Delivered uint64 // in this savefile (isb_usrdeliv)
	Comment   string
}

// An Error says where a savefile is damaged and why. Everything before Offset has been delivered.
type Error struct {
	What   string // "truncated", "damaged" or "unreadable"
	Offset int64  // of the record or block concerned, in bytes from the start of the uncompressed savefile
	Reason string
	Err    error // what the io.Reader said, if that was not io.EOF
}

// Error returns "truncated at offset 24: a packet record needs 60 bytes, 12 are left".
func (e *Error) Error() string { return fmt.Sprintf("%s at offset %d: %s", e.What, e.Offset, e.Reason) }

// Unwrap returns the error of the io.Reader, if there was one.
func (e *Error) Unwrap() error { return e.Err }

// Block types of draft-ietf-opsawg-pcapng, section 4.
const (
	blockInterface  = 1
	blockObsolete   = 2
	blockSimple     = 3
	blockStatistics = 5
	blockEnhanced   = 6
	blockSection    = 0x0A0D0D0A // the same in both byte orders
)

const byteOrderMagic = 0x1A2B3C4D

// Options, by the block that they belong to.
const (
	optEnd     = 0
	optComment = 1

	optHardware    = 2
	optOS          = 3
	optApplication = 4

	optName        = 2
	optDescription = 3
	optMAC         = 6
	optSpeed       = 8
	optTimeUnit    = 9
	optFilter      = 11
	optFCSLen      = 13
	optTimeOffset  = 14

	optFlags     = 2
	optDropCount = 4
	optPacketID  = 5
	optQueue     = 6

	optStart     = 2
	optStop      = 3
	optReceived  = 4
	optLost      = 5
	optAccepted  = 6
	optDropped   = 7
	optDelivered = 8
)

// Bits of the epb_flags option, section 4.3.1.
const (
	epbDirection  = 3          // 0 unknown, 1 inbound, 2 outbound: the values of packet.DirIn and packet.DirOut
	epbFCSShift   = 5          // length of the FCS in bytes, 4 bits, 0 = see the interface
	epbFCSMask    = 0xf        //
	epbCRCError   = 1 << 24    // the FCS was wrong
	epbPortErrors = 0xfe << 24 // length, gap, alignment, delimiter, preamble or symbol was wrong
)

// Magic numbers of pcap savefiles (draft-ietf-opsawg-pcap, section 4), as written in the byte order of the writer.
const (
	magicMicro    = 0xA1B2C3D4
	magicNano     = 0xA1B23C4D
	magicModified = 0xA1B2CD34 // records have 8 more bytes: interface index, protocol, packet type
)

func pad4(n int) int { return (n + 3) &^ 3 }
