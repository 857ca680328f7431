package packet

import "encoding/binary"

// A lead is a header before a frame. It returns the link type of what it leads on to, which for an EtherType is its number, and where that begins; d begins with the
// header. If that is nothing that Decode understands, nowhere and the length of the header; 0 if it is not known.
type lead func(d []byte) (next LinkType, n int)

// nowhere is no link type, and an EtherType that is reserved.
const nowhere LinkType = 0xffff

// leads are the link types whose frames come after a header, by number.
var leads = [...]lead{
	LinkNull:      null,
	3:             ax25,
	LinkTokenRing: tokenRing,
	7:             arcnet,
	LinkFDDI:      fddi,
	11:            after(0, LinkATM), // as FreeBSD numbers it
	LinkLoop:      loopback,
	13:            enc,                // as OpenBSD numbers it
	16:            after(0, LinkIPv4), // Linux' classical IP over ATM, by the numbers of several patches to libpcap
	18:            after(0, LinkIPv4),
	19:            after(0, LinkIPv4),
	32:            redback,
	99:            symantec,
	106:           after(0, LinkIPv4), // Linux' classical IP over ATM
	109:           enc,
	112:           after(0, LinkCHDLC), // Cisco HDLC, as BSD/OS numbers it
	LinkSLL:       cooked1,
	117:           pflog,
	LinkPrism:     prism,
	122:           after(16, LinkATM), // IP over Fibre Channel, RFC 2625: two addresses of 8 bytes
	123:           sunATM,
	LinkRadiotap:  radiotap,
	128:           tzsp,
	129:           linuxARCNET,
	130:           juniper(juniperMLPPP),
	131:           juniper(juniperMLFR),
	133:           juniper(juniperGGSN),
	135:           juniper(juniperATM2),
	136:           juniper(juniperServices),
	137:           juniper(juniperATM1),
	138:           typed(16, 18), // Apple's IP over IEEE 1394: two addresses of 8 bytes
	143:           docsis,
	149:           pktap, // as Apple numbers it
	LinkAVS:       avs,
	167:           juniper(juniperPlain(LinkEthernet, 0)),
	170:           gfp, // transparent: Ethernet and PPP are not
	171:           gfp,
	178:           juniper(juniperPlain(LinkEthernet, 0)),
	179:           juniper(juniperPlain(LinkPPP, 2)),
	180:           juniper(juniperPlain(LinkFrameRelay, 0)),
	181:           juniper(juniperPlain(LinkCHDLC, 0)),
	183:           juniper(juniperPlain(LinkIPv4, 18)),
	184:           juniperVN,
	192:           ppi,
	197:           erf,
	200:           juniper(juniperST),
	202:           kiss,
	LinkPPPDir:    after(1, LinkPPP),
	224:           fibreChannel,          // FC-2
	225:           fibreChannelDelimited, // with the delimiters of its frames
	LinkIPNet:     after(24, LinkIPv4),
	LinkNFLog:     nflog,
	240:           netAnalyzer,
	LinkIPoIB:     typed(40, 44), // global route header or what stands for it, then RFC 4391 section 6
	258:           pktap,
	259:           epon,
	274:           mPacket,
	LinkSLL2:      cooked2,
	280:           vpp,
}

func le16(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[i:]) }
func le32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }

// after leads on to next after n bytes that say nothing of it.
func after(n int, next LinkType) lead {
	return func([]byte) (LinkType, int) { return next, n }
}

// typed leads on to what the EtherType at d[at:] says.
func typed(at, n int) lead {
	return func(d []byte) (LinkType, int) {
		if n > len(d) {
			return nowhere, 0
		}
		return etherLink(be16(d, at), n)
	}
}

// etherLink leads on to what an EtherType says.
func etherLink(et uint16, n int) (LinkType, int) {
	if et < minEtherType {
		return nowhere, n
	}
	return LinkType(et), n
}

// family leads on to what an address family says: AF_INET is 2 everywhere, AF_INET6 differs by system (24 NetBSD, OpenBSD and Npcap, 28 FreeBSD, 30 macOS).
func family(af uint32, n int) (LinkType, int) {
	switch af {
	case 2:
		return LinkIPv4, n
	case 24, 28, 30:
		return LinkIPv6, n
	}
	return nowhere, n
}

// anyOrder reads a small number in the byte order of the writer.
func anyOrder(d []byte) uint32 {
	if v := be32(d, 0); v < 1<<16 {
		return v
	}
	return le32(d, 0)
}

