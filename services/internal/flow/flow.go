// Package flow keeps one worker's table of flows: both directions of a 5-tuple share a record.
//
// The table has fixed memory, no locks and no pointers inside its records; one worker owns it. A tunnelled packet belongs to the
// flow of its innermost headers, which is what protocol recognition needs, and besides to the flow of its outermost headers,
// which is what the packet operands of a filter look at. Levels between the two have no record.
//
// Everything follows from the packets' times and order: the same packets give the same flows live and from a savefile, in batches of any
// size. Only a full table also looks at batches, because it may not take back what the current one was given. Times may step back a little,
// as merged savefiles do.
//
// The package does not reassemble, and it does not look at payload.
package flow

// An Endpoint is the index of one side of a flow: 0 is the sender of the first packet seen.
type Endpoint uint8

// A Record is one flow. It has 128 bytes and no pointer. It belongs to the table's worker; a record that was handed out
// for a packet stays the flow's until the next Begin. What each packet needs is in the first cache line: of a million flows none is in the cache.
type Record struct {
	Addr    [2][16]byte // IPv4 addresses in the first 4 bytes, the others 0
	Port    [2]uint16   // 0 where the protocol has none
	Proto   uint8       // IP protocol
	Flags   RecordFlags
	batch   uint16    // number of the batch that was given the record last
	Last    int64     // ns since the epoch, of the last packet
	Packets [2]uint32 // sent by the endpoint; saturating
	low     [2]uint32 // of the bytes that the endpoint sent

	ID     uint64 // unique within the table's life, ascending, from 1
	high   [2]uint32
	First  int64    // ns since the epoch, of the first packet
	isn    uint32   // sequence number of the SYN that opened the flow
	number uint32   // index in the table
	L7     [20]byte // owned by package l7; all zero in a new record
	// By sender, whether package stream has kept bytes of it.
	Streamed [2]bool
	// Where the ring's stage, that of one ring if there are several, looks for the flow first in the block that it builds. It may say anything: who reads it compares.
	Hint uint16
	_    [8]byte
}

// Bytes returns the length on the wire of the frames that an endpoint sent.
func (r *Record) Bytes(from Endpoint) uint64 {
	return uint64(r.high[from&1])<<32 | uint64(r.low[from&1])
}

// RecordFlags are facts about a flow.
type RecordFlags uint8

// The facts.
const (
	V6       RecordFlags = 1 << iota // addresses are IPv6
	Server1                          // endpoint 1 is the server side, else endpoint 0; fixed at the first packet
	Outside                          // the flow is only the outside of a tunnel
	Finished                         // FIN from both sides, or RST
	Ended                            // out of the table: expired, evicted, or its 5-tuple was opened anew
	opened                           // isn is known
	fin0                             // endpoint 0 sent FIN
	fin1                             // endpoint 1 did
)

// Server returns the endpoint that is the server side of the flow: the receiver of a SYN or the sender of a SYN-ACK. Without either, in the
// middle of a TCP connection: the side whose port is well known if only one is, else the lower port, else the receiver. For other protocols the
// receiver of the first packet, unless only its sender's port is well known.
func (r *Record) Server() Endpoint {
	if r.Flags&Server1 != 0 {
		return 1
	}
	return 0
}

// A Ref says which flow a packet belongs to. Records are nil where there is no IP, where ports that the protocol has are not known (cut off,
// or a fragment without its first one), where the flow does not matter (Config.Only), and where the table is full.
type Ref struct {
	Flow      *Record  // of the innermost headers
	Outer     *Record  // of the outermost headers; the same as Flow unless the packet is tunnelled
	From      Endpoint // the sender within Flow
	OuterFrom Endpoint
	Stream    *Stream // what the payload goes on with; nil if nobody asks for it, and where it is no segment of TCP. Valid until the next Begin
	Call      *Call   // calls that the packet belongs to, nil if none is known. Valid until the next Begin
	Host      []byte  // name of Flow's server, as package l7 learnt it from the packets so far; empty if none. Valid until the next Begin
}
