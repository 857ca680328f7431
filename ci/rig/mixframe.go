package rig

import (
	"encoding/binary"
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A talk is one conversation: two hosts, what their frames are wrapped in, and what is still to be said.
type talk struct {
	client, server side
	v6             bool
	stamps         bool                                               // TCP time stamps
	outer          func(t *talk, s step) []gopacket.SerializableLayer // link layer and what a tunnel adds
	steps          []step
	at             int
	id             uint16 // of the next IPv4 packet
	tag            uint16
	key            uint32 // of tunnels
}

// A side is one host of a talk.
type side struct {
	mac  net.HardwareAddr
	ip   net.IP
	port uint16
	seq  uint32
}

// A step is one frame of a talk.
type step struct {
	reply   bool // from the server
	proto   layers.IPProtocol
	syn     bool
	fin     bool
	rst     bool
	push    bool
	payload []byte // behind the layer-4 header; of the whole IP packet for fragments, ICMP and ARP
	offset  uint16 // of a fragment, in units of 8 bytes
	more    bool   // of a fragment
	id      uint16 // of a fragment
	arp     bool
	media   [2]uint16 // ports of client and server, if they are not those of the talk
}

func (m *mixer) newTalk() *talk {
	m.talks++
	t := &talk{v6: m.chance(100), stamps: m.chance(300), id: uint16(m.rng.Uint32()), tag: uint16(m.between(1, 4094)), key: m.rng.Uint32N(1 << 20), outer: plain}
	net4 := byte(m.rng.IntN(4))
	t.client = m.side(net4, m.rng.IntN(2000), uint16(m.between(32768, 60999)))
	t.server = m.side(net4+16, m.rng.IntN(300), 0)
	if t.v6 {
		t.client.ip, t.server.ip = six(t.client.ip), six(t.server.ip)
	}
	pick := m.rng.IntN(1000)
	for _, w := range wrappers {
		if pick -= w.weight; pick < 0 {
			t.outer = w.make
			break
		}
	}
	return t
}

func (m *mixer) side(network byte, host int, port uint16) side {
	ip := net.IP{10, network, byte(host >> 8), byte(host)}
	return side{mac: net.HardwareAddr{2, 0, 10, network, byte(host >> 8), byte(host)}, ip: ip, port: port, seq: m.rng.Uint32()}
}

func six(ip net.IP) net.IP {
	return append(net.IP{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0}, ip...)
}

// wrappers are what frames are wrapped in, and for how many of 1000 talks; the rest is plain.
var wrappers = []struct {
	weight int
	make   func(*talk, step) []gopacket.SerializableLayer
}{{30, tagged}, {8, doubleTagged}, {2, priorityTagged}, {8, pppoe}, {8, mpls}, {4, gre}, {4, vxlan}, {4, gtp}}

func (t *talk) done() bool { return t.at == len(t.steps) }

// ends returns sender and receiver of a step.
func (t *talk) ends(s step) (from, to *side) {
	if s.reply {
		return &t.server, &t.client
	}
	return &t.client, &t.server
}

// next returns the next frame.
func (t *talk) next() []byte {
	s := t.steps[t.at]
	t.at++
	list := t.outer(t, s)
	if s.arp {
		list = []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeARP)}
	} else {
		list = append(list, t.inner(s)...)
	}
	list = append(list, gopacket.Payload(s.payload))
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		panic("rig: " + err.Error()) // every field is made here
	}
	return b.Bytes()
}

// inner returns the IP and the layer-4 header.
func (t *talk) inner(s step) []gopacket.SerializableLayer {
	from, to := t.ends(s)
	network, ip := t.ip(s, from.ip, to.ip, s.proto)
	switch {
	case s.offset > 0 || s.more:
		return ip
	case s.proto == layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(from.port), DstPort: layers.TCPPort(to.port), Seq: from.seq, Ack: to.seq, Window: 64240,
			SYN: s.syn, FIN: s.fin, RST: s.rst, PSH: s.push, ACK: !s.syn || s.reply}
		if s.syn {
			tcp.Options = []layers.TCPOption{
				{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0x84}},
				{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
				{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
			}
		} else if t.stamps && !s.rst {
			stamps := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, from.seq>>4), to.seq>>4)
			tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
				{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: stamps}}
		}
		if !tcp.ACK {
			tcp.Ack = 0
		}
		from.seq += uint32(len(s.payload))
		if s.syn || s.fin {
			from.seq++
		}
		_ = tcp.SetNetworkLayerForChecksum(network) // fails for what is not IP
		return append(ip, tcp)
	case s.proto == layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(from.port), DstPort: layers.UDPPort(to.port)}
		switch {
		case s.media[0] == 0:
		case s.reply:
			udp.SrcPort, udp.DstPort = layers.UDPPort(s.media[1]), layers.UDPPort(s.media[0])
		default:
			udp.SrcPort, udp.DstPort = layers.UDPPort(s.media[0]), layers.UDPPort(s.media[1])
		}
		_ = udp.SetNetworkLayerForChecksum(network)
		return append(ip, udp)
	}
	return ip
}