// null follows BSD's loopback devices: an address family, for which some write an EtherType; but some write PPP.
func null(d []byte) (LinkType, int) {
	switch {
	case len(d) < 4:
		return nowhere, 0
	case be16(d, 0) == 0xff03:
		return LinkPPP, 0
	}
	return familyOrType(anyOrder(d))
}

// loopback is null as OpenBSD writes it: in network byte order.
func loopback(d []byte) (LinkType, int) {
	if len(d) < 4 {
		return nowhere, 0
	}
	return familyOrType(be32(d, 0))
}

func familyOrType(n uint32) (LinkType, int) {
	if n >= minEtherType && n < 1<<16 {
		return LinkType(n), 4
	}
	return family(n, 4)
}

// enc follows OpenBSD's enc(4): address family, security parameter index and flags of what IPsec has decrypted or will encrypt.
func enc(d []byte) (LinkType, int) {
	if len(d) < 12 {
		return nowhere, 0
	}
	return family(anyOrder(d), 12)
}

// pflog follows OpenBSD's pflog(4): the header's length, which is padded to words, and the address family.
func pflog(d []byte) (LinkType, int) {
	if len(d) < 2 {
		return nowhere, 0
	}
	return family(uint32(d[1]), (int(d[0])+3)&^3)
}

func cooked1(d []byte) (LinkType, int) {
	if len(d) < 16 {
		return nowhere, 0
	}
	return cooked(be16(d, 2), be16(d, 14), 16)
}

func cooked2(d []byte) (LinkType, int) {
	if len(d) < 20 {
		return nowhere, 0
	}
	return cooked(be16(d, 8), be16(d, 0), 20)
}

// cooked follows the protocol of Linux' cooked capture and, where that is not an EtherType, the device type (ARPHRD_) or Linux' own numbers (linux/if_ether.h).
func cooked(device, protocol uint16, n int) (LinkType, int) {
	switch {
	case device == 824: // netlink
		return nowhere, 0
	case protocol > minEtherType:
		return LinkType(protocol), n
	case device == 803:
		return LinkRadiotap, n
	case device == 770:
		return LinkFrameRelay, n
	case protocol == 3:
		return LinkEthernet, n
	case protocol == 4:
		return LinkATM, n
	case protocol == 7:
		return LinkPPPHDLC, n
	}
	return nowhere, n
}

// tokenRing follows IEEE 802.5, 3.2: access and frame control, addresses of which the first bit of the source tells of a routing field, and LLC.
func tokenRing(d []byte) (LinkType, int) {
	if len(d) < 15 || d[1]>>6 != 1 {
		return nowhere, 0
	}
	n := 14
	if d[8]&0x80 != 0 {
		n += int(d[14] & 31)
	}
	return LinkATM, n
}

// fddi follows ISO 9314-2: frame control, addresses, and LLC in asynchronous frames.
func fddi(d []byte) (LinkType, int) {
	if len(d) < 13 || d[0]&0xf0 != 0x50 {
		return nowhere, 0
	}
	return LinkATM, 13
}

// arcnet follows RFC 1051 and, with a field of three bytes for what is split, RFC 1201: addresses of a byte, and the protocol. A frame whose length the hardware cannot send
// begins with a longer field, which has the protocol again.
func arcnet(d []byte) (LinkType, int) {
	if len(d) >= 4 && d[2] != 240 && d[2] != 241 && d[3] == 0xff {
		return arcnetProtocol(d, 2, 10)
	}
	return arcnetProtocol(d, 2, 6)
}

// linuxARCNET is arcnet as Linux writes it: with an offset of two bytes after the addresses, and whole frames only.
func linuxARCNET(d []byte) (LinkType, int) { return arcnetProtocol(d, 4, 8) }

func arcnetProtocol(d []byte, at, n int) (LinkType, int) {
	if at >= len(d) {
		return nowhere, 0
	}
	switch d[at] {
	case 240:
		return LinkIPv4, at + 1
	case 241:
		return etARP, at + 1
	case 212:
		return LinkIPv4, n
	case 213:
		return etARP, n
	case 214:
		return etRARP, n
	case 196:
		return LinkIPv6, n
	}
	return nowhere, 0
}

// ax25 follows AX.25 2.2, 3: addresses of seven bytes, the last of which is marked, control, and in frames of information the protocol, of which 0xcc is IPv4.
func ax25(d []byte) (LinkType, int) {
	n := 14
	for n <= len(d) && d[n-1]&1 == 0 {
		n += 7
	}
	if n+2 > len(d) || d[n]&1 != 0 && d[n]&^0x10 != 3 || d[n+1] != 0xcc {
		return nowhere, 0
	}
	return LinkIPv4, n + 2
}

