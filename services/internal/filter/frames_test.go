package filter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"galvo/services/internal/packet"
)

// Bytes of headers, written out as the specifications draw them.

func ethernet(dst, src string, etherType uint16, rest ...[]byte) []byte {
	return join(append([][]byte{macBytes(dst), macBytes(src), u16(etherType)}, rest...)...)
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func macBytes(text string) []byte {
	value, _, _ := parseOctets(text)
	return binary.BigEndian.AppendUint64(nil, value)[2:]
}

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func addrBytes(text string) []byte { return netip.MustParseAddr(text).AsSlice() }

// tagged is the control information and the type that follows a tag's own type.
func tagged(pcp, id, next uint16) []byte { return join(u16(pcp<<13|id), u16(next)) }

func labelled(number, class uint32, bottom bool) []byte {
	entry := number<<12 | class<<9 | 64
	if bottom {
		entry |= 1 << 8
	}
	return u32(entry)
}

type ip4 struct {
	src, dst     string
	proto        uint8
	tos, ttl     uint8
	id, fragment uint16 // flags and offset as in the header
}

func (h ip4) over(payload ...[]byte) []byte {
	body := join(payload...)
	head := join([]byte{0x45, h.tos}, u16(uint16(20+len(body))), u16(h.id), u16(h.fragment), []byte{h.ttl, h.proto}, u16(0), addrBytes(h.src), addrBytes(h.dst))
	sum := uint32(0)
	for i := 0; i < len(head); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(head[i:]))
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(head[10:], ^uint16(sum))
	return append(head, body...)
}

type ip6 struct {
	src, dst string
	next     uint8
	class    uint8
	hops     uint8
}

func (h ip6) over(payload ...[]byte) []byte {
	body := join(payload...)
	return join(u32(6<<28|uint32(h.class)<<20), u16(uint16(len(body))), []byte{h.next, h.hops}, addrBytes(h.src), addrBytes(h.dst), body)
}

func tcpSegment(src, dst uint16, flags uint8, payload string) []byte {
	return join(u16(src), u16(dst), u32(1), u32(1), []byte{5 << 4, flags}, u16(1024), u16(0), u16(0), []byte(payload))
}

func udpDatagram(src, dst uint16, payload []byte) []byte {
	return join(u16(src), u16(dst), u16(uint16(8+len(payload))), u16(0), payload)
}

const (
	hostA, hostB = "00:1b:1b:00:00:01", "00:1c:06:00:00:02"
	mcastMAC     = "01:00:5e:7f:ff:fa"
	everyone     = "ff:ff:ff:ff:ff:ff"
)

