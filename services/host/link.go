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
	stats     handover.Stats
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
	return links, nil
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
	if l != nil && !l.loopback && slices.ContainsFunc(l.addresses, func(a netip.Addr) bool { return !a.IsLinkLocalUnicast() || a.Is4() }) {
		return "both"
	}
	return "in"
}
