package filter

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/packet"
)

const (
	addressValues = "`a`, `a/length`, `a/mask`; IPv4 may leave out last octets before a mask: `10.0/16`. With a port: `a:port`, `a/length:port`, `[v6]:port`, `[v6/length]:port`"
	macValues     = "six octets with `:` or `-`, three groups with `.`; first octets with a length in bits: `00:1b:1b/24`"
)

var addressOperands = []operand{
	{
		name: "ip", subject: "Addresses", values: addressValues,
		example: "ip == 10.0/16", meaning: "The source or the destination address of the IP header is in the set. With a port, the same side has the address and the TCP or UDP port. Host bits are ignored.",
		is: "source or destination address is", isNot: "neither source nor destination address is",
		oracle: "ip.addr#1 == 10.0.0.0/16", prune: pruning{byKey, "address"}, ofFlow: "ip",
		read: readAddress, keys: addressKeys(eitherSide), flow: bySide(eitherSide),
	},
	{
		name: "srcip", aliases: []string{"ipsrc"}, subject: "Addresses", values: "as `ip`",
		example: "srcip == 10.0.0.1", meaning: "The source address is in the set; with a port, the source port too.",
		is: "source address is", oracle: "ip.src#1 == 10.0.0.1", prune: pruning{byKey, "address"}, ofFlow: "ip",
		read: readAddress, keys: addressKeys(sourceSide), flow: bySide(sourceSide),
	},
	{
		name: "dstip", aliases: []string{"ipdst"}, subject: "Addresses", values: "as `ip`",
		example: "dstip == 10.0.0.1", meaning: "The destination address is in the set; with a port, the destination port too.",
		is: "destination address is", oracle: "ip.dst#1 == 10.0.0.1", prune: pruning{byKey, "address"}, ofFlow: "ip",
		read: readAddress, keys: addressKeys(destinationSide), flow: bySide(destinationSide),
	},
	{
		name: "arpip", subject: "Addresses", values: "IPv4: `a`, `a/length`, `a/mask`",
		example: "arpip == 192.168.1.1", meaning: "The sender or the target address of an ARP packet of any operation is in the set.",
		is: "ARP sender or target address is", isNot: "neither ARP sender nor target address is",
		oracle: "arp.src.proto_ipv4 == 192.168.1.1 || arp.dst.proto_ipv4 == 192.168.1.1", prune: pruning{byKey, "address"},
		read: readARPAddress,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				if p.Layers&packet.ARP == 0 {
					return false
				}
				sender, ok := p.ARPSender()
				if ok && s.hasAddress(v4(sender), 0, 0) {
					return true
				}
				target, ok := p.ARPTarget()
				return ok && s.hasAddress(v4(target), 0, 0)
			}
		},
	},
	{
		name: "mac", subject: "Addresses", values: macValues,
		example: "mac == 00:1b:1b/24", meaning: "The source or the destination address of the Ethernet header is in the set.",
		is: "source or destination MAC address is", isNot: "neither source nor destination MAC address is",
		oracle: "eth.addr#1 == 00:1b:1b:00:00:01", prune: pruning{byKey, "mac"},
		read: readMAC, keys: macKeys(eitherSide),
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				return p.Layers&packet.Ethernet != 0 && (s.hasMAC(p.SrcMAC()) || s.hasMAC(p.DstMAC()))
			}
		},
	},
	{
		name: "srcmac", subject: "Addresses", values: "as `mac`",
		example: "srcmac == 00:1b:1b:00:00:01", meaning: "The source address of the Ethernet header is in the set.",
		is: "source MAC address is", oracle: "eth.src#1 == 00:1b:1b:00:00:01", prune: pruning{byKey, "mac"},
		read: readMAC, keys: macKeys(sourceSide),
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.Layers&packet.Ethernet != 0 && s.hasMAC(p.SrcMAC()) }
		},
	},
	{
		name: "dstmac", subject: "Addresses", values: "as `mac`",
		example: "dstmac == ff:ff:ff:ff:ff:ff", meaning: "The destination address of the Ethernet header is in the set.",
		is: "destination MAC address is", oracle: "eth.dst#1 == ff:ff:ff:ff:ff:ff", prune: pruning{byKey, "mac"},
		read: readMAC, keys: macKeys(destinationSide),
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool { return p.Layers&packet.Ethernet != 0 && s.hasMAC(p.DstMAC()) }
		},
	},
	{
		name: "mactype", subject: "Addresses", values: "`unicast`, `broadcast`, `multicast`",
		example: "mactype == broadcast", meaning: "The kind of the destination address of the Ethernet header. Broadcast is all ones; multicast has the group bit and is not broadcast.",
		is: "destination MAC address is of type", oracle: "eth.dst#1 == ff:ff:ff:ff:ff:ff",
		read: (&numbers{max: 2, what: "one of unicast, broadcast and multicast", names: []numberName{{unicast, "unicast", ""}, {broadcast, "broadcast", ""}, {multicast, "multicast", ""}}}).readNamed,
		header: func(s *set, _ *Env) func(*packet.Packet) bool {
			return func(p *packet.Packet) bool {
				if p.Layers&packet.Ethernet == 0 {
					return false
				}
				switch dst := p.DstMAC(); {
				case dst == 1<<48-1:
					return s.has(broadcast)
				case dst>>40&1 != 0:
					return s.has(multicast)
				}
				return s.has(unicast)
			}
		},
	},
	{
		name: "multicastGroup", subject: "Addresses", values: "a multicast address, IPv4 or IPv6; `any`",
		example: "multicastGroup == 239.255.255.250", meaning: "An IGMP or MLD message whose group field or any of whose group records is the address. `any` is every IGMP and MLD message; general queries match only that.",
		is: "multicast group asked for or reported is", oracle: "igmp.maddr == 239.255.255.250", prune: pruning{byKey, "group message"}, cost: scan,
		read: readGroupAddress, header: func(s *set, _ *Env) func(*packet.Packet) bool { return s.multicastGroup },
	},
}

