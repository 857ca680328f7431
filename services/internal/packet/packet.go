// Package packet locates the headers of a frame in place.
//
// Decode never fails and never allocates: what it does not understand, and what lies beyond the captured bytes, stays out of the
// packet's layer set. A Packet borrows the bytes of its frame and copies none of them.
//
// A Packet describes the outermost headers, as the wire carries them. What a tunnel carries is reached with Inner.
package packet

import "encoding/binary"

// A LinkType says what a frame begins with. The values are those of pcap-linktype(7).
type LinkType uint16

// The link types that have a name here; Decode understands those of the table leads too. Frames of any other link type have no layer. Values from 0x0600 on
// are EtherTypes, which no savefile uses as link types: the frame begins with what the EtherType stands for. Inner needs them, and what leads to one.
const (
	LinkNull       LinkType = 0   // BSD loopback: address family in the byte order of the writer
	LinkEthernet   LinkType = 1   // Ethernet, without preamble and FCS
	LinkTokenRing  LinkType = 6   // Token Ring
	LinkPPP        LinkType = 9   // PPP, with or without HDLC-like framing
	LinkFDDI       LinkType = 10  // FDDI
	LinkRawBSD     LinkType = 12  // LinkRaw as most BSDs number it
	LinkRawOBSD    LinkType = 14  // LinkRaw as OpenBSD numbers it
	LinkPPPHDLC    LinkType = 50  // PPP in HDLC-like framing
	LinkPPPoE      LinkType = 51  // PPPoE without the Ethernet header
	LinkATM        LinkType = 100 // ATM with the LLC of RFC 1483
	LinkRaw        LinkType = 101 // IPv4 or IPv6, told apart by the version nibble
	LinkCHDLC      LinkType = 104 // Cisco HDLC
	LinkWireless   LinkType = 105 // IEEE 802.11: data frames that are not encrypted
	LinkFrameRelay LinkType = 107 // Frame Relay
	LinkLoop       LinkType = 108 // OpenBSD loopback: address family in network byte order
	LinkSLL        LinkType = 113 // Linux cooked capture v1
	LinkPrism      LinkType = 119 // IEEE 802.11 after a header of a Prism chip's driver
	LinkRadiotap   LinkType = 127 // IEEE 802.11 after a radiotap header
	LinkAVS        LinkType = 163 // IEEE 802.11 after the header of the AVS project
	LinkPPPDir     LinkType = 204 // PPP after a byte that tells the direction
	LinkIPNet      LinkType = 226 // Solaris ipnet
	LinkIPv4       LinkType = 228 // raw IPv4
	LinkIPv6       LinkType = 229 // raw IPv6
	LinkNFLog      LinkType = 239 // what Linux' netfilter logs
	LinkIPoIB      LinkType = 242 // IP over InfiniBand
	LinkSLL2       LinkType = 276 // Linux cooked capture v2
)

// Flags say what the receiver of a frame knew about it. The zero value knows nothing.
type Flags uint16

// Direction and frame check sequence are two bits each; the other flags are one bit.
const (
	DirIn   Flags = 1 // received by the port
	DirOut  Flags = 2 // sent by the port's own host
	DirMask Flags = 3
	FCSGood Flags = 1 << 2 // the frame check sequence was verified
	FCSBad  Flags = 2 << 2 // the frame check sequence is wrong
	FCSMask Flags = 3 << 2
	PortErr Flags = 1 << 4 // another error at the level of the port (too short, too long, symbol)
	HWStamp Flags = 1 << 5 // Time was taken by the NIC
)

// A Frame is what was on the wire. Data is borrowed from its source until the source's next Next.
type Frame struct {
	Data  []byte // from the link layer on, without FCS
	Len   uint32 // length on the wire in bytes, without FCS; len(Data) is the captured length
	Iface uint16 // index into the source's interface table
	Flags Flags
	Time  int64 // ns since the epoch
}

// Layers is a set of layers found in a frame.
type Layers uint32

