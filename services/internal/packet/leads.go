package packet

import "encoding/binary"

// A lead is a header before a frame. It returns the link type of what it leads on to, which for an EtherType is its number, and where that begins; d begins with the
// header. If that is nothing that Decode understands, nowhere and the length of the header; 0 if it is not known.
type lead func(d []byte) (next LinkType, n int)

// What only leads lead on to.
const (
	nowhere    LinkType = 0xffff           // no link type, and a reserved EtherType
	linkPadded LinkType = minEtherType - 1 // LinkWireless with padding between header and body
)

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

// sized leads on to next after as many bytes as a header says, at least so many.
func sized(next LinkType, n, least uint32) (LinkType, int) {
	if n < least || n > maxOffset {
		return nowhere, 0
	}
	return next, int(n)
}
