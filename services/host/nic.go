package host

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An offload is a feature of a NIC, or of the kernel behind it, that changes frames before they are captured.
type offload struct {
	feature string // as `ethtool -k` has it
	sent    bool   // it is about frames that this machine sends, so it matters only where they are captured
	harm    string // what remains if it cannot be switched off
}

var offloads = []offload{
	{"rx-gro", false, "received segments may be merged (GRO)"},
	{"rx-lro", false, "received segments may be merged (LRO)"},
	{"rx-gro-hw", false, "received segments may be merged (GRO in hardware)"},
	{"rx-gro-list", false, "received segments may be merged (GRO lists)"},
	{"rx-udp-gro-forwarding", false, "received segments may be merged (UDP GRO)"},
	{"tx-generic-segmentation", true, "sent segments are seen before they are cut up (GSO)"},
	{"tx-tcp-segmentation", true, "sent segments are seen before they are cut up (TSO)"},
	{"tx-tcp-ecn-segmentation", true, "sent segments are seen before they are cut up (TSO with ECN)"},
	{"tx-tcp6-segmentation", true, "sent segments are seen before they are cut up (TSO for IPv6)"},
	{"tx-udp-segmentation", true, "sent datagrams are seen before they are cut up (USO)"},
}

// nics changes NICs, and remembers how they were.
type nics struct {
	ethtool *ethtool.Ethtool
	changed []change
}

type change struct {
	name     string
	features map[string]bool // as they were
}

func openNICs() (*nics, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("open ethtool: %w", err)
	}
	return &nics{ethtool: e}, nil
}

// close undoes what was changed, the latest first. Links that are gone need nothing.
func (n *nics) close() {
	for len(n.changed) > 0 {
		c := n.changed[len(n.changed)-1]
		n.changed = n.changed[:len(n.changed)-1]
		if err := n.ethtool.Change(c.name, c.features); err != nil {
			slog.Debug("give the NIC its settings back", "name", c.name, "error", err)
		}
	}
	n.ethtool.Close()
}

// prepare makes a NIC fit for capturing: no offloads that change frames, the largest receive ring, switched on. It returns the driver, whether
// frames come with their FCS, and what could not be done.
func (n *nics) prepare(l *link, both bool) (driver string, canFCS bool, reason string) {
	driver, err := n.ethtool.DriverName(l.name)
	if err != nil || driver == "" {
		driver = l.kind
	}
	var reasons []string
	if canFCS, err = n.disableOffloads(l.name, both); err != nil {
		reasons = append(reasons, err.Error())
	}
	if !both {
		n.growRing(l.name)
		quiet(l)
	}
	if err := switchOn(l); err != nil {
		reasons = append(reasons, fmt.Sprintf("it cannot be switched on: %v", err))
	}
	return driver, canFCS, strings.Join(reasons, "; ")
}

// disableOffloads switches off what changes frames, and reads the result back: the kernel ignores what a driver cannot do without an error.
func (n *nics) disableOffloads(name string, both bool) (canFCS bool, err error) {
	before, err := n.ethtool.FeaturesWithState(name)
	if err != nil {
		return false, fmt.Errorf("its offloads cannot be read: %w", err)
	}
	off, was := map[string]bool{}, map[string]bool{}
	for _, o := range offloads {
		if s := before[o.feature]; (s.Active || s.Requested) && (!o.sent || both) {
			off[o.feature], was[o.feature] = false, true
		}
	}
	canFCS = before["rx-fcs"].Active && before["rx-all"].Active
	if len(off) == 0 {
		return canFCS, nil
	}
	changeErr := n.ethtool.Change(name, off)
	n.changed = append(n.changed, change{name, was})
	after, err := n.ethtool.FeaturesWithState(name)
	if err != nil {
		return canFCS, fmt.Errorf("its offloads cannot be read: %w", err)
	}
	var left []string
	for _, o := range offloads {
		if _, asked := off[o.feature]; asked && after[o.feature].Active {
			left = append(left, o.harm)
		}
	}
	if len(left) == 0 {
		return canFCS, nil
	}
	text := strings.Join(left, "; ")
	if changeErr != nil {
		text += fmt.Sprintf(" (%v)", changeErr)
	}
	return canFCS, fmt.Errorf("%s", text)
}

// growRing gives the NIC the largest receive ring that it has, which not every driver can change; a burst then has more room.
func (n *nics) growRing(name string) {
	r, err := n.ethtool.GetRing(name)
	if err != nil || r.RxPending >= r.RxMaxPending {
		return
	}
	r.RxPending = r.RxMaxPending
	if _, err := n.ethtool.SetRing(name, r); err != nil {
		slog.Debug("grow the receive ring", "name", name, "error", err)
	}
}

// quiet keeps the kernel from making an address for a capture port, which would send frames of its own into the network under test.
func quiet(l *link) {
	if l.loopback || l.up {
		return
	}
	handle := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.index, Name: l.name}}
	if err := netlink.LinkSetIP6AddrGenMode(handle, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
		slog.Debug("keep a capture port without an address", "name", l.name, "error", err)
	}
}

func switchOn(l *link) error {
	if l.up {
		return nil
	}
	return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.index, Name: l.name}})
}

// speed returns the speed in Mbit/s, or 0 if it is unknown.
func (n *nics) speed(name string) int {
	s, err := n.ethtool.CmdGet(&ethtool.EthtoolCmd{}, name)
	if err != nil || int32(s) <= 0 || s == 0xffff {
		return 0
	}
	return int(s)
}

// bus returns the address of the NIC on its bus.
func (n *nics) bus(name string) string {
	b, _ := n.ethtool.BusInfo(name)
	return b
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