// The layers. A bit says that the layer's fixed header, or the part of it that is named here, is captured.
const (
	Ethernet      Layers = 1 << iota // destination and source MAC address at Packet.MACAt, and the type or length field
	VLAN                             // at least one tag; see Packet.VLANs
	LLC                              // DSAP, SSAP and control at Packet.LLCAt, after an 802.3 length field on Ethernet
	SNAP                             // LLC/SNAP; EtherType holds its protocol id if the OUI is one that carries EtherTypes
	MPLS                             // at least one label; see Packet.Labels
	PPPoE                            // discovery or session: the 6 bytes at Packet.PPPoEAt
	ARP                              // ARP or RARP: Packet.L3 is the header, of which the first 8 bytes are captured; see ARPSender
	IPv4                             // Packet.L3 is the header, of which the fixed 20 bytes are captured and make sense
	IPv6                             // Packet.L3 is the header, of which the fixed 40 bytes are captured
	Fragment                         // IPv4 with MF or an offset; IPv6 with a fragment header that has M or an offset
	LaterFragment                    // a fragment with an offset above 0: it has no layer-4 header of its own
	TCP                              // Packet.L4 is the header; at least the ports are captured
	UDP                              // Packet.L4 is the header; at least the ports are captured
	SCTP                             // the common header is captured
	ICMP                             // at least type and code are captured
	ICMPv6                           // at least the type is captured
	IGMP                             // at least the type is captured
	GRE                              // Packet.L4 is the header, of which flags and protocol are captured
	Tunnel                           // Inner reaches what a tunnel carries
	PartIPv4                         // IPv4, but the fixed header is cut off or makes no sense: only Packet.Have bytes at Packet.L3 count
	PartIPv6                         // IPv6 in the same way
	HasProto                         // Packet.Proto is known
)

// IP is either version.
const IP = IPv4 | IPv6

// A TunnelKind says which tunnel a packet is the outside of.
type TunnelKind uint8

// The tunnels that Inner sees through.
const (
	NoTunnel   TunnelKind = iota
	IPinIP                // IPv4 or IPv6 directly in IPv4 or IPv6
	GREPlain              // GRE with an IP, Ethernet or PPP payload
	ERSPAN1               // ERSPAN type I: GRE without sequence number, no header of its own
	ERSPAN2               // Packet.ERSPAN
	ERSPAN3               // Packet.ERSPAN
	VXLAN                 // Packet.VNI
	Geneve                // Packet.VNI
	GTPU                  // Packet.TEID
	L2TP                  // L2TPv2 data over UDP
	Teredo                // IPv6 over UDP port 3544
	PseudoWire            // Ethernet over MPLS, with or without a control word; the IP header within is also that of the Packet
	EtherIP               // Ethernet directly in IP, RFC 3378
)

// A Packet is a frame with its headers located.
type Packet struct {
	Frame
	Headers
}

// Headers say where the headers of a frame are. Offsets count from the start of Data, are at most len(Data) and at most 65535, and mean something
// only if their layer is in Layers; headers beyond 65535 bytes are not looked at. Everything describes the outermost headers.
type Headers struct {
	Layers    Layers
	Link      LinkType   // what Decode was told that the frame begins with
	EtherType uint16     // what the link layer carries after its tags, shims and SNAP; 0 for plain LLC and where the link has no EtherType
	VLANs     uint8      // number of tags, outermost first
	Labels    uint8      // number of MPLS labels, top first
	VLANAt    uint16     // first tag's control information; the next one is 4 bytes on
	MPLSAt    uint16     // top label stack entry
	LLCAt     uint16     // LLC header
	PPPoEAt   uint16     // PPPoE header
	L2End     uint16     // end of the link layer with its tags, shims, SNAP, PPPoE and MPLS: what follows is L3 or unknown
	L3        uint16     // IPv4, IPv6 or ARP header
	FragAt    uint16     // IPv6 fragment header; 0 where there is none
	L4        uint16     // header after the IP header with its options and extension headers
	Payload   uint16     // what follows the TCP or UDP header; for other protocols what follows the IP header; End where the header makes no sense
	Have      uint8      // bytes of the fixed IP header that are captured and make sense: 20 or 40, fewer with PartIPv4 and PartIPv6, whose accessors may be used as far as it goes
	Proto     uint8      // IP protocol number; the last one after IPv6 extension headers; known on every fragment; see HasProto
	TCPBits   uint8      // what TCPFlags returns where Proto is TCP; else 0
	Tunnel    TunnelKind // the tunnel whose header is captured; Layers has Tunnel if something of what it carries is, too
	End       uint32     // end of the captured IP packet, without padding; len(Data) where there is no IP
	InnerLink LinkType   // link type of what Inner decodes
	InnerAt   uint16     // where it begins
	SrcPort   uint16     // TCP, UDP, SCTP. For later fragments the flow table fills them in from the first one
	DstPort   uint16
	Shim      uint16 // EtherType of the first header beside VLAN tags that led on to another EtherType, such as HSR's; 0 where there is none
	MACAt     uint16 // MAC addresses, 0 unless another header comes before them
}