const (
	unicast uint32 = iota
	broadcast
	multicast
)

// readNamed reads names only.
func (k *numbers) readNamed(c *checker, it item) *Error {
	text := strings.TrimSpace(it.text)
	if _, _, ok := k.named(text); !ok {
		return k.strange(c, it, text)
	}
	return k.read(c, it)
}

// An ipAddr is an address as two words; IPv4 is its IPv4-mapped form with the version apart, so that no IPv6 address equals it.
type ipAddr struct {
	hi, lo uint64
	v6     bool
}

func v4(a uint32) ipAddr { return ipAddr{lo: uint64(a)} }

// An address is a value of ip: a network and perhaps a port.
type address struct {
	ipAddr        // masked
	maskHi        uint64
	maskLo        uint64
	port          uint16
	hasPort, host bool // host: the mask is all ones
}

// proto is the set of layers whose ports count.
func (s *set) hasAddress(a ipAddr, proto packet.Layers, port uint16) bool {
	for i := range s.addresses {
		w := &s.addresses[i]
		if a.lo&w.maskLo == w.lo && a.hi&w.maskHi == w.hi && a.v6 == w.v6 && (!w.hasPort || proto != 0 && port == w.port) {
			return true
		}
	}
	return false
}

// addresses returns the addresses of the IP header, as far as they are captured.
func addresses(p *packet.Packet) (src, dst ipAddr, hasSrc, hasDst bool) {
	at := int(p.L3)
	switch {
	case p.Layers&packet.IPv4 != 0:
		return v4(p.Src4()), v4(p.Dst4()), true, true
	case p.Layers&packet.IPv6 != 0:
		hi, lo := p.Src6()
		src = ipAddr{hi, lo, true}
		hi, lo = p.Dst6()
		return src, ipAddr{hi, lo, true}, true, true
	case p.Layers&packet.PartIPv4 != 0 && p.Have >= 16:
		src, hasSrc = v4(binary.BigEndian.Uint32(p.Data[at+12:])), true
		if p.Have >= 20 {
			dst, hasDst = v4(binary.BigEndian.Uint32(p.Data[at+16:])), true
		}
	case p.Layers&packet.PartIPv6 != 0 && p.Have >= 24:
		hi, lo := p.Src6()
		src, hasSrc = ipAddr{hi, lo, true}, true
	}
	return src, dst, hasSrc, hasDst
}