// zoo is a frame of every kind that an operand looks at.
func zoo() map[string][]byte {
	a, b := "10.0.0.1", "192.0.2.7"
	udp4 := ip4{src: a, dst: b, proto: 17, ttl: 64, tos: 46 << 2}
	sip := "INVITE sip:b@example.org SIP/2.0\r\nVia: x\r\nCall-ID : a84b4c76e66710 \r\nP-Palladion-ID: leg-2\r\n\r\n"
	compact := "SIP/2.0 200 OK\r\ni:short-one\r\nAv-Global-Session-ID: glob\r\n\r\ni: body\r\n"
	rtp := join([]byte{0x80, 0x00}, u16(7), u32(160), u32(0x1234), make([]byte, 160))
	rpc := make([]byte, 100)
	copy(rpc, []byte{4, 0, 0x20, 0, 0x10})
	copy(rpc[24:], []byte{0x01, 0, 0xa0, 0xde, 0x97, 0x6c, 0xd1, 0x11, 0x82, 0x71, 0x00, 0xa0, 0x24, 0x42, 0xdf, 0x7d})
	rpc[68] = 5
	inner := ethernet(hostB, hostA, 0x0800, ip4{src: "172.16.0.1", dst: "172.16.0.2", proto: 6, ttl: 9}.over(tcpSegment(1111, 2222, 0x12, "inner")))
	igmp3 := join([]byte{0x22, 0}, u16(0), u16(0), u16(2),
		[]byte{4, 0}, u16(1), addrBytes("239.1.2.3"), addrBytes("10.9.9.9"), []byte{3, 0}, u16(0), addrBytes("239.255.255.250"))
	mld2 := join([]byte{143, 0}, u16(0), u16(0), u16(1), []byte{4, 0}, u16(0), addrBytes("ff02::1:3"))
	mld1 := join([]byte{131, 0}, u16(0), u32(0), addrBytes("ff02::fb"))
	arp := join(u16(1), u16(0x0800), []byte{6, 4}, u16(1), macBytes(hostA), addrBytes("192.168.1.1"), make([]byte, 6), addrBytes("192.168.1.9"))
	ptp := func(kind, version uint8) []byte { return join([]byte{kind, version}, u16(44), make([]byte, 60)) }
	return map[string][]byte{
		"tcp syn":       ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 6, ttl: 64, fragment: 0x4000}.over(tcpSegment(40000, 80, 0x02, ""))),
		"tcp syn ack":   ethernet(hostA, hostB, 0x0800, ip4{src: b, dst: a, proto: 6, ttl: 4}.over(tcpSegment(80, 40000, 0x12, ""))),
		"tcp data":      ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 6, ttl: 64}.over(tcpSegment(40000, 80, 0x18, "GET / HTTP/1.1\r\nHost: allegro\r\n\r\n"))),
		"udp dscp":      ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(5353, 53, []byte("question")))),
		"udp6":          ethernet(hostB, hostA, 0x86dd, ip6{src: "2001:db8::1", dst: "2001:db8:0:1::2", next: 17, class: 34 << 2, hops: 3}.over(udpDatagram(500, 123, make([]byte, 48)))),
		"hop by hop":    ethernet(hostB, hostA, 0x86dd, ip6{src: "fe80::1", dst: "ff02::16", next: 0, hops: 1}.over([]byte{58, 0, 5, 2, 0, 0, 1, 0}, mld2)),
		"mld1":          ethernet(hostB, hostA, 0x86dd, ip6{src: "fe80::1", dst: "ff02::fb", next: 58, hops: 1}.over(mld1)),
		"igmp3":         ethernet(mcastMAC, hostA, 0x0800, ip4{src: a, dst: "224.0.0.22", proto: 2, ttl: 1}.over(igmp3)),
		"igmp2":         ethernet(mcastMAC, hostA, 0x0800, ip4{src: a, dst: "239.1.1.1", proto: 2, ttl: 1}.over([]byte{0x16, 0, 0, 0}, addrBytes("239.1.1.1"))),
		"icmp echo":     ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 1, ttl: 64}.over([]byte{8, 0, 0, 0, 0, 1, 0, 1}, []byte("ping"))),
		"icmpv6 ns":     ethernet(hostB, hostA, 0x86dd, ip6{src: "fe80::1", dst: "ff02::1:ff00:2", next: 58, hops: 255}.over([]byte{135, 0, 0, 0, 0, 0, 0, 0}, addrBytes("fe80::2"))),
		"arp":           ethernet(everyone, hostA, 0x0806, arp),
		"vlan":          ethernet(hostB, hostA, 0x8100, tagged(5, 10, 0x0800), udp4.over(udpDatagram(1, 2, nil))),
		"qinq":          ethernet(hostB, hostA, 0x88a8, tagged(3, 100, 0x8100), tagged(6, 20, 0x0806), arp),
		"priority tag":  ethernet(hostB, hostA, 0x8100, tagged(7, 0, 0x88cc), make([]byte, 40)),
		"mpls":          ethernet(hostB, hostA, 0x8847, labelled(29, 6, false), labelled(1000, 1, true), udp4.over(udpDatagram(1, 2, nil))),
		"lacp":          ethernet("01:80:c2:00:00:02", hostA, 0x8809, []byte{1, 1}, make([]byte, 108)),
		"lldp":          ethernet("01:80:c2:00:00:0e", hostA, 0x88cc, []byte{0x02, 0x07, 0x04}, macBytes(hostA), make([]byte, 20)),
		"stp":           ethernet("01:80:c2:00:00:00", hostA, 38, []byte{0x42, 0x42, 0x03}, make([]byte, 35)),
		"profinet":      ethernet(hostB, hostA, 0x8892, u16(0x8001), make([]byte, 44)),
		"profinet vlan": ethernet(hostB, hostA, 0x8100, tagged(6, 0, 0x8892), u16(0xfefe), make([]byte, 44)),
		"ptp sync":      ethernet("01:1b:19:00:00:00", hostA, 0x88f7, ptp(0, 2)),
		"ptp announce":  ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(320, 320, ptp(11, 2)))),
		"pnio":          ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(34964, 49152, rpc))),
		"rtp":           ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(40000, 40002, rtp))),
		"sip":           ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(5060, 5060, []byte(sip)))),
		"sip tcp":       ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 6, ttl: 64}.over(tcpSegment(5060, 40000, 0x18, compact))),
		"vxlan":         ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(50000, 4789, join([]byte{8, 0, 0, 0}, u32(100<<8), inner)))),
		"gre key":       ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 47, ttl: 64}.over(u16(0x2000), u16(0x6558), u32(7), inner)),
		"fragment":      ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 17, ttl: 64, id: 9, fragment: 0x2000}.over(u16(5000), u16(5001), u16(1008), u16(0), make([]byte, 16))),
		"fragment last": ethernet(hostB, hostA, 0x0800, ip4{src: a, dst: b, proto: 17, ttl: 64, id: 9, fragment: 3}.over(make([]byte, 24))),
		"pppoe":         ethernet(hostB, hostA, 0x8864, []byte{0x11, 0, 0, 1}, u16(34), u16(0x0021), ip4{src: a, dst: b, proto: 17, ttl: 64}.over(udpDatagram(7, 9, []byte("abcd")))),
		"icmp quote":    ethernet(hostA, hostB, 0x0800, ip4{src: "192.0.2.1", dst: a, proto: 1, ttl: 64}.over([]byte{3, 3, 0, 0, 0, 0, 0, 0}, udp4.over(udpDatagram(5353, 53, nil)))),
		"cut ip":        ethernet(hostB, hostA, 0x0800, udp4.over(udpDatagram(5353, 53, nil))[:17]),
		"cut ethernet":  {0, 1, 2, 3, 4, 5, 6},
		"empty":         {},
	}
}

