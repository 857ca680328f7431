// Package filter is the expert filter language: scan, parse, check, compile, one file each, and a canonical printer.
//
// An expression compiles to closures with three-valued results. Matching allocates nothing, takes no lock and keeps no packet.
// A Filter is immutable and may be used by several workers at once; a Set, which shares work between the filters of many captures,
// belongs to one worker.
package filter

// A Result is the value of an expression for a packet: Kleene's three values.
type Result uint8

// The results. Unknown means that the flow of the packet has no verdict yet, so the answer may still become Yes or No.
const (
	No Result = iota
	Yes
	Unknown
)