// kiss follows the KISS protocol of terminal node controllers: a byte whose lower half is 0 for data; 12 for data with a number of two bytes.
func kiss(d []byte) (LinkType, int) {
	switch {
	case len(d) > 0 && d[0]&15 == 0:
		return 3, 1
	case len(d) > 0 && d[0]&15 == 12:
		return 3, 3
	}
	return nowhere, 0
}

// fibreChannel follows FC-FS, 9: routing control, of which data has 0 in the upper half, the type, of which IP has 5, and a flag that tells of a network header.
func fibreChannel(d []byte) (LinkType, int) {
	switch {
	case len(d) < 24, d[0]>>4 != 0 || d[8] != 5, d[11]&0x08 != 0 && be32(d, 20) != 0: // the last: with an offset, it is not the first part of a sequence
		return nowhere, 0
	case d[13]&0x20 != 0:
		return LinkATM, 24 + 16
	}
	return LinkATM, 24
}

func fibreChannelDelimited(d []byte) (LinkType, int) {
	if len(d) < 4 {
		return nowhere, 0
	}
	next, n := fibreChannel(d[4:])
	return next, 4 + n
}

// sunATM follows what SunATM puts before a packet: the lower half of the first byte names what it is, virtual path and channel.
func sunATM(d []byte) (LinkType, int) {
	const emulation, llc, ilmi, signalling = 1, 2, 5, 6
	if len(d) < 6 {
		return nowhere, 0
	}
	switch kind := d[0] & 15; {
	case kind == emulation:
		if be16(d, 4) == 0xff00 { // control
			return nowhere, 0
		}
		return LinkEthernet, 6 // after the number of the emulated station
	case kind == llc:
		return LinkATM, 4
	case kind == ilmi, kind == signalling, d[1] == 0 && be16(d, 2) == 5:
		return nowhere, 0
	}
	return aal5(d, 4)
}

// aal5 guesses what an AAL5 packet at d[n:] is that nothing tells the kind of, from what RFC 2684 and RFC 2364 put at its beginning.
func aal5(d []byte, n int) (LinkType, int) {
	if n+8 > len(d) {
		return nowhere, 0
	}
	switch h := d[n:]; {
	case be16(h, 0) == 0xaaaa && h[2] == 3:
		return LinkATM, n
	case h[1] == 0x21:
		return LinkPPP, n
	case be16(h, 0) == 0:
		return LinkEthernet, n + 2
	case h[2] == 3 && (h[3] == 0xcc || h[3] == 0x8e || be16(h, 3) == 0x80), h[4] == 3 && (h[5] == 0xcc || h[5] == 0x8e || be16(h, 5) == 0x80):
		return LinkFrameRelay, n
	case h[0]>>4 == 4, h[0]>>4 == 6:
		return LinkIPv4, n
	}
	return nowhere, n
}

func aal5LLC(d []byte, n int) (LinkType, int) {
	if next, n := aal5(d, n); next == LinkATM {
		return next, n
	}
	return nowhere, 0
}

// prism follows the header of 144 bytes of a Prism chip's driver, in the byte order of the writer. Others may come in its place, or none.
func prism(d []byte) (LinkType, int) {
	if len(d) < 4 {
		return nowhere, 0
	}
	switch be32(d, 0) {
	case 0x80211001, 0x80211002:
		return avs(d)
	case 0x44, 0x41, 0x44000000, 0x41000000:
		return LinkWireless, 144
	}
	return LinkWireless, 0
}

// avs follows the header of the AVS project's drivers: a magic number and the length.
func avs(d []byte) (LinkType, int) {
	if len(d) < 8 {
		return nowhere, 0
	}
	return sized(LinkWireless, be32(d, 4), 8)
}

// radiotap follows www.radiotap.org: version 0, padding, and the length.
func radiotap(d []byte) (LinkType, int) {
	if len(d) < 8 || d[0] != 0 {
		return nowhere, 0
	}
	return sized(LinkWireless, uint32(le16(d, 2)), 8)
}

// ppi follows the Per-Packet Information header specification: version, flags, the length, and the link type.
func ppi(d []byte) (LinkType, int) {
	if len(d) < 8 {
		return nowhere, 0
	}
	return anyLink(le32(d, 4)), max(8, int(le16(d, 2)))
}

// pktap follows Apple's net/pktap.h: the length, the kind of the record, of which 1 is a packet, and the link type.
func pktap(d []byte) (LinkType, int) {
	if len(d) < 12 || le32(d, 4) != 1 {
		return nowhere, 0
	}
	return sized(anyLink(le32(d, 8)), le32(d, 0), 108)
}