type sides uint8

const (
	sourceSide      sides = 1
	destinationSide sides = 2
	eitherSide      sides = 3
)

// bySide tests the addresses. One IPv4 network is what most filters ask for: that takes 3 ns, and the list 20.
func bySide(which sides) func(s *set, env *Env) test {
	return func(s *set, env *Env) test {
		general := onHeaders(byAnySide(s, env, which))
		if len(s.addresses) != 1 || s.addresses[0].v6 || s.addresses[0].hasPort {
			return general
		}
		// Source and destination lie side by side. Of a side that does not count nothing is left by its mask, which is never equal.
		const never = 1
		mask, value := uint32(s.addresses[0].maskLo), uint32(s.addresses[0].lo)
		srcMask, srcValue, dstMask, dstValue := mask, value, mask, value
		if which&sourceSide == 0 {
			srcMask, srcValue = 0, never
		}
		if which&destinationSide == 0 {
			dstMask, dstValue = 0, never
		}
		return func(p *packet.Packet, ref *flow.Ref, v l7.Verdict) Result {
			if p.Layers&packet.IPv4 == 0 {
				if p.Layers&packet.PartIPv4 == 0 {
					return No
				}
				return general(p, ref, v)
			}
			both := binary.BigEndian.Uint64(p.Data[int(p.L3)+12:])
			if uint32(both>>32)&srcMask == srcValue || uint32(both)&dstMask == dstValue {
				return Yes
			}
			return No
		}
	}
}

func byAnySide(s *set, env *Env, which sides) func(p *packet.Packet) bool {
	ports := env.portLayers()
	own := env.Fragments == OwnHeaders
	return func(p *packet.Packet) bool {
		src, dst, hasSrc, hasDst := addresses(p)
		proto := p.Layers & ports
		if own && p.Layers&packet.LaterFragment != 0 {
			proto = 0
		}
		return which&sourceSide != 0 && hasSrc && s.hasAddress(src, proto, p.SrcPort) ||
			which&destinationSide != 0 && hasDst && s.hasAddress(dst, proto, p.DstPort)
	}
}

func readAddress(c *checker, it item) *Error {
	a, err := parseAddress(c, it, true)
	if err != nil {
		return err
	}
	c.set.addresses = append(c.set.addresses, a)
	c.add(a.String())
	return nil
}

func readARPAddress(c *checker, it item) *Error {
	a, err := parseAddress(c, it, false)
	if err != nil {
		return err
	}
	if a.v6 {
		return c.wrong(it, "ARP carries IPv4 addresses only", "an IPv4 address")
	}
	c.set.addresses = append(c.set.addresses, a)
	c.add(a.String())
	return nil
}

// parseAddress reads an address with an optional mask and, if ports is set, an optional port.
func parseAddress(c *checker, it item, ports bool) (a address, err *Error) {
	text := strings.TrimSpace(it.text)
	host, port, hasPort := text, "", false
	switch {
	case strings.HasPrefix(text, "["):
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return a, c.wrong(it, "the bracket is not closed", "]")
		}
		host = text[1:end]
		if !strings.Contains(host, ":") {
			return a, c.wrong(it, "brackets are for IPv6 addresses", "an IPv6 address")
		}
		switch rest := text[end+1:]; {
		case strings.HasPrefix(rest, ":"):
			port, hasPort = rest[1:], true
		case rest != "":
			return a, c.wrong(it, fmt.Sprintf("%q follows the bracket; a mask stands inside it, a port after a colon", short(rest)), ":port")
		}
	case strings.Count(text, ":") == 1:
		i := strings.IndexByte(text, ':')
		host, port, hasPort = text[:i], text[i+1:], true
	}
	if hasPort && !ports {
		return a, c.wrong(it, c.cmp.operand.name+" takes no port", "an address")
	}
	addr, mask, hasMask := strings.Cut(host, "/")
	if strings.Contains(addr, ":") {
		err = a.six(c, it, addr, mask, hasMask)
	} else {
		err = a.four(c, it, addr, mask, hasMask)
	}
	if err != nil || !hasPort {
		return a, err
	}
	n, bad := parseNumber(port)
	if bad != nil || n > 0xffff {
		return a, c.wrong(it, fmt.Sprintf("%q is not a port; it is a number from 0 to 65535", short(port)), "a port")
	}
	a.port, a.hasPort = uint16(n), true
	return a, nil
}