// decoded returns the packet of a frame.
func decoded(frame []byte) *packet.Packet {
	p := &packet.Packet{Frame: packet.Frame{Data: frame, Len: uint32(len(frame))}}
	p.Decode(packet.LinkEthernet)
	return p
}

// zooFile writes the frames as a savefile.
func zooFile(t testing.TB) string {
	t.Helper()
	out := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0}
	second := uint32(0)
	frames := zoo()
	for _, name := range sortedKeys(frames) {
		frame := frames[name]
		second++
		for _, n := range []uint32{second, 0, uint32(len(frame)), uint32(len(frame))} {
			out = binary.LittleEndian.AppendUint32(out, n)
		}
		out = append(out, frame...)
	}
	name := filepath.Join(t.TempDir(), "zoo.pcap")
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// crowd is many UDP and TCP packets between hosts 10.0.x.y.
func crowd(n int) []*packet.Packet {
	r := rand.New(rand.NewPCG(1, 2))
	packets := make([]*packet.Packet, n)
	for i := range packets {
		h := ip4{src: fmt.Sprintf("10.0.%d.%d", r.IntN(4), r.IntN(256)), dst: fmt.Sprintf("10.1.%d.%d", r.IntN(4), r.IntN(256)), ttl: 64}
		src, dst := uint16(1024+r.IntN(60000)), uint16(r.IntN(1024))
		if r.IntN(4) > 0 {
			h.proto = 6
			packets[i] = decoded(ethernet(hostB, hostA, 0x0800, h.over(tcpSegment(src, dst, 0x18, "some payload of a segment"))))
			continue
		}
		h.proto = 17
		packets[i] = decoded(ethernet(hostB, hostA, 0x0800, h.over(udpDatagram(src, dst, []byte("some payload of a datagram")))))
	}
	return packets
}
