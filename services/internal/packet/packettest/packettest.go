// Package packettest crafts frames for tests and benchmarks: single headers by hand, and a seeded mix with the profile of real traffic.
//
// Checksums are left 0: nothing here looks at them.
package packettest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"galvo/services/internal/packet"
)

var be = binary.BigEndian

// Ethernet returns an Ethernet header with the type or length field et, followed by payload.
func Ethernet(et uint16, payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	return append(be.AppendUint16(b, et), payload...)
}

// Tag returns the tag control information tci and the type field et, followed by payload: what comes after a tag's own type field.
func Tag(tci, et uint16, payload []byte) []byte {
	return append(be.AppendUint16(be.AppendUint16(nil, tci), et), payload...)
}

// Label returns an MPLS label stack entry (RFC 3032) followed by payload.
func Label(label uint32, bottom bool, payload []byte) []byte {
	e := label<<12 | 64
	if bottom {
		e |= 1 << 8
	}
	return append(be.AppendUint32(nil, e), payload...)
}

// PPPoE returns a session header and a PPP protocol field, followed by payload.
func PPPoE(session, ppp uint16, payload []byte) []byte {
	b := []byte{0x11, 0}
	b = be.AppendUint16(b, session)
	b = be.AppendUint16(b, uint16(len(payload)+2))
	return append(be.AppendUint16(b, ppp), payload...)
}

// IP returns an IPv4 or IPv6 header, as the addresses are, followed by payload.
func IP(proto uint8, src, dst netip.Addr, payload []byte) []byte {
	if src.Is4() {
		return IPFragment(proto, src, dst, 0, 0x4000, payload)
	}
	b := make([]byte, 8, 40+len(payload))
	b[0] = 6 << 4
	be.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = proto, 64
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	return append(b, payload...)
}

// IPFragment returns an IPv4 header with identification id and the flags and offset field frag, followed by payload.
func IPFragment(proto uint8, src, dst netip.Addr, id, frag uint16, payload []byte) []byte {
	b := make([]byte, 12, 20+len(payload))
	b[0] = 0x45
	be.PutUint16(b[2:], uint16(20+len(payload)))
	be.PutUint16(b[4:], id)
	be.PutUint16(b[6:], frag)
	b[8], b[9] = 64, proto
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	return append(b, payload...)
}

// TCP returns a TCP header without options, followed by payload.
func TCP(sport, dport uint16, flags uint8, seq uint32, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	be.PutUint16(b, sport)
	be.PutUint16(b[2:], dport)
	be.PutUint32(b[4:], seq)
	b[12], b[13] = 5<<4, flags
	return append(b, payload...)
}

