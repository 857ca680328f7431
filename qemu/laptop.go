package qemu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"
)

// A Laptop is a host on the wire of the management port (Network Wired) with link-local addresses and nothing else: no DHCP server, no router. It answers ARP
// (RFC 826) and neighbour solicitations
// (RFC 4861), asks for names by multicast (RFC 6762), and opens TCP connections.
type Laptop struct {
	wire *Wire
	mac  net.HardwareAddr
	ip4  netip.Addr
	ip6  netip.Addr

	mu         sync.Mutex
	neighbours map[netip.Addr]net.HardwareAddr
	streams    map[uint16]*stream // by our port
	names      map[string][]netip.Addr
	nextPort   uint16
	changed    chan struct{} // closed when neighbours or names have more
}

// NewLaptop plugs one into the wire.
func NewLaptop(t testing.TB, w *Wire) *Laptop {
	l := &Laptop{
		wire: w, mac: net.HardwareAddr{2, 0, 0, 0, 0, 0x77}, ip4: netip.MustParseAddr("169.254.77.77"), ip6: netip.MustParseAddr("fe80::77:77"),
		neighbours: map[netip.Addr]net.HardwareAddr{}, streams: map[uint16]*stream{}, names: map[string][]netip.Addr{}, nextPort: 40000, changed: make(chan struct{}),
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if frame, err := w.Next(200 * time.Millisecond); err == nil {
				l.hear(frame)
			}
			l.again(time.Now())
		}
	}()
	return l
}

// hear takes one frame.
func (l *Laptop) hear(frame []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		l.hearARP(arp)
	}
	if ns, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
		l.hearSolicitation(p, ns)
	}
	if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		for _, o := range na.Options {
			if a, ok := netip.AddrFromSlice(na.TargetAddress); ok && o.Type == layers.ICMPv6OptTargetAddress {
				l.learn(a, o.Data)
			}
		}
	}
	if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && udp.SrcPort == mdnsPort {
		l.hearNames(udp.Payload)
	}
	if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
		l.mu.Lock()
		s := l.streams[uint16(tcp.DstPort)]
		l.mu.Unlock()
		if s != nil {
			s.hear(tcp)
		}
	}
}

func (l *Laptop) learn(a netip.Addr, mac net.HardwareAddr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.neighbours[a] = append(net.HardwareAddr(nil), mac...)
	l.news()
}

// news needs l.mu.
func (l *Laptop) news() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// send puts a frame of the layers on the wire. Lengths and checksums are filled in.
func (l *Laptop) send(to net.HardwareAddr, kind layers.EthernetType, above ...gopacket.SerializableLayer) error {
	b := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: l.mac, DstMAC: to, EthernetType: kind}}, above...)
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		return err
	}
	return l.wire.Send(b.Bytes())
}

// network returns the IP layer for a packet to an address, with the link's protocol.
func (l *Laptop) network(to netip.Addr, protocol layers.IPProtocol, hops uint8) (gopacket.SerializableLayer, gopacket.NetworkLayer, layers.EthernetType) {
	if to.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: hops, Protocol: protocol, SrcIP: l.ip4.AsSlice(), DstIP: to.AsSlice(), Flags: layers.IPv4DontFragment}
		return ip, ip, layers.EthernetTypeIPv4
	}
	ip := &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: protocol, SrcIP: l.ip6.AsSlice(), DstIP: to.AsSlice()}
	return ip, ip, layers.EthernetTypeIPv6
}

func (l *Laptop) hearARP(a *layers.ARP) {
	sender, ok := netip.AddrFromSlice(a.SourceProtAddress)
	target, ok2 := netip.AddrFromSlice(a.DstProtAddress)
	if !ok || !ok2 {
		return
	}
	if !sender.IsUnspecified() {
		l.learn(sender, a.SourceHwAddress)
	}
	if a.Operation == layers.ARPRequest && target == l.ip4 {
		l.send(a.SourceHwAddress, layers.EthernetTypeARP, l.arp(layers.ARPReply, a.SourceHwAddress, sender))
	}
}

func (l *Laptop) arp(operation uint16, mac net.HardwareAddr, of netip.Addr) *layers.ARP {
	return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: l.mac, SourceProtAddress: l.ip4.AsSlice(), DstHwAddress: mac, DstProtAddress: of.AsSlice()}
}

func (l *Laptop) hearSolicitation(p gopacket.Packet, ns *layers.ICMPv6NeighborSolicitation) {
	ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	eth, ok2 := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok || !ok2 || !ns.TargetAddress.Equal(l.ip6.AsSlice()) {
		return
	}
	to, _ := netip.AddrFromSlice(ip.SrcIP)
	const solicitedOverride = 0x60
	l.discover(eth.SrcMAC, to, layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{Flags: solicitedOverride, TargetAddress: l.ip6.AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: l.mac}}})
}

