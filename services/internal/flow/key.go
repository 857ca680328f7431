package flow

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"

	"galvo/services/internal/packet"
)

// A key is a 5-tuple as seen from the sender of a packet. Addresses are words in the order of their bytes in memory: of IPv6 two; of IPv4 the lower half of the first
// one, whose upper half has the port, so that one word tells an end from another.
type key struct {
	src0, dst0 uint64
	src1, dst1 uint64 // of IPv6
	ports      uint32 // of IPv6, the sender's in the lower half
	kind       uint32 // IP protocol, and v6
}

// v6 in a kind says that the addresses are IPv6.
const v6 = uint32(V6) << 8

const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// hasPorts says which IP protocols' flows are told apart by ports.
var hasPorts = [256]bool{protoTCP: true, protoUDP: true, protoSCTP: true}

// addresses fills in all but the ports from a packet with IP.
func (k *key) addresses(p *packet.Packet) {
	k.kind = uint32(p.Proto)
	if p.Layers&packet.IPv4 == 0 {
		k.addresses6(p)
		return
	}
	w := binary.LittleEndian.Uint64(p.Data[int(p.L3)+12:])
	k.src0, k.src1, k.dst0, k.dst1 = w&math.MaxUint32, 0, w>>32, 0
}

func (k *key) addresses6(p *packet.Packet) {
	h := p.Data[p.L3:][:40]
	k.kind |= v6
	k.src0, k.src1 = binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])
	k.dst0, k.dst1 = binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])
}

func (k *key) sport() uint16 {
	if k.kind&v6 != 0 {
		return uint16(k.ports)
	}
	return uint16(k.src0 >> 32)
}

func (k *key) dport() uint16 {
	if k.kind&v6 != 0 {
		return uint16(k.ports >> 16)
	}
	return uint16(k.dst0 >> 32)
}

// match compares the key with a record: ok if it is the flow's and in the table, and from is the sender. The direction is computed, not
// decided: a branch that is often mispredicted costs as much as the rest.
func (k *key) match(r *Record) (from Endpoint, ok bool) {
	if k.kind != r.kind() {
		return 0, false
	}
	if k.kind&v6 == 0 {
		return direction(k.compare4(r))
	}
	ports := r.ports()
	a, b := r.address(0, 0), r.address(1, 0)
	forth := (a ^ k.src0) | (b ^ k.dst0) | uint64(ports^k.ports)
	reply := (a ^ k.dst0) | (b ^ k.src0) | uint64(ports^bits.RotateLeft32(k.ports, 16))
	a, b = r.address(0, 8), r.address(1, 8)
	return direction(forth|(a^k.src1)|(b^k.dst1), reply|(a^k.dst1)|(b^k.src1))
}

// compare4 compares an IPv4 key with a record of its kind: forth is 0 if it is the flow's and endpoint 0 is the sender, and reply if endpoint 1 is.
func (k *key) compare4(r *Record) (forth, reply uint64) {
	a, b := r.address(0, 0)|uint64(r.Port[0])<<32, r.address(1, 0)|uint64(r.Port[1])<<32
	return (a ^ k.src0) | (b ^ k.dst0), (a ^ k.dst0) | (b ^ k.src0)
}

// direction says of the two comparisons whether one holds, and the sender.
func direction(forth, reply uint64) (from Endpoint, ok bool) {
	if forth != 0 {
		from = 1
	}
	return from, min(forth, reply) == 0
}

// store puts the key into a new record, whose addresses are all 0.
func (k *key) store(r *Record) {
	r.Proto = uint8(k.kind)
	r.Port = [2]uint16{k.sport(), k.dport()}
	r.Flags |= RecordFlags(k.kind >> 8)
	if k.kind&v6 == 0 {
		binary.LittleEndian.PutUint32(r.Addr[0][:], uint32(k.src0))
		binary.LittleEndian.PutUint32(r.Addr[1][:], uint32(k.dst0))
		return
	}
	binary.LittleEndian.PutUint64(r.Addr[0][:8], k.src0)
	binary.LittleEndian.PutUint64(r.Addr[0][8:], k.src1)
	binary.LittleEndian.PutUint64(r.Addr[1][:8], k.dst0)
	binary.LittleEndian.PutUint64(r.Addr[1][8:], k.dst1)
}

// load takes the key from a record in the table: it is the inverse of store.
func (k *key) load(r *Record) {
	k.kind = r.kind()
	a, b := r.address(0, 0), r.address(1, 0)
	if k.kind&v6 == 0 {
		k.src0, k.dst0 = a|uint64(r.Port[0])<<32, b|uint64(r.Port[1])<<32
		return
	}
	k.src0, k.dst0, k.src1, k.dst1, k.ports = a, b, r.address(0, 8), r.address(1, 8), r.ports()
}

// address returns the word at a byte of an endpoint's address.
func (r *Record) address(side Endpoint, at int) uint64 {
	return binary.LittleEndian.Uint64(r.Addr[side][at:])
}

func (r *Record) ports() uint32 { return uint32(r.Port[0]) | uint32(r.Port[1])<<16 }
func (r *Record) kind() uint32  { return uint32(r.Proto) | uint32(r.Flags&(V6|Ended))<<8 }

// A seed keys the hash. It is random, so that nobody can prepare packets that fall into one bucket.
type seed [6]uint64

func newSeed() (s seed) {
	for i := range s {
		s[i] = rand.Uint64() | 1
	}
	return s
}

// hash is the same for both directions, and never 0. It is of the multiply-and-fold kind of wyhash.
func (s *seed) hash(k *key) uint64 {
	if k.kind&v6 != 0 {
		return s.hash6(k)
	}
	return s.hash4(k)
}

func (s *seed) hash4(k *key) uint64 { return s.both(k.src0, k.dst0, k.kind) }

func (s *seed) hash6(k *key) uint64 {
	a := fold(k.src0^s[0], k.src1^uint64(k.ports&0xffff)*s[4]^s[1])
	b := fold(k.dst0^s[0], k.dst1^uint64(k.ports>>16)*s[4]^s[1])
	return s.both(a, b, k.kind)
}

func (s *seed) both(a, b uint64, kind uint32) uint64 {
	return max(fold(fold(a^s[2], b^s[2])^s[3], uint64(kind)^s[5]), 1)
}

// datagram hashes what the fragments of one datagram have in common: addresses and identification, and for IPv4 the protocol; never 0.
func (s *seed) datagram(p *packet.Packet) uint64 {
	var k key
	k.addresses(p)
	proto := uint64(p.Proto)
	if k.kind&v6 != 0 {
		proto = 0
	}
	a := fold(k.src0^s[1], k.src1^s[2])
	b := fold(k.dst0^s[3]^a, k.dst1^s[4])
	return fold(b^uint64(p.ID())<<8^proto, a^s[5]) | 1
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
