package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"galvo/services/config"
	"galvo/services/internal/handover"
)

// A link is a link of the machine.
type link struct {
	index     int
	name      string
	kind      string // of software links: veth, bridge, dummy, loopback
	mac       string
	permanent string
	mtu       int
	loopback  bool
	up        bool // switched on
	carrier   bool
	addresses []netip.Addr

	promiscuous bool
	noARP       bool
	taken       string // who else uses it: a bridge, a VLAN interface, a route
	stats       handover.Stats
}

func (l *link) state() (state, reason string) {
	switch {
	case !l.up:
		return "down", fmt.Sprintf("the link is switched off: `ip link set %s up` switches it on", l.name)
	case !l.carrier:
		return "down", "no carrier: check the cable and the other end"
	}
	return "up", ""
}

// machineLinks lists the links of the network namespace with their addresses and counters.
func machineLinks() ([]link, error) {
	found, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	links := make([]link, 0, len(found))
	for _, f := range found {
		a := f.Attrs()
		l := link{
			index: a.Index, name: a.Name, kind: f.Type(), mac: a.HardwareAddr.String(), permanent: a.PermHWAddr.String(), mtu: a.MTU,
			loopback: a.RawFlags&unix.IFF_LOOPBACK != 0, up: a.RawFlags&unix.IFF_UP != 0, carrier: a.RawFlags&unix.IFF_RUNNING != 0,
			promiscuous: a.RawFlags&unix.IFF_PROMISC != 0, noARP: a.RawFlags&unix.IFF_NOARP != 0,
		}
		if a.MasterIndex != 0 {
			l.taken = "another interface has it"
		}
		if l.loopback {
			l.kind = "loopback"
		}
		for _, addr := range addrs {
			if ip, ok := netip.AddrFromSlice(addr.IP); ok && addr.LinkIndex == a.Index {
				l.addresses = append(l.addresses, ip.Unmap())
			}
		}
		if s := a.Statistics; s != nil {
			// Drivers put a full receive ring in one of these, or the same number in several.
			drops := max(s.RxMissedErrors, s.RxFifoErrors, s.RxOverErrors)
			l.stats = handover.Stats{Time: now, RxPackets: s.RxPackets, RxBytes: s.RxBytes, NicDrops: drops}
		}
		links = append(links, l)
	}
	markTaken(links, found)
	return links, nil
}

// markTaken says of each link whether it carries another one (VLAN, macvlan).
func markTaken(links []link, found []netlink.Link) {
	at := map[int]*link{}
	for i := range links {
		at[links[i].index] = &links[i]
	}
	for _, f := range found {
		// The parent of a veth is its peer.
		if l := at[f.Attrs().ParentIndex]; l != nil && f.Type() != "veth" {
			l.taken = "the interface " + f.Attrs().Name + " is on it"
		}
	}
}

// routesAge is how long a list of routes is good: a router may have very many.
const routesAge = 10 * time.Second

// routes are the links through which the machine sends, without what IPv6 does by itself.
type routes struct {
	read time.Time
	by   map[int]string
}

func (r *routes) mark(links []link) {
	if time.Since(r.read) > routesAge {
		r.read, r.by = time.Now(), map[int]string{}
		list, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return // links with an address are known all the same
		}
		for _, route := range list {
			if !isLinkLocal(route.Dst) {
				r.by[route.LinkIndex] = fmt.Sprintf("the machine sends to %v through it", route.Dst)
			}
		}
	}
	for i, l := range links {
		if l.taken == "" {
			links[i].taken = r.by[l.index]
		}
	}
}

func isLinkLocal(n *net.IPNet) bool {
	return n != nil && (n.IP.IsLinkLocalUnicast() && n.IP.To4() == nil || n.IP.IsMulticast())
}

func (l *link) device() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.index, Name: l.name}}
}

// inUse says who else uses the link, or nothing.
func (l *link) inUse() string {
	if l.taken == "" && hasAddress(l) {
		return "it has an address"
	}
	return l.taken
}

// hasAddress reports whether the link has one but that which IPv6 makes by itself.
func hasAddress(l *link) bool {
	return slices.ContainsFunc(l.addresses, func(a netip.Addr) bool { return !a.IsLinkLocalUnicast() || a.Is4() })
}

// find returns the link that a port of the configuration names, or nil.
func (k *keeper) find(want config.Port, links []link) *link {
	for i := range links {
		l := &links[i]
		switch {
		case want.Name != "" && l.name == want.Name,
			want.MAC != "" && sameMAC(want.MAC, l),
			want.PCI != "" && k.nics.bus(l.name) == want.PCI:
			return l
		}
	}
	return nil
}

// sameMAC prefers the permanent address, which stays when a link is enslaved or renamed.
func sameMAC(want string, l *link) bool {
	a, err := net.ParseMAC(want)
	if err != nil {
		return false
	}
	if l.permanent != "" {
		return a.String() == l.permanent
	}
	return a.String() == l.mac
}

func wording(p config.Port) string { return p.Name + p.MAC + p.PCI }

// direction says what is captured of a port: what the configuration says, else both directions of a port with an address, and received frames of
// any other. A frame on the loopback link is both sent and received, so one direction has them all.
func direction(want config.Port, l *link) string {
	if want.Direction != "" {
		return want.Direction
	}
	if l != nil && !l.loopback && hasAddress(l) {
		return "both"
	}
	return "in"
}
