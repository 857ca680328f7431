// Package flow keeps one worker's table of flows: both directions of a 5-tuple share a record.
//
// The table has fixed memory, no locks and no pointers inside its records; one worker owns it. A tunnelled packet belongs to the
// flow of its innermost headers, which is what protocol recognition needs, and besides to the flow of its outermost headers,
// which is what the packet operands of a filter look at.
package flow

import "galvo/services/internal/packet"

// An Endpoint is the index of one side of a flow: 0 is the sender of the first packet seen.
type Endpoint uint8

// A Record is one flow. It has at most 128 bytes and no pointer. It belongs to the table's worker; a record that was handed out
// for a packet stays the flow's until the next Begin.
type Record struct {
	ID      uint64      // unique within the table's life
	First   int64       // ns since the epoch, of the first packet
	Last    int64       // of the last packet
	Addr    [2][16]byte // IPv4 addresses in the first 4 bytes
	Port    [2]uint16   // 0 where the protocol has none
	Packets [2]uint32   // sent by the endpoint; saturating
	Bytes   [2]uint64   // length on the wire
	Proto   uint8       // IP protocol
	Flags   RecordFlags
	TCP     [2]uint8 // union of the TCP flags that the endpoint sent
	L7      [20]byte // owned by package l7; all zero in a new record
}

// RecordFlags are facts about a flow.
type RecordFlags uint8

// The facts.
const (
	V6       RecordFlags = 1 << iota // addresses are IPv6
	Server1                          // endpoint 1 is the server side, else endpoint 0; fixed at the first packet
	Outside                          // the flow is only the outside of a tunnel
	Finished                         // FIN from both sides, or RST
)

// Server returns the endpoint that is the server side of the flow: the receiver of a SYN or sender of a SYN-ACK; else the
// destination of the first packet unless only its source is a well-known port (see Table).
func (r *Record) Server() Endpoint {
	if r.Flags&Server1 != 0 {
		return 1
	}
	return 0
}

// A Ref says which flow a packet belongs to. Records are nil where there is no IP, the headers are cut off, or the table is full.
type Ref struct {
	Flow      *Record  // of the innermost headers
	Outer     *Record  // of the outermost headers; the same as Flow unless the packet is tunnelled
	From      Endpoint // the sender within Flow
	OuterFrom Endpoint
}

// ensure the import is used until the table is here
var _ packet.Layers