// UDP returns a UDP header followed by payload.
func UDP(sport, dport uint16, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	be.PutUint16(b, sport)
	be.PutUint16(b[2:], dport)
	be.PutUint16(b[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

// VXLAN returns a VXLAN header followed by payload.
func VXLAN(vni uint32, payload []byte) []byte {
	b := be.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	return append(b, payload...)
}

// GRE returns a GRE header without options followed by payload.
func GRE(et uint16, payload []byte) []byte {
	return append(be.AppendUint16([]byte{0, 0}, et), payload...)
}

// ARP returns an ARP request over Ethernet and IPv4.
func ARP(sender, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1}
	b = append(b, sender.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, target.AsSlice()...)
}

// Mix returns n frames of so many flows, with the profile that a mixture of 1,920 public captures has: 66 % TCP, 22 % UDP, 12 % IPv6, 4 % with
// VLAN tags, 1.4 % fragments, 3 % PPPoE, MPLS and tunnels; 334 bytes on average. The same seed gives the same frames. A flow's frames
// come in bursts, as they do on a wire, and go both ways.
func Mix(seed uint64, n, flows int) [][]byte {
	r := rand.New(rand.NewPCG(seed, seed))
	frames := make([][]byte, 0, n)
	for len(frames) < n {
		flow := r.IntN(flows)
		for range 1 + r.IntN(4) {
			frames = append(frames, frame(r, flow))
		}
	}
	return frames[:n]
}

// Packets returns the frames of Mix as packets that are not decoded yet, one microsecond apart, in one block of memory as a packet ring has them.
func Packets(seed uint64, n, flows int) []packet.Packet {
	packets := make([]packet.Packet, n)
	var block []byte
	for i, f := range Mix(seed, n, flows) {
		packets[i].Frame = packet.Frame{Len: uint32(len(f)), Time: int64(i) * 1000}
		block = append(block, f...)
	}
	for i := range packets {
		n := packets[i].Len
		packets[i].Data, block = block[:n:n], block[n:]
	}
	return packets
}

// Endpoints returns the addresses and ports of flow i of Mix, its client first.
func Endpoints(i int) (client, server netip.AddrPort) {
	n := uint32(i)
	if i%8 == 7 {
		var a, b [16]byte
		copy(a[:], "\x20\x01\x0d\xb8")
		copy(b[:], "\x20\x01\x0d\xb8\x00\x01")
		be.PutUint32(a[12:], n)
		be.PutUint32(b[12:], n%1021)
		return netip.AddrPortFrom(netip.AddrFrom16(a), uint16(20000+n%40000)), netip.AddrPortFrom(netip.AddrFrom16(b), 443)
	}
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	b := netip.AddrFrom4([4]byte{192, 168, byte(n % 13), byte(n % 251)})
	return netip.AddrPortFrom(a, uint16(20000+n%40000)), netip.AddrPortFrom(b, []uint16{443, 80, 53, 5060}[n%4])
}

func frame(r *rand.Rand, flow int) []byte {
	src, dst := Endpoints(flow)
	if r.IntN(2) == 0 {
		src, dst = dst, src
	}
	payload := make([]byte, size(r))
	kind := flow % 100
	switch {
	case kind < 68:
		return link(r, src, IP(6, src.Addr(), dst.Addr(), TCP(src.Port(), dst.Port(), 16, r.Uint32(), payload)))
	case kind < 92:
		if src.Addr().Is4() && r.IntN(20) == 0 {
			return Ethernet(0x0800, IPFragment(17, src.Addr(), dst.Addr(), uint16(r.Uint32()), uint16(r.IntN(2))<<13|uint16(r.IntN(2)), UDP(src.Port(), dst.Port(), payload)))
		}
		return link(r, src, IP(17, src.Addr(), dst.Addr(), UDP(src.Port(), dst.Port(), payload)))
	case kind < 95:
		return link(r, src, IP(1, src.Addr(), dst.Addr(), append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, payload...)))
	case kind < 97:
		return Ethernet(0x0806, ARP(netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{10, 0, 0, 2})))
	}
	inner := IP(6, src.Addr(), dst.Addr(), TCP(src.Port(), dst.Port(), 16, r.Uint32(), payload))
	a, b := netip.AddrFrom4([4]byte{172, 16, 0, 1}), netip.AddrFrom4([4]byte{172, 16, 0, 2})
	switch {
	case kind == 97:
		return Ethernet(0x0800, IP(17, a, b, UDP(uint16(flow), 4789, VXLAN(uint32(flow), link(r, src, inner)))))
	case kind == 98:
		return Ethernet(0x0800, IP(47, a, b, GRE(etherType(src), inner)))
	case src.Addr().Is4():
		return Ethernet(0x8864, PPPoE(7, 0x0021, inner))
	}
	return Ethernet(0x8847, Label(uint32(flow), true, inner))
}

// link puts an IP packet into Ethernet, some of it with a VLAN tag.
func link(r *rand.Rand, src netip.AddrPort, ip []byte) []byte {
	if r.IntN(25) == 0 {
		return Ethernet(0x8100, Tag(100, etherType(src), ip))
	}
	return Ethernet(etherType(src), ip)
}

func etherType(a netip.AddrPort) uint16 {
	if a.Addr().Is4() {
		return 0x0800
	}
	return 0x86dd
}

// size draws a payload length.
func size(r *rand.Rand) int {
	switch x := r.IntN(100); {
	case x < 21:
		return r.IntN(6)
	case x < 59:
		return 6 + r.IntN(64)
	case x < 73:
		return 70 + r.IntN(128)
	case x < 81:
		return 200 + r.IntN(256)
	case x < 84:
		return 460 + r.IntN(512)
	}
	return 1000 + r.IntN(446)
}