// ip returns an IP header, also as what it is to a checksum.
func (t *talk) ip(s step, from, to net.IP, proto layers.IPProtocol) (gopacket.NetworkLayer, []gopacket.SerializableLayer) {
	if len(from) == net.IPv6len {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: from, DstIP: to, NextHeader: proto}
		return ip, []gopacket.SerializableLayer{ip}
	}
	t.id++
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: t.id, SrcIP: from, DstIP: to, Protocol: proto, FragOffset: s.offset}
	if s.offset > 0 || s.more {
		ip.Id = s.id
		if s.more {
			ip.Flags = layers.IPv4MoreFragments
		}
	}
	return ip, []gopacket.SerializableLayer{ip}
}

func (t *talk) ethernet(s step, what layers.EthernetType) *layers.Ethernet {
	from, to := t.ends(s)
	e := &layers.Ethernet{SrcMAC: from.mac, DstMAC: to.mac, EthernetType: what}
	if s.arp && !s.reply || to.ip.Equal(net.IPv4bcast) {
		e.DstMAC = net.HardwareAddr{255, 255, 255, 255, 255, 255}
	}
	return e
}

func (t *talk) etherType() layers.EthernetType {
	if t.v6 {
		return layers.EthernetTypeIPv6
	}
	return layers.EthernetTypeIPv4
}

func plain(t *talk, s step) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{t.ethernet(s, t.etherType())}
}

func tagged(t *talk, s step) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: t.tag, Type: t.etherType()}}
}

func priorityTagged(t *talk, s step) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeDot1Q), &layers.Dot1Q{Priority: 5, Type: t.etherType()}}
}

func doubleTagged(t *talk, s step) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeQinQ), &layers.Dot1Q{VLANIdentifier: 100, Type: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: t.tag, Type: t.etherType()}}
}

func pppoe(t *talk, s step) []gopacket.SerializableLayer {
	kind := layers.PPPTypeIPv4
	if t.v6 {
		kind = layers.PPPTypeIPv6
	}
	return []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypePPPoESession), &layers.PPPoE{Version: 1, Type: 1, SessionId: t.tag}, &layers.PPP{PPPType: kind}}
}

func mpls(t *talk, s step) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeMPLSUnicast), &layers.MPLS{Label: t.key, TTL: 60},
		&layers.MPLS{Label: uint32(t.tag) + 16, TTL: 60, StackBottom: true}}
}

// tunnel returns link layer and IP header between two gateways.
func (t *talk) tunnel(s step, proto layers.IPProtocol) (gopacket.NetworkLayer, []gopacket.SerializableLayer) {
	a, b := net.IP{192, 168, 7, 1}, net.IP{192, 168, 7, byte(2 + t.key%50)}
	if s.reply {
		a, b = b, a
	}
	network, ip := t.ip(step{}, a, b, proto)
	return network, append([]gopacket.SerializableLayer{t.ethernet(s, layers.EthernetTypeIPv4)}, ip...)
}

func gre(t *talk, s step) []gopacket.SerializableLayer {
	_, list := t.tunnel(s, layers.IPProtocolGRE)
	return append(list, &layers.GRE{Protocol: t.etherType(), KeyPresent: true, Key: t.key})
}

// datagram returns a tunnel over UDP.
func (t *talk) datagram(s step, port layers.UDPPort) []gopacket.SerializableLayer {
	network, list := t.tunnel(s, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: port, DstPort: port}
	_ = udp.SetNetworkLayerForChecksum(network)
	return append(list, udp)
}

func vxlan(t *talk, s step) []gopacket.SerializableLayer {
	return append(t.datagram(s, 4789), &layers.VXLAN{ValidIDFlag: true, VNI: t.key}, t.ethernet(s, t.etherType()))
}

func gtp(t *talk, s step) []gopacket.SerializableLayer {
	return append(t.datagram(s, 2152), tunnelID(t.key))
}

// A tunnelID is the GTPv1-U header of a T-PDU; the one of layers does not fill in its length.
type tunnelID uint32

func (tunnelID) LayerType() gopacket.LayerType { return layers.LayerTypeGTPv1U }

func (id tunnelID) SerializeTo(b gopacket.SerializeBuffer, _ gopacket.SerializeOptions) error {
	size := len(b.Bytes())
	h, err := b.PrependBytes(8)
	if err != nil {
		return err
	}
	h[0], h[1] = 0x30, 255
	binary.BigEndian.PutUint16(h[2:], uint16(size))
	binary.BigEndian.PutUint32(h[4:], uint32(id))
	return nil
}
