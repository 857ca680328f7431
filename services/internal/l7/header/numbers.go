// Package header names protocols by numbers: what a header says comes next, from the link layer up to SCTP.
//
// The numbers are those of the key types in ../signature/table. A number alone may be damage: where the protocol behind it has a header with something to hold on to,
// that is looked at too. The package knows packets and no flows.
package header

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"

	"galvo/services/internal/l7/protocol"
)

// A Field is a field of a header whose numbers say what comes next.
type Field uint8

// The fields.
const (
	EtherType  Field = iota // after tags and SNAP
	LLC                     // destination service access point
	SNAP                    // organisation and its own protocol number
	NLPID                   // first byte of an OSI network layer packet (ISO/IEC TR 9577)
	Slow                    // subtype of the slow protocols (IEEE 802.3 annex 57A)
	PPP                     // protocol field of PPP
	IPProtocol              // IP protocol number
	PPID                    // payload protocol identifier of SCTP (RFC 9260 section 3.3.1)
)

// numberings says how the key types spells the fields, and their numbers: "ethertype:88cc" and the like.
var numberings = map[string]struct {
	Field
	base, bits int
}{
	"ethertype": {EtherType, 16, 16}, "llc": {LLC, 16, 8}, "snap": {SNAP, 16, 40}, "nlpid": {NLPID, 16, 8}, "slow": {Slow, 10, 8}, "ppp": {PPP, 16, 16},
	"ip": {IPProtocol, 10, 8}, "sctp": {PPID, 10, 32},
}

// A typeTable names what the numbers stand for: by field and number.
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

func typeKey(by Field, number uint64) uint64 { return uint64(by)<<56 | number }

// named returns the protocol that a number stands for, 0 if the table has none.
func named(by Field, number uint64) protocol.ID { return typesByNumber()[typeKey(by, number)] }

// IP returns the protocol that an IP protocol number names, or 0.
func IP(number uint8) protocol.ID { return named(IPProtocol, uint64(number)) }

// All returns the protocols that a number names, and which field has it. One that several numbers name comes several times.
func All() iter.Seq2[Field, protocol.ID] {
	return func(yield func(Field, protocol.ID) bool) {
		for key, id := range typesByNumber() {
			if !yield(Field(key>>56), id) {
				return
			}
		}
	}
}

// EtherTypes returns the protocols that an EtherType names, by that number.
func EtherTypes() map[uint16]protocol.ID {
	m := make(map[uint16]protocol.ID)
	for key, id := range typesByNumber() {
		if Field(key>>56) == EtherType {
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
			return fmt.Errorf("type %q: no such field of a header", text)
		}
		x, err := strconv.ParseUint(number, n.base, n.bits)
		if err != nil {
			return fmt.Errorf("type %q: %w", text, err)
		}
		key := typeKey(n.Field, x)
		if t[key] != 0 {
			return fmt.Errorf("type %q is taken", text)
		}
		t[key] = id
	}
	return nil
}