// discover sends a message of neighbour discovery.
func (l *Laptop) discover(mac net.HardwareAddr, to netip.Addr, kind uint8, message gopacket.SerializableLayer) error {
	ip, network, protocol := l.network(to, layers.IPProtocolICMPv6, 255)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	icmp.SetNetworkLayerForChecksum(network)
	return l.send(mac, protocol, ip, icmp, message)
}

// resolve returns the MAC of a neighbour.
func (l *Laptop) resolve(ctx context.Context, a netip.Addr) (mac net.HardwareAddr, err error) {
	ask := func() error {
		if a.Is4() {
			return l.send(layers.EthernetBroadcast, layers.EthernetTypeARP, l.arp(layers.ARPRequest, make(net.HardwareAddr, 6), a))
		}
		b := a.As16()
		group := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
		return l.discover(net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}, group, layers.ICMPv6TypeNeighborSolicitation, &layers.ICMPv6NeighborSolicitation{
			TargetAddress: a.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: l.mac}}})
	}
	return mac, l.askUntil(ctx, "who has "+a.String(), ask, func() bool { mac = l.neighbours[a]; return mac != nil })
}

// askUntil asks once a second until there is an answer; answered is called with l.mu held.
func (l *Laptop) askUntil(ctx context.Context, what string, ask func() error, answered func() bool) error {
	for {
		l.mu.Lock()
		ok, changed := answered(), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		if err := ask(); err != nil {
			return err
		}
		second := time.After(time.Second)
		for waiting := true; waiting; {
			select {
			case <-changed:
				l.mu.Lock()
				ok, changed = answered(), l.changed
				l.mu.Unlock()
				waiting = !ok
			case <-second:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("nobody answers: %s: %w", what, ctx.Err())
			}
		}
	}
}

// Advertise says as a router that a network of 64 bits is on this link, in which hosts give themselves addresses (RFC 4861, 4.2 and 4.6.2; RFC 4862).
func (l *Laptop) Advertise(network netip.Prefix) error {
	const onLinkAutonomous, seconds = 0xc0, 1800
	option := append([]byte{byte(network.Bits()), onLinkAutonomous}, make([]byte, 12)...)
	binary.BigEndian.PutUint32(option[2:], seconds) // valid
	binary.BigEndian.PutUint32(option[6:], seconds) // preferred
	option = append(option, network.Addr().AsSlice()...)
	return l.discover(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, netip.IPv6LinkLocalAllNodes(), layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{
		HopLimit: 64, RouterLifetime: seconds, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: l.mac}, {Type: layers.ICMPv6OptPrefixInfo, Data: option}}})
}

// mdnsPort is that of names by multicast.
const mdnsPort = 5353

// Lookup asks for a name with its dot at the end, by multicast over both families, and returns its addresses once one of each is there.
func (l *Laptop) Lookup(ctx context.Context, name string) (found []netip.Addr, err error) {
	ask := func() error {
		for to, mac := range map[netip.Addr]net.HardwareAddr{netip.MustParseAddr("224.0.0.251"): {1, 0, 0x5e, 0, 0, 0xfb}, netip.MustParseAddr("ff02::fb"): {0x33, 0x33, 0, 0, 0, 0xfb}} {
			if err := l.askName(name, to, mac); err != nil {
				return err
			}
		}
		return nil
	}
	both := func() bool {
		found = l.names[name]
		four, six := false, false
		for _, a := range found {
			four, six = four || a.Is4(), six || a.Is6()
		}
		return four && six
	}
	return found, l.askUntil(ctx, name, ask, both)
}

func (l *Laptop) askName(name string, to netip.Addr, mac net.HardwareAddr) error {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return err
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, {Name: n, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}}}
	text, err := m.Pack()
	if err != nil {
		return err
	}
	ip, network, protocol := l.network(to, layers.IPProtocolUDP, 255)
	udp := &layers.UDP{SrcPort: mdnsPort, DstPort: mdnsPort}
	udp.SetNetworkLayerForChecksum(network)
	return l.send(mac, protocol, ip, udp, gopacket.Payload(text))
}

func (l *Laptop) hearNames(message []byte) {
	var m dnsmessage.Message
	if err := m.Unpack(message); err != nil || !m.Response {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range append(m.Answers, m.Additionals...) {
		name := r.Header.Name.String()
		var a netip.Addr
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			a = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			a = netip.AddrFrom16(body.AAAA)
		}
		if a.IsValid() && !slices.Contains(l.names[name], a) {
			l.names[name] = append(l.names[name], a)
		}
	}
	l.news()
}

// Dial opens a TCP connection to an address and port.
func (l *Laptop) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	mac, err := l.resolve(ctx, to.Addr())
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.nextPort++
	s := newStream(l, mac, to, l.nextPort)
	l.streams[s.port] = s
	l.mu.Unlock()
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return s, nil
}

// again sends what was not acknowledged in time: the machine may have been too busy to take it.
func (l *Laptop) again(now time.Time) {
	l.mu.Lock()
	var all []*stream
	for _, s := range l.streams {
		all = append(all, s)
	}
	l.mu.Unlock()
	for _, s := range all {
		s.again(now)
	}
}

var errReset = errors.New("the device closed the connection")
