package block

import (
	"math/bits"
	"math/rand/v2"

	"galvo/services/internal/filter"
	"galvo/services/internal/packet"
	"galvo/services/internal/ring/opentable"
)

// keySets are sets of keys that packets of a block have together, and that are listed once. Whatever a set is known by is hashed with a seed, so that nobody can make
// packets whose keys are taken for those of others.
type keySets struct {
	list  []keySet
	table opentable.Table[uint16] // place in list + 1
	seed  [3]uint64
}

type keySet struct {
	hash   uint64
	chunks Chunks // that have packets with these keys
}

func newKeySets() keySets {
	return keySets{list: make([]keySet, 0, maxPackets), table: opentable.New[uint16](2 * opentable.PowerOfTwo(maxPackets)), seed: [3]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}}
}

// find returns the place of the set that is known by a hash, made if it was not found. Packets in chunks c have its keys.
func (s *keySets) find(hash uint64, c Chunks) (n uint16, found bool) {
	t := &s.table
	at := t.First(hash)
	for ; t.At[at] != 0; at = (at + 1) & (len(t.At) - 1) {
		n = t.At[at] - 1
		if one := &s.list[n]; one.hash == hash {
			one.chunks |= c
			return n, true
		}
	}
	n = uint16(len(s.list))
	s.list = append(s.list, keySet{hash, c})
	t.At[at] = n + 1
	if t.Full(len(s.list)) {
		t.Grow()
		for i := range s.list {
			t.Put(s.list[i].hash, uint16(i+1))
		}
	}
	return n, false
}

func (s *keySets) reset() {
	s.table.Reset(len(s.list))
	s.list = s.list[:0]
}

// hash returns what a set is known by that is nothing but its keys, in whatever order.
func (s *keySets) hash(keys []filter.Key) (h uint64) {
	for _, k := range keys {
		h += Hash(uint64(k) ^ s.seed[0])
	}
	return h
}

// frameType returns what the set of a packet's type keys is known by, if it has Ethernet and at most one tag.
func (s *keySets) frameType(p *packet.Packet) uint64 {
	return fold(typeOf(p)^s.seed[1], uint64(p.Layers)^s.seed[2])
}

// link returns a hash of all that a packet's type keys and MAC keys depend on, if it has Ethernet and at most one tag. It is the same for both directions, and not 0.
func (s *keySets) link(p *packet.Packet) uint64 {
	word := typeOf(p)
	if p.VLANs != 0 {
		word |= uint64(p.TCI(0)) << 48
	}
	mac := (*[12]byte)(p.Data[p.MACAt:])
	pair := fold(le.Uint64(mac[:])<<16^s.seed[0], le.Uint64(mac[4:])>>16<<16^s.seed[0])
	return max(fold(pair^uint64(p.Layers), word^s.seed[1]), 1)
}

// typeOf returns port, EtherType and TPID of a packet, in the lower 48 bits.
func typeOf(p *packet.Packet) uint64 {
	word := uint64(p.Iface) | uint64(p.EtherType)<<16
	if p.VLANs != 0 {
		word |= uint64(p.TPID(0)) << 32
	}
	return word
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
