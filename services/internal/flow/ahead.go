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
	probes  [AheadMax]probe  // of packets
	hashes  [AheadMax]uint64 // of probes; 0 where there is no flow to be found
	guesses [AheadMax]uint32 // for each probe the number of a record that may be the flow's, the first likely one of its buckets, plus 1; 0 = none
	again   bool             // some have no guess
	busy    uint32           // bit i is set unless the flow of packet i does not matter
}

// Ahead announces packets, AheadMax at most, which FindAhead finds after Advance was called Lead times. It is called before each Advance, without packets at the end.
// With whole the second halves of the records are fetched, too, which what package l7 keeps is in. The packets must not change before they are found.
//
// The memory comes in steps, a run behind the other: Ahead begins to fetch the buckets of its packets, Advance the first halves of their records, the next Ahead
// the second halves. Between the steps others work. The processor has room for some 20 lines on their way, and lets go or waits for what is beyond: all at once
// took a fifth longer.
func (t *Table) Ahead(packets []packet.Packet, whole bool) {
	if r := &t.runs[(t.at+Lead-1)%len(t.runs)]; len(r.packets) > 0 {
		if whole && r.busy != 0 {
			prefetchRecords(&t.records[0], secondHalf, &r.guesses)
		}
		t.guessAgain(r)
	}
	r := &t.runs[(t.at+Lead)%len(t.runs)]
	r.packets = packets
	if len(packets) == 0 {
		return
	}
	if t.cfg.Only != nil {
		t.probeSome(r)
	} else {
		t.probeAll(r)
	}
	if r.busy != 0 {
		prefetchBuckets(&t.index[0], t.mask, &r.hashes)
	}
}

func (t *Table) probeAll(r *run) {
	r.busy = 1<<AheadMax - 1
	for i := range r.packets {
		r.hashes[i&(AheadMax-1)] = r.probes[i&(AheadMax-1)].set(&t.join.seed, &r.packets[i])
	}
}

// probeSome is probeAll for the packets whose flow matters.
func (t *Table) probeSome(r *run) {
	only, busy := t.cfg.Only, uint32(0)
	r.hashes = [AheadMax]uint64{}
	for i := range r.packets {
		if p := &r.packets[i]; p.Layers&(packet.Tunnel|packet.Fragment) != 0 || only(p) {
			r.hashes[i&(AheadMax-1)] = r.probes[i&(AheadMax-1)].set(&t.join.seed, p)
			busy |= 1 << i
		}
	}
	r.busy = busy
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
	r.guesses = [AheadMax]uint32{}
	if r.busy == 0 {
		return
	}
	index, mask := t.index, t.mask
	for i, h := range r.hashes[:len(r.packets)] {
		if h == 0 {
			continue
		}
		b := &index[int(h>>32)&mask]
		if m := b.candidates(tagOf(h)); m != 0 {
			r.guesses[i] = b.record(m)
		} else {
			prefetchLine(&t.index[t.second(h)][0])
			r.again = true
		}
	}
	prefetchRecords(&t.records[0], firstHalf, &r.guesses)
}

// guessAgain looks for those records of a run in their second buckets that guess did not find. One flow of 25 is there, and each new one is looked for there: to wait for
// two lines one after the other takes as long as several packets.
func (t *Table) guessAgain(r *run) {
	if !r.again {
		return
	}
	for i, h := range r.hashes[:len(r.packets)] {
		if h == 0 || r.guesses[i] != 0 {
			continue
		}
		b := &t.index[t.second(h)]
		if m := b.candidates(tagOf(h)); m != 0 {
			r.guesses[i] = b.record(m)
			prefetchPair(&t.records[r.guesses[i]-1].ID)
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
	plain bool // neither a tunnel's nor a fragment, and nothing that begins or ends a flow
}

// set takes the key from p and returns its hash; 0 if the headers name no flow.
func (pr *probe) set(s *seed, p *packet.Packet) uint64 {
	pr.plain = p.Layers&(packet.Tunnel|packet.Fragment)|packet.Layers(p.TCPBits&(syn|fin|rst)) == 0
	ported := hasPorts[p.Proto]
	if p.Layers&packet.IP == 0 || ported && !p.Ports() {
		return 0
	}
	if p.Layers&packet.IPv4 == 0 {
		pr.kind, pr.ports = uint32(p.Proto), 0
		pr.addresses6(p)
		if ported {
			pr.ports = uint32(p.SrcPort) | uint32(p.DstPort)<<16
		}
		return s.hash6(&pr.key)
	}
	w := binary.LittleEndian.Uint64(p.Data[int(p.L3)+12:])
	src, dst := w&math.MaxUint32, w>>32
	if ported {
		src |= uint64(p.SrcPort) << 32
		dst |= uint64(p.DstPort) << 32
	}
	pr.src0, pr.dst0, pr.kind = src, dst, uint32(p.Proto)
	return s.both(src, dst, uint32(p.Proto))
}
