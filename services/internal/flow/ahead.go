package flow

import (
	"encoding/binary"
	"math"

	"galvo/services/internal/packet"
)

// AheadMax is how many packets Ahead takes: enough that the memory that they need is fetched at the same time, few enough that their headers stay
// in the first-level cache until they are found.
const AheadMax = 16

// Lead is how many runs of packets are on their way while one is found.
const Lead = 2

// A run is packets that are looked at together.
type run struct {
	packets []packet.Packet
	probes  [AheadMax]probe   // of packets
	lines   [AheadMax]*uint64 // the second halves of the records that were guessed, else something at hand
	again   bool              // some have no guess
}

// Ahead announces packets, AheadMax at most, which FindAhead finds after Advance was called Lead times. It is called before each Advance, without packets at the end.
// With whole the second halves of the records are fetched, too, which what package l7 keeps is in. The packets must not change before they are found.
//
// The memory comes in steps, a run behind the other: Ahead begins to fetch the buckets of its packets, Advance the first halves of their records, the next Ahead
// the second halves. Between the steps others work. The processor has room for some 20 lines on their way, and lets go or waits for what is beyond: all at once
// took a fifth longer.
func (t *Table) Ahead(packets []packet.Packet, whole bool) {
	if r := &t.runs[(t.at+Lead-1)%len(t.runs)]; len(r.packets) > 0 {
		if whole {
			prefetch(&r.lines)
		}
		t.guessAgain(r)
	}
	r := &t.runs[(t.at+Lead)%len(t.runs)]
	r.packets = packets
	if len(packets) == 0 {
		return
	}
	for i := range packets {
		pr := &r.probes[i&(AheadMax-1)]
		pr.set(t, &packets[i])
		r.lines[i&(AheadMax-1)] = &t.index[t.first(pr.hash)][0]
	}
	prefetch(&r.lines)
}

// Advance goes on to the next run.
func (t *Table) Advance() {
	if r := &t.runs[(t.at+Lead)%len(t.runs)]; len(r.packets) > 0 {
		t.guess(r)
	}
	t.runs[t.at].packets = nil
	t.at = (t.at + 1) % len(t.runs)
	t.found = &t.runs[t.at]
}

// guess looks for the records of a run in their first buckets, and begins to fetch them; where there is none it fetches the second bucket.
func (t *Table) guess(r *run) {
	r.again = false
	for i := range r.packets {
		pr := &r.probes[i&(AheadMax-1)]
		r.lines[i&(AheadMax-1)] = &pr.hash
		if pr.none {
			continue
		}
		b := &t.index[t.first(pr.hash)]
		if m := b.candidates(tagOf(pr.hash)); m != 0 {
			pr.guess = b.record(m)
			r.lines[i&(AheadMax-1)] = &t.records[pr.guess-1].ID // with which the second half begins
		} else {
			prefetchLine(&t.index[t.second(pr.hash)][0])
			r.again = true
		}
	}
	prefetchBefore(&r.lines)
}

// guessAgain looks for those records of a run in their second buckets that guess did not find. One flow of 25 is there, and each new one is looked for there: to wait for
// two lines one after the other takes as long as several packets.
func (t *Table) guessAgain(r *run) {
	if !r.again {
		return
	}
	for i := range r.packets {
		pr := &r.probes[i&(AheadMax-1)]
		if pr.guess != 0 || pr.none {
			continue
		}
		b := &t.index[t.second(pr.hash)]
		if m := b.candidates(tagOf(pr.hash)); m != 0 {
			pr.guess = b.record(m)
			prefetchPair(&t.records[pr.guess-1].ID)
		}
	}
}

// forget ends all runs.
func (t *Table) forget() {
	for i := range t.runs {
		t.runs[i].packets = nil
	}
}

// A probe is what is known about the flow of a packet before it is looked up.
type probe struct {
	key
	hash  uint64
	guess uint32 // number of a record that may be the flow's, the first likely one of its buckets, plus 1; 0 = none
	none  bool   // the headers name no flow
}

// set takes the key from p.
func (pr *probe) set(t *Table, p *packet.Packet) {
	pr.guess, pr.none = 0, p.Layers&packet.IP == 0 || hasPorts[p.Proto] && !p.Ports()
	if pr.none {
		return
	}
	pr.ports = 0
	if hasPorts[p.Proto] {
		pr.ports = uint32(p.SrcPort) | uint32(p.DstPort)<<16
	}
	pr.kind = uint32(p.Proto)
	if p.Layers&packet.IPv4 == 0 {
		pr.addresses6(p)
		pr.hash = t.join.seed.hash6(&pr.key)
		return
	}
	w := binary.LittleEndian.Uint64(p.Data[int(p.L3)+12:])
	pr.src0, pr.src1, pr.dst0, pr.dst1 = w&math.MaxUint32, 0, w>>32, 0
	pr.hash = t.join.seed.hash4(&pr.key)
}
