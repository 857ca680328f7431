package management

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"galvo/services/config"
)

// wanted is what a link is to have.
type wanted struct {
	addresses          []timed
	gateway4, gateway6 netip.Addr
	auto6              bool // routers say what else there is of IPv6
}

// A timed address vanishes by itself when its time is over, also when nobody is there to remove it.
type timed struct {
	prefix netip.Prefix
	until  time.Time // zero is forever
}

func device(l Link) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index, Name: l.Name}}
}

// prepare sets how the kernel treats the link, and switches it on. Router advertisements are followed even if the machine forwards (accept_ra 2).
func prepare(l Link, m config.Management) error {
	sysctls := []struct{ name, value string }{
		{"disable_ipv6", "0"}, {"accept_ra", "0"}, {"autoconf", "1"}, {"addr_gen_mode", "0"}, {"use_tempaddr", "0"},
	}
	switch m.IPv6 {
	case "off":
		sysctls = sysctls[:1]
		sysctls[0].value = "1"
	case "auto":
		sysctls[1].value = "2"
	}
	var errs []error
	for _, s := range sysctls {
		path := "/proc/sys/net/ipv6/conf/" + l.Name + "/" + s.name
		if err := os.WriteFile(path, []byte(s.value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, netlink.LinkSetARPOn(device(l)), netlink.LinkSetUp(device(l)))
	return errors.Join(errs...)
}

// apply makes a link have what is wanted, and no IPv4 address, static IPv6 address and default route but those.
func apply(l Link, w wanted) error {
	have, err := netlink.AddrList(device(l), netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	var errs []error
	for _, a := range have {
		p := prefixOf(a.IPNet)
		if !slices.ContainsFunc(w.addresses, func(t timed) bool { return t.prefix == p }) && ours(l, p, a.Flags) {
			errs = append(errs, netlink.AddrDel(device(l), &a))
		}
	}
	for _, t := range w.addresses {
		errs = append(errs, addAddress(l, t))
	}
	errs = append(errs, setGateway(l, netlink.FAMILY_V4, w.gateway4), setGateway(l, netlink.FAMILY_V6, w.gateway6))
	return errors.Join(errs...)
}

// ours reports whether an address may be removed: not what the kernel makes of advertisements, which ends in the link's own identifier and is
// permanent only where the router says so.
func ours(l Link, p netip.Prefix, flags int) bool {
	if p.Addr().Is4() {
		return true
	}
	a := p.Addr().As16()
	return !p.Addr().IsLinkLocalUnicast() && flags&unix.IFA_F_PERMANENT != 0 && [8]byte(a[8:]) != identifier(l.MAC)
}

// identifier returns the modified EUI-64 of a MAC address (RFC 4291, appendix A).
func identifier(mac string) (id [8]byte) {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return id
	}
	return [8]byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func addAddress(l Link, t timed) error {
	a := &netlink.Addr{IPNet: ipNet(t.prefix)}
	if !t.until.IsZero() {
		left := int(time.Until(t.until).Seconds())
		if left <= 0 {
			return nil
		}
		a.ValidLft, a.PreferedLft = left, left
	}
	if t.prefix.Addr().Is4() && t.prefix.Bits() < 31 {
		b := ipNet(t.prefix)
		for i := range b.IP {
			b.IP[i] |= ^b.Mask[i]
		}
		a.Broadcast = b.IP
	}
	if t.prefix.Addr().IsLinkLocalUnicast() {
		a.Scope = unix.RT_SCOPE_LINK
	}
	if err := netlink.AddrReplace(device(l), a); err != nil {
		return fmt.Errorf("add %s: %w", t.prefix, err)
	}
	return nil
}

// setGateway makes g the default route through the link, or removes the one that is there. Routes that routers announce are the kernel's.
func setGateway(l Link, family int, g netip.Addr) error {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{LinkIndex: l.Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	there := false
	for _, r := range routes {
		if !isDefault(r.Dst) || r.Protocol == unix.RTPROT_RA {
			continue
		}
		if via, _ := netip.AddrFromSlice(r.Gw); via.Unmap() == g {
			there = true
			continue
		}
		errs = append(errs, netlink.RouteDel(&r))
	}
	if g.IsValid() && !there {
		r := &netlink.Route{LinkIndex: l.Index, Gw: g.AsSlice(), Priority: 100, Protocol: unix.RTPROT_STATIC}
		// A DHCP server may name a router outside of the network that it gives (RFC 3442 has the like).
		r.SetFlag(netlink.FLAG_ONLINK)
		errs = append(errs, netlink.RouteReplace(r))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set the router %s: %w", g, err)
	}
	return nil
}

func isDefault(n *net.IPNet) bool {
	if n == nil {
		return true
	}
	ones, _ := n.Mask.Size()
	return ones == 0
}

// release removes what Galvo put on a link. Errors are those of links that are gone.
func release(l Link) {
	_ = apply(l, wanted{})
}
