package flow

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"galvo/services/internal/packet"
)

// A key is a 5-tuple as seen from the sender of a packet. Addresses are two words in the order of their bytes in memory; IPv4 addresses fill the
// first four bytes.
type key struct {
	src, dst [2]uint64
	sport    uint16
	dport    uint16
	proto    uint8
	v6       bool
}

const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// hasPorts reports whether flows of an IP protocol are told apart by ports.
func hasPorts(proto uint8) bool { return proto == protoTCP || proto == protoUDP || proto == protoSCTP }

// addresses fills in all but the ports from a packet with IP.
func (k *key) addresses(p *packet.Packet) {
	k.proto = p.Proto
	if p.Layers&packet.IPv4 != 0 {
		h := p.Data[p.L3 : p.L3+20]
		k.src = [2]uint64{uint64(binary.LittleEndian.Uint32(h[12:]))}
		k.dst = [2]uint64{uint64(binary.LittleEndian.Uint32(h[16:]))}
		return
	}
	h := p.Data[p.L3 : p.L3+40]
	k.v6 = true
	k.src = [2]uint64{binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])}
	k.dst = [2]uint64{binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])}
}

// fill reports whether the flow of a packet with IP is known.
func (k *key) fill(p *packet.Packet) bool {
	k.addresses(p)
	if !hasPorts(k.proto) {
		return true
	}
	k.sport, k.dport = p.SrcPort, p.DstPort
	return p.Ports()
}

// match compares the key with a record: ok if they are the same flow, and from is the sender.
func (k *key) match(r *Record) (from Endpoint, ok bool) {
	if r.Proto != k.proto || (r.Flags&V6 != 0) != k.v6 {
		return 0, false
	}
	a, b := words(&r.Addr[0]), words(&r.Addr[1])
	if a == k.src && b == k.dst && r.Port[0] == k.sport && r.Port[1] == k.dport {
		return 0, true
	}
	return 1, a == k.dst && b == k.src && r.Port[0] == k.dport && r.Port[1] == k.sport
}

func words(addr *[16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(addr[:8]), binary.LittleEndian.Uint64(addr[8:])}
}

func (k *key) store(r *Record) {
	r.Proto = k.proto
	r.Port = [2]uint16{k.sport, k.dport}
	if k.v6 {
		r.Flags |= V6
	}
	for i, w := range [2][2]uint64{k.src, k.dst} {
		binary.LittleEndian.PutUint64(r.Addr[i][:8], w[0])
		binary.LittleEndian.PutUint64(r.Addr[i][8:], w[1])
	}
}

// A seed keys the hash. It is random, so that nobody can prepare packets that fall into one bucket.
type seed [6]uint64

func newSeed() (s seed) {
	for i := range s {
		s[i] = rand.Uint64() | 1
	}
	return s
}

// hash is the same for both directions. It is of the multiply-and-fold kind of wyhash.
func (s *seed) hash(k *key) uint64 {
	a := fold(k.src[0]^s[0], k.src[1]^uint64(k.sport)*s[4]^s[1])
	b := fold(k.dst[0]^s[0], k.dst[1]^uint64(k.dport)*s[4]^s[1])
	return fold((a+b)^s[2], (a^b)^uint64(k.proto)*s[5]^s[3])
}

// datagram hashes what the fragments of one datagram have in common: addresses and identification, and for IPv4 the protocol; never 0.
func (s *seed) datagram(p *packet.Packet) uint64 {
	var k key
	k.addresses(p)
	if k.v6 {
		k.proto = 0
	}
	a := fold(k.src[0]^s[1], k.src[1]^s[2])
	b := fold(k.dst[0]^s[3]^a, k.dst[1]^s[4])
	return fold(b^uint64(p.ID())<<8^uint64(k.proto), a^s[5]) | 1
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// load is the inverse of store.
func (k *key) load(r *Record) {
	*k = key{src: words(&r.Addr[0]), dst: words(&r.Addr[1]), sport: r.Port[0], dport: r.Port[1], proto: r.Proto, v6: r.Flags&V6 != 0}
}