func (a *address) four(c *checker, it item, text, mask string, hasMask bool) *Error {
	octets := strings.Split(text, ".")
	bad := c.wrong(it, fmt.Sprintf("%q is not an IP address", short(strings.TrimSpace(it.text))), "an IPv4 or IPv6 address")
	if len(octets) > 4 {
		return bad
	}
	if len(octets) < 4 && !hasMask {
		if n, err := parseNumber(octets[0]); err == nil && n < 256 {
			bad.Message += fmt.Sprintf("; missing octets need a mask: %s/%d", strings.TrimSuffix(text, "."), 8*len(octets))
		}
		return bad
	}
	var addr uint32
	for i, o := range octets {
		n, err := strconv.ParseUint(o, 10, 32)
		if err != nil || n > 255 || o[0] == '+' || len(o) > 3 {
			return bad
		}
		addr |= uint32(n) << (24 - 8*i)
	}
	m := uint32(1<<32 - 1)
	if hasMask {
		if strings.Contains(mask, ".") {
			parsed, err := netip.ParseAddr(mask)
			if err != nil || !parsed.Is4() {
				return c.wrong(it, fmt.Sprintf("%q is not a mask", short(mask)), "a length from 0 to 32", "a mask such as 255.255.0.0")
			}
			b := parsed.As4()
			m = binary.BigEndian.Uint32(b[:])
		} else {
			n, err := parseNumber(mask)
			if err != nil || n > 32 {
				return c.wrong(it, fmt.Sprintf("%q is not a mask length of IPv4", short(mask)), "a length from 0 to 32", "a mask such as 255.255.0.0")
			}
			m = ^uint32(0) << (32 - n)
		}
	}
	*a = address{ipAddr: v4(addr & m), maskLo: uint64(m), host: m == 1<<32-1}
	return nil
}

func (a *address) six(c *checker, it item, text, mask string, hasMask bool) *Error {
	parsed, err := netip.ParseAddr(text)
	if err != nil || parsed.Zone() != "" {
		return c.wrong(it, fmt.Sprintf("%q is not an IP address", short(strings.TrimSpace(it.text))), "an IPv4 or IPv6 address")
	}
	n := uint64(128)
	if hasMask {
		var bad error
		if n, bad = parseNumber(mask); bad != nil || n > 128 {
			return c.wrong(it, fmt.Sprintf("%q is not a mask length of IPv6", short(mask)), "a length from 0 to 128")
		}
	}
	b := parsed.As16()
	*a = address{maskHi: ^uint64(0), maskLo: ^uint64(0) << (128 - n), host: n == 128}
	if n < 64 {
		a.maskHi, a.maskLo = ^uint64(0)<<(64-n), 0
	}
	a.ipAddr = ipAddr{binary.BigEndian.Uint64(b[:8]) & a.maskHi, binary.BigEndian.Uint64(b[8:]) & a.maskLo, true}
	return nil
}

// String returns the canonical spelling.
func (a address) String() string {
	text := a.ipAddr.String()
	switch {
	case a.host:
	case a.v6:
		text += "/" + strconv.Itoa(bits.OnesCount64(a.maskHi)+bits.OnesCount64(a.maskLo))
	default:
		m := uint32(a.maskLo)
		if n := bits.LeadingZeros32(^m); m == ^uint32(0)<<(32-n) {
			text += "/" + strconv.Itoa(n)
		} else {
			text += "/" + v4(m).String()
		}
	}
	switch {
	case !a.hasPort:
		return text
	case a.v6:
		return fmt.Sprintf("[%s]:%d", text, a.port)
	}
	return fmt.Sprintf("%s:%d", text, a.port)
}

func (a ipAddr) String() string {
	if !a.v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b).String()
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b).String()
}
