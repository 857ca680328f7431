package l7

import (
	"encoding/binary"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/l7/store"
)

// A state is what the engine keeps of a flow in its record (flow.Record.L7), 20 bytes without pointers:
//
//	 0     State in the low 3 bits, flags in the others
//	 1     dissector that goes on with a partial flow, or that holds the memory of a pending one: its row + 1
//	 2-3   carrier
//	 4-5   application
//	 6-7   packets with payload, per endpoint; saturating
//	 8     packets of both directions while undecided; saturating
//	 9     the same at the last change of carrier or application
//	10-11  payload bytes so far; saturating
//	12-13  slot of the store that keeps the flow's bytes, + 1
//	14-15  first packet with payload: time since the record's First, in ticks; saturating
//	       both 10-11 and 14-15, once the search is over: see noMedia
//	16-19  memory of the dissector; with hasName the store.Name of the host name
type state = [20]byte

// tick is the unit of the time that a state can hold: 4.2 ms, so that 16 bits reach 275 s. A flow that is silent for longer before its first payload has
// only that one packet to be recognised by.
const tick = 1 << 22

// The flags in a state's first byte.
const (
	sawSYN  = 1 << 4 // the beginning of the TCP connection was seen
	settled = 1 << 5 // nothing more is looked at
	hasName = 1 << 6 // the last four bytes are the host name's, else a dissector's memory
	watched = 1 << 7 // a watcher sees the payloads, after the verdict too
)

func stateOf(s *state) State { return State(s[0] & 7) }

func setState(s *state, to State) { s[0] = s[0]&^7 | byte(to) }

func protoOf(s *state) protocol.ID { return protocol.ID(binary.LittleEndian.Uint16(s[2:])) }

func appOf(s *state) protocol.ID { return protocol.ID(binary.LittleEndian.Uint16(s[4:])) }

func setNames(s *state, proto, app protocol.ID) {
	binary.LittleEndian.PutUint16(s[2:], uint16(proto))
	binary.LittleEndian.PutUint16(s[4:], uint16(app))
}

func get16(s *state, at int) uint16 { return binary.LittleEndian.Uint16(s[at:]) }

func put16(s *state, at int, v uint16) { binary.LittleEndian.PutUint16(s[at:], v) }

// noMedia is the number of changes of the calls' table up to which a settled flow was found in no call; it lies where the search had its counters.
func noMedia(s *state) uint32 { return uint32(get16(s, 10)) | uint32(get16(s, 14))<<16 }

func setNoMedia(s *state, changes uint32) {
	put16(s, 10, uint16(changes))
	put16(s, 14, uint16(changes>>16))
}

func memory(s *state) *[4]byte { return (*[4]byte)(s[16:20]) }

// hostOf returns where the host name is.
func hostOf(s *state) store.Name {
	if s[0]&hasName == 0 {
		return 0
	}
	return store.Name(binary.LittleEndian.Uint32(s[16:]))
}

func setHost(s *state, r store.Name) {
	s[0] |= hasName
	binary.LittleEndian.PutUint32(s[16:], uint32(r))
}

// count adds one to a byte that stays at 255.
func count(b *byte) {
	if *b != 255 {
		*b++
	}
}

func verdict(s *state) Verdict {
	st := stateOf(s)
	if st == NoFlow {
		st = Pending
	}
	return Verdict{protoOf(s), appOf(s), st}
}

// VerdictOf returns what is known about a flow now. A record that the engine has not met is Pending.
func VerdictOf(r *flow.Record) Verdict { return verdict(&r.L7) }

// DPIPackets returns the number of packets of the flow, in both directions, up to the one that decided its carrier and application; 0 without
// a verdict, or if that was given up.
func DPIPackets(r *flow.Record) int {
	if s := stateOf(&r.L7); s != Partial && s != Final {
		return 0
	}
	return int(r.L7[9])
}
