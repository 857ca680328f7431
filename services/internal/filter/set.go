package filter

import (
	"fmt"
	"math/bits"
	"strings"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

// MaxSet is the number of filters that a Set has room for.
const MaxSet = 64

// A Set evaluates several filters on each packet and shares their work. What a filter must find in a packet to match (an address, a port, a
// protocol) is looked up once for all of them, only those that found theirs are evaluated, and a comparison that several filters make is evaluated
// once. A Set belongs to one worker. Bit i of a mask is filter i.
type Set struct {
	lone    test   // of the only filter; nil if there are more
	few     bool   // looking up would cost more than evaluating them all
	always  uint64 // to be evaluated whatever the packet has
	guarded uint64 // to be evaluated if the packet has what they look for
	sure    uint64 // what was found makes them Yes
	cut     uint64 // those found by address; to be evaluated where the IP header is cut off
	verdict uint64 // to be evaluated where the verdict is pending, partial, unknown or guessed
	tables  [fields]lookupTable
	tests   [MaxSet]test
	twins   [MaxSet]uint64 // the filter itself and those that say the same
	twinned bool           // some do
	memos   memos
}

// NewSet makes a Set of filters, MaxSet at most.
func NewSet(filters []*Filter) *Set {
	s := &Set{few: len(filters) < 4, memos: memos{epoch: new(uint32), uses: make(map[string]int), made: make(map[string]*memo)}}
	if len(filters) == 1 {
		s.lone = filters[0].test
		return s
	}
	first := make(map[string]int)
	for i, f := range filters {
		name := f.String() + f.env.identity(f.configured())
		if twin, ok := first[name]; ok {
			s.twins[twin] |= 1 << i
			s.twinned = true
			continue
		}
		first[name] = i
		s.twins[i] = 1 << i
		f.tree.walk(func(c *comparison) { s.memos.uses[c.identity(f.env)]++ })
	}
	for i, f := range filters {
		if s.twins[i] != 0 {
			s.add(i, f)
		}
	}
	for i := range s.tables {
		s.tables[i].settle()
	}
	return s
}

func (f *Filter) configured() bool {
	found := false
	f.tree.walk(func(c *comparison) { found = found || c.operand.configured })
	return found
}

func (s *Set) add(i int, f *Filter) {
	bit := uint64(1) << i
	if f.tree == nil {
		s.always |= bit
		s.tests[i] = f.test
		return
	}
	s.tests[i] = compile(f.tree, f.env, s.memos.leaf)
	guards, enough := f.tree.guards(f.env)
	if guards == nil || s.few {
		s.always |= bit
		return
	}
	s.guarded |= bit
	if enough {
		s.sure |= bit
	}
	for _, g := range guards {
		s.tables[g.field].add(g.lo, g.hi, bit)
		switch {
		case g.field <= net6destination:
			s.cut |= bit
		case g.field == protocolName:
			s.verdict |= bit
		}
	}
}

// Match evaluates every filter for p, with the flow that ref names, which may be nil, and that flow's verdict. It returns the filters whose result is
// Yes, and those whose result is Unknown.
func (s *Set) Match(p *packet.Packet, ref *flow.Ref, v l7.Verdict) (yes, unknown uint64) {
	if s.lone != nil {
		r := s.lone(p, ref, v)
		return uint64(r & Yes), uint64(r / Unknown) // their numbers are 1 and 2
	}
	return s.match(p, ref, v)
}

func (s *Set) match(p *packet.Packet, ref *flow.Ref, v l7.Verdict) (yes, unknown uint64) {
	if len(s.memos.made) != 0 {
		s.memos.next()
	}
	rest := s.always
	if s.guarded != 0 {
		found := s.lookup(p, v)
		yes = found & s.sure
		if p.Layers&(packet.PartIPv4|packet.PartIPv6) != 0 {
			found |= s.cut
		}
		if v.State == l7.Pending || v.State == l7.Partial || v.State >= l7.Guessed {
			found |= s.verdict
		}
		rest |= found &^ yes
	}
	for m := rest; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		switch s.tests[i%MaxSet](p, ref, v) {
		case Yes:
			yes |= 1 << i
		case Unknown:
			unknown |= 1 << i
		}
	}
	if s.twinned {
		yes, unknown = s.withTwins(yes), s.withTwins(unknown)
	}
	return yes, unknown
}

// withTwins adds the filters that say the same as one of the mask.
func (s *Set) withTwins(mask uint64) (all uint64) {
	for m := mask; m != 0; m &= m - 1 {
		all |= s.twins[bits.TrailingZeros64(m)]
	}
	return all
}