// Ports reports whether SrcPort and DstPort are known.
func (p *Packet) Ports() bool { return p.Layers&(TCP|UDP|SCTP) != 0 }

// DstMAC returns the destination MAC address in the low 48 bits. Valid if Layers has Ethernet.
func (p *Packet) DstMAC() uint64 { return mac(p.Data[p.MACAt:]) }

// SrcMAC returns the source MAC address in the low 48 bits. Valid if Layers has Ethernet.
func (p *Packet) SrcMAC() uint64 { return mac(p.Data[int(p.MACAt)+6:]) }

func mac(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:6]))
}

// TCI returns the tag control information of tag i, 0 being the outermost: priority (3 bits), DEI, id (12 bits).
func (p *Packet) TCI(i int) uint16 { return be16(p.Data, int(p.VLANAt)+4*i) }

// Label returns label stack entry i, 0 being the top: label (20 bits), traffic class (3), bottom of stack, TTL (8).
func (p *Packet) Label(i int) uint32 { return be32(p.Data, int(p.MPLSAt)+4*i) }

// Src4 returns the IPv4 source address. Valid if Layers has IPv4.
func (p *Packet) Src4() uint32 { return be32(p.Data, int(p.L3)+12) }

// Dst4 returns the IPv4 destination address. Valid if Layers has IPv4.
func (p *Packet) Dst4() uint32 { return be32(p.Data, int(p.L3)+16) }

// Src6 returns the two halves of the IPv6 source address. Valid if Layers has IPv6.
func (p *Packet) Src6() (hi, lo uint64) { return be64(p.Data, int(p.L3)+8), be64(p.Data, int(p.L3)+16) }

// Dst6 returns the two halves of the IPv6 destination address. Valid if Layers has IPv6.
func (p *Packet) Dst6() (hi, lo uint64) {
	return be64(p.Data, int(p.L3)+24), be64(p.Data, int(p.L3)+32)
}

// TrafficClass returns the IPv4 TOS or IPv6 traffic class byte. Valid if Layers has IPv4 or IPv6, or HasTrafficClass.
func (p *Packet) TrafficClass() uint8 {
	if p.Layers&(IPv4|PartIPv4) != 0 {
		return p.Data[p.L3+1]
	}
	return uint8(be16(p.Data, int(p.L3)) >> 4)
}

// TTL returns the IPv4 time to live or IPv6 hop limit. Valid if Layers has IPv4 or IPv6, or HasTTL.
func (p *Packet) TTL() uint8 {
	if p.Layers&(IPv4|PartIPv4) != 0 {
		return p.Data[p.L3+8]
	}
	return p.Data[p.L3+7]
}

// TCPFlags returns the low 8 TCP flags (CWR ECE URG ACK PSH RST SYN FIN, RFC 9293); ok is false if the header is not captured as far as the
// window behind them, which is where Wireshark believes in them, or has a data offset below 5.
func (p *Packet) TCPFlags() (flags uint8, ok bool) {
	i := int(p.L4) + 12
	if p.Layers&(TCP|LaterFragment) != TCP || i+4 > int(p.End) || p.Data[i] < 5<<4 {
		return 0, false
	}
	return p.Data[i+1], true
}

// L7 returns the captured bytes after the layer-4 header, or after the IP header where layer 4 is not known. It is empty for
// frames without IP.
func (p *Packet) L7() []byte {
	if p.Layers&IP == 0 || uint32(p.Payload) >= min(p.End, maxOffset) {
		return nil
	}
	return p.Data[p.Payload:p.End]
}

func be16(b []byte, i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }
func be32(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[i:]) }
func be64(b []byte, i int) uint64 { return binary.BigEndian.Uint64(b[i:]) }