// anyLink is the link type that a header tells.
func anyLink(n uint32) LinkType {
	if n >= minEtherType {
		return nowhere
	}
	return LinkType(n)
}

// sized leads on to next after as many bytes as a header says, at least so many.
func sized(next LinkType, n, least uint32) (LinkType, int) {
	if n < least || n > maxOffset {
		return nowhere, 0
	}
	return next, int(n)
}

// tzsp follows TaZmen Sniffer Protocol: version, type, encapsulation by numbers of its own, and tagged fields up to one of type 1.
func tzsp(d []byte) (LinkType, int) {
	if len(d) < 5 || d[1] == 4 || d[1] == 5 {
		return nowhere, 0
	}
	next := nowhere
	switch be16(d, 2) {
	case 1:
		next = LinkEthernet
	case 2:
		next = LinkTokenRing
	case 4:
		next = LinkPPP
	case 5:
		next = LinkFDDI
	case 7:
		next = LinkRaw
	case 18:
		next = LinkWireless
	case 119:
		next = LinkPrism
	case 126:
		next = LinkRadiotap
	case 127:
		next = LinkAVS
	}
	for n := 4; n < len(d); {
		switch {
		case d[n] == 1:
			return next, n + 1
		case d[n] == 0:
			n++
		case n+1 >= len(d):
			return nowhere, 0
		default:
			n += 2 + int(d[n+1])
		}
	}
	return nowhere, 0
}

// redback follows SmartEdge's header: protocol, and where the frame and its network layer begin. The difference of these tells what comes before the network layer.
func redback(d []byte) (LinkType, int) {
	if len(d) < 24 {
		return nowhere, 0
	}
	n, before := int(be16(d, 20)), int(be16(d, 22))-int(be16(d, 20))
	switch be16(d, 18) {
	case 1:
		switch before {
		case 0:
			return LinkIPv4, n
		case 2, 4:
			return LinkPPP, n
		}
		return LinkEthernet, n
	case 2:
		if before > 0 {
			return LinkEthernet, n
		}
	case 3, 4, 8:
		return LinkEthernet, n
	case 6:
		if be32(d, 4)&0x04000000 == 0 {
			n += 4
		}
		if before == 0 {
			return LinkPPP, n
		}
		return LinkEthernet, n
	case 9:
		if before == 0 {
			return LinkIPv6, n
		}
		return LinkEthernet, n
	}
	return nowhere, 0
}

// symantec follows Symantec's firewalls: an EtherType at one of two places, the other of which has 0.
func symantec(d []byte) (LinkType, int) {
	if len(d) < 12 || (be16(d, 6) == 0) == (be16(d, 10) == 0) {
		return nowhere, 0
	}
	if et := be16(d, 6); et != 0 {
		return etherLink(et, 44)
	}
	return etherLink(be16(d, 10), 56)
}

// nflog follows what Linux' netfilter logs: four bytes, and fields of length and type in the writer's byte order, one of which is the packet.
func nflog(d []byte) (LinkType, int) {
	const payload = 9 // NFULA_PAYLOAD
	for at := 4; at+4 <= len(d); {
		n, kind := int(le16(d, at)), le16(d, at+2)
		if kind > 0xff { // none is that large: it is big endian
			n, kind = int(be16(d, at)), be16(d, at+2)
		}
		switch {
		case n < 4:
			return nowhere, 0
		case kind == payload:
			return LinkIPv4, at + 4
		}
		at += (n + 3) &^ 3
	}
	return nowhere, 0
}

// netAnalyzer follows the four bytes of a netANALYZER card, little endian: among them a flag of events, the version, and in version 2 a kind, of which 0 is a frame.
func netAnalyzer(d []byte) (LinkType, int) {
	if len(d) < 4 || d[1]&1 != 0 {
		return nowhere, 0
	}
	if version := d[1] >> 2 & 15; version == 1 || version == 2 && d[3]>>4 == 0 {
		return LinkEthernet, 4
	}
	return nowhere, 0
}

// epon follows IEEE 802.3, 65.1.3.2: what is captured of the preamble, up to the delimiter of the link's id, then six bytes from that on. DPoE has a flag of encryption in them.
func epon(d []byte) (LinkType, int) {
	for n := range 3 {
		if n+6 > len(d) {
			break
		}
		if be16(d, n) == 0xd555 {
			if security := d[n+2]; security != 0x55 && security&2 != 0 {
				break
			}
			return LinkEthernet, n + 6
		}
		if d[n] != 0x55 {
			break
		}
	}
	return nowhere, 0
}