// lookup returns the filters that p has a key of.
func (s *Set) lookup(p *packet.Packet, v l7.Verdict) (found uint64) {
	t := &s.tables
	if s.cut != 0 {
		found = s.lookupAddresses(p)
	}
	if t[sourcePort].any|t[destinationPort].any != 0 && p.Layers&(packet.TCP|packet.UDP) != 0 {
		found |= t[sourcePort].find(uint64(p.SrcPort)) | t[destinationPort].find(uint64(p.DstPort))
	}
	if t[ipProtocol].any != 0 && p.Layers&packet.HasProto != 0 {
		found |= t[ipProtocol].find(uint64(p.Proto))
	}
	if t[sourceMAC].any|t[destinationMAC].any != 0 && p.Layers&packet.Ethernet != 0 {
		found |= t[sourceMAC].find(p.SrcMAC()) | t[destinationMAC].find(p.DstMAC())
	}
	if t[tagID].any != 0 {
		for i := range int(p.VLANs) {
			found |= t[tagID].find(uint64(p.TCI(i) & 0xfff))
		}
	}
	if s.verdict != 0 {
		found |= t[protocolName].find(uint64(v.Proto)) | t[protocolName].find(uint64(v.App))
	}
	return found
}

func (s *Set) lookupAddresses(p *packet.Packet) (found uint64) {
	t := &s.tables
	switch {
	case p.Layers&packet.IPv4 != 0:
		found = t[source4].find(uint64(p.Src4())) | t[destination4].find(uint64(p.Dst4()))
	case p.Layers&packet.IPv6 != 0:
		hi, lo := p.Src6()
		found = t[host6source].find(mix(hi, lo)) | t[net6source].find(hi)
		hi, lo = p.Dst6()
		found |= t[host6destination].find(mix(hi, lo)) | t[net6destination].find(hi)
	}
	return found
}

// A lookupTable finds the filters that look for a value: single values by hash, ranges one by one.
type lookupTable struct {
	any    uint64 // all filters in the table
	shift  uint8
	slots  []slot // open addressing, at most a sixteenth full: what is not there mostly meets an empty slot at once
	ranges []guarded
	single map[uint64]uint64 // until settle
}

type slot struct{ value, mask uint64 }

type guarded struct{ lo, size, mask uint64 }

func (t *lookupTable) add(lo, hi, mask uint64) {
	t.any |= mask
	if lo == hi {
		if t.single == nil {
			t.single = make(map[uint64]uint64)
		}
		t.single[lo] |= mask
		return
	}
	t.ranges = append(t.ranges, guarded{lo, hi - lo, mask})
}

func (t *lookupTable) settle() {
	if len(t.single) == 0 {
		return
	}
	width := bits.Len(uint(16*len(t.single) - 1))
	t.shift = uint8(64 - width)
	t.slots = make([]slot, 1<<width)
	for value, mask := range t.single {
		i := t.hash(value)
		for t.slots[i].mask != 0 {
			i = (i + 1) % uint64(len(t.slots))
		}
		t.slots[i] = slot{value, mask}
	}
	t.single = nil
}

func (t *lookupTable) hash(value uint64) uint64 { return value * 0x9e3779b97f4a7c15 >> t.shift }

func (t *lookupTable) find(value uint64) uint64 {
	if t.any == 0 {
		return 0
	}
	return t.search(value)
}

func (t *lookupTable) search(value uint64) (found uint64) {
	if len(t.slots) > 0 {
		for i := t.hash(value); t.slots[i].mask != 0; i = (i + 1) & uint64(len(t.slots)-1) {
			if t.slots[i].value == value {
				found = t.slots[i].mask
				break
			}
		}
	}
	for i := range t.ranges {
		if r := &t.ranges[i]; value-r.lo <= r.size {
			found |= r.mask
		}
	}
	return found
}

// memos keep the results of comparisons that several filters make for the packet at hand.
type memos struct {
	epoch *uint32 // of the packet at hand
	uses  map[string]int
	made  map[string]*memo
}

type memo struct {
	epoch  uint32
	result Result // of ==
	test   test
}

// next forgets the results of the last packet.
func (m *memos) next() {
	*m.epoch++
	if *m.epoch != 0 {
		return
	}
	for _, made := range m.made {
		made.epoch = 0
	}
	*m.epoch = 1
}

// leaf makes the closure of a comparison; if it is made elsewhere too, or as its complement, one evaluation serves both.
func (m *memos) leaf(c *comparison, env *Env) test {
	name := c.identity(env)
	if m.uses[name] < 2 {
		return leaf(c, env)
	}
	made := m.made[name]
	if made == nil {
		made = &memo{test: c.operand.compile(c.set, env)}
		m.made[name] = made
	}
	epoch := m.epoch
	shared := func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
		if made.epoch != *epoch {
			made.epoch, made.result = *epoch, made.test(p, ref, v)
		}
		return made.result
	}
	if c.op == "!=" {
		return negate(shared)
	}
	return shared
}

// identity is equal for comparisons that mean the same or the opposite.
func (c *comparison) identity(env *Env) string {
	op := c.op
	if op == "!=" {
		op = "=="
	}
	return c.operand.name + op + strings.Join(c.set.text, ",") + env.identity(c.operand.configured)
}

// identity is equal for environments in which the same text means the same.
func (e *Env) identity(configured bool) string {
	id := fmt.Sprintf(" %v %d %v %d", e.Guesses, e.Tunnels, e.SCTP, e.Fragments)
	if configured {
		id += fmt.Sprintf(" %p", e)
	}
	return id
}
