package l7

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"

	"galvo/services/internal/l7/protocol"
)

// A numbering is a field of a header whose numbers say what comes next.
type numbering uint8

// The numberings.
const (
	byEtherType  numbering = iota // after tags and SNAP
	byLLC                         // destination service access point
	bySNAP                        // organisation and its own protocol number
	byNLPID                       // first byte of an OSI network layer packet (ISO/IEC TR 9577)
	bySlow                        // subtype of the slow protocols (IEEE 802.3 annex 57A)
	byPPP                         // protocol field of PPP
	byIPProtocol                  // IP protocol number
	byPPID                        // payload protocol identifier of SCTP (RFC 9260 section 3.3.1)
)

// numberings says how the key types spells them: "ethertype:88cc" and the like.
var numberings = map[string]struct {
	numbering
	base, bits int
}{
	"ethertype": {byEtherType, 16, 16}, "llc": {byLLC, 16, 8}, "snap": {bySNAP, 16, 40}, "nlpid": {byNLPID, 16, 8}, "slow": {bySlow, 10, 8}, "ppp": {byPPP, 16, 16},
	"ip": {byIPProtocol, 10, 8}, "sctp": {byPPID, 10, 32},
}

// A typeTable names what the numbers stand for: by numbering and number.
type typeTable map[uint64]protocol.ID

// typesByNumber is the table that the program carries.
var typesByNumber = sync.OnceValue(func() typeTable {
	t := make(typeTable)
	for _, p := range protocol.Signatures().Protocols {
		if err := t.add(protocol.ID(p.ID), p.Types); err != nil {
			panic(fmt.Sprintf("header: embedded signatures: protocol %s: %v", p.Name, err))
		}
	}
	return t
})

func typeKey(by numbering, number uint64) uint64 { return uint64(by)<<56 | number }

// named returns the protocol that a number stands for, 0 if the table has none.
func named(by numbering, number uint64) protocol.ID { return typesByNumber()[typeKey(by, number)] }

// byIP returns the protocol that an IP protocol number names, or 0.
func byIP(number uint8) protocol.ID { return named(byIPProtocol, uint64(number)) }

// allNumbered returns the protocols that a number names, and which field has it. One that several numbers name comes several times.
func allNumbered() iter.Seq2[numbering, protocol.ID] {
	return func(yield func(numbering, protocol.ID) bool) {
		for key, id := range typesByNumber() {
			if !yield(numbering(key>>56), id) {
				return
			}
		}
	}
}

// EtherTypes returns the protocols that an EtherType names, by that number.
func EtherTypes() map[uint16]protocol.ID {
	m := make(map[uint16]protocol.ID)
	for key, id := range typesByNumber() {
		if numbering(key>>56) == byEtherType {
			m[uint16(key)] = id
		}
	}
	return m
}

// add notes the types of a protocol as they are written in a signature file.
func (t typeTable) add(id protocol.ID, types []string) error {
	for _, text := range types {
		kind, number, _ := strings.Cut(text, ":")
		n, ok := numberings[kind]
		if !ok {
			return fmt.Errorf("type %q: no such numbering", text)
		}
		x, err := strconv.ParseUint(number, n.base, n.bits)
		if err != nil {
			return fmt.Errorf("type %q: %w", text, err)
		}
		key := typeKey(n.numbering, x)
		if t[key] != 0 {
			return fmt.Errorf("type %q is taken", text)
		}
		t[key] = id
	}
	return nil
}