// mPacket follows IEEE 802.3, 99.3: a preamble, and the delimiter of a frame that is not to be parted; parts of frames lead nowhere.
func mPacket(d []byte) (LinkType, int) {
	n := 0
	for n < len(d) && (d[n] == 0x55 || n == 0 && d[0] == 0x50) { // the first byte may be cut in half
		n++
	}
	if n >= len(d) || d[n] != 0xd5 {
		return nowhere, 0
	}
	return LinkEthernet, n + 1
}

// vpp follows the dispatch trace of vector packet processing, version 1: how many texts there are, which end with 0, and a hint what comes after them; without one the
// packet's first byte tells.
func vpp(d []byte) (LinkType, int) {
	if len(d) < 8 || d[0] != 1 {
		return nowhere, 0
	}
	n := 8
	texts := 4
	if d[2] > 4 {
		texts = 5
	}
	for ; n < len(d) && texts > 0; n++ {
		if d[n] == 0 {
			texts--
		}
	}
	if n >= len(d) {
		return nowhere, 0
	}
	switch hint := d[3]; {
	case hint == 2, (hint == 0 || hint > 5) && d[n] == 0x45:
		return LinkIPv4, n
	case hint == 3, (hint == 0 || hint > 5) && d[n] == 0x60:
		return LinkIPv6, n
	case hint == 4, hint == 5: // TCP or UDP at once
		return nowhere, n
	}
	return LinkEthernet, n
}

// erf follows Endace's extensible record format: 16 bytes with the type, as many extension headers of 8 bytes as are marked, and what the type brings.
func erf(d []byte) (LinkType, int) {
	n, more := 16, len(d) > 8 && d[8]&0x80 != 0
	for more && n+8 <= len(d) {
		more = d[n]&0x80 != 0
		n += 8
	}
	if more || n > len(d) {
		return nowhere, 0
	}
	switch d[8] & 0x7f {
	case 1, 10, 15, 19:
		return LinkPPPHDLC, n
	case 5, 17: // of many channels
		return LinkPPPHDLC, n + 4
	case 2, 11, 16, 20:
		return LinkEthernet, n + 2
	case 4: // AAL5, after the header of a cell
		return aal5LLC(d, n+4)
	case 9:
		return aal5LLC(d, n+8)
	case 22:
		return LinkIPv4, n
	case 23:
		return LinkIPv6, n
	}
	return nowhere, 0
}

// gfp follows the generic framing procedure of ITU-T G.7041, 6.1: length and its check sequence, type of the payload, kind of the extension header, what the payload is, and
// their check sequence; an extension header of a linear frame has four bytes.
func gfp(d []byte) (LinkType, int) {
	const user, management = 0, 5
	if len(d) < 8 || be16(d, 0) < 4 || d[4]>>5 != user && d[4]>>5 != management {
		return nowhere, 0
	}
	n := 8
	if d[4]&15 == 1 {
		n += 4
	}
	switch d[5] {
	case 1:
		return LinkEthernet, n
	case 2:
		return LinkPPPHDLC, n
	}
	return nowhere, n
}

// docsis follows DOCSIS 3.1 MULPI, 6.2: frame control, the length of extended headers, the length of all, extended headers, and a check sequence. What is encrypted or part of
// a frame leads nowhere.
func docsis(d []byte) (LinkType, int) {
	const kinds, parameters, extended = 0xc0, 0x3e, 0x01
	const isolation, queueDepth = 0x80, 4 << 1
	if len(d) < 6 {
		return nowhere, 0
	}
	n, headers := 6, 0
	if d[0]&extended != 0 {
		headers = int(d[1])
		n += headers
	}
	if kind := d[0] & kinds; kind != 0 && kind != isolation || d[0]&parameters == queueDepth || n > len(d) || encryptedDOCSIS(d[4:4+headers]) || crcDOCSIS(d[:n-2]) != be16(d, n-2) {
		return nowhere, 0
	}
	return LinkEthernet, n
}

// encryptedDOCSIS looks for an extended header of baseline privacy that says so: 6.2.6.
func encryptedDOCSIS(h []byte) bool {
	for len(h) > 2 {
		if kind := h[0] >> 4; (kind == 3 || kind == 4 || kind == 7) && h[2]&0x80 != 0 {
			return true
		}
		h = h[min(len(h), 1+int(h[0]&15)):]
	}
	return false
}

// crcDOCSIS returns the header check sequence, that of ITU-T V.41 with bits reflected as HDLC has it, in the order of the wire.
func crcDOCSIS(h []byte) uint16 {
	crc := uint16(0xffff)
	for _, b := range h {
		crc ^= uint16(b)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0x8408
		}
	}
	return ^crc>>8 | ^crc<<8
}
