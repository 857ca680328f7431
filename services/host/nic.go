package host

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"galvo/services/internal/gate"
	"galvo/services/internal/handover"
	"galvo/services/internal/transceiver"
)

// An offload is a feature of a NIC, or of the kernel behind it, that changes frames before they are captured.
type offload struct {
	feature string // as `ethtool -k` has it
	sent    bool   // it is about frames that this machine sends, so it matters only where they are captured
	harm    string // what remains if it cannot be switched off
}

var offloads = []offload{
	// Some NICs and drivers keep the number of a tag that they take off, and lose its priority or kind (e1000, VMXNET3). The kernel takes it off as a whole.
	{"rx-vlan-hw-parse", false, "VLAN tags may lose their priority or their kind"},
	{"rx-vlan-stag-hw-parse", false, "802.1ad tags may lose their priority"},
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

// The features that let frames with a wrong frame check sequence in, and keep the sequence.
var fcsFeatures = []string{"rx-all", "rx-fcs"}

// nics changes NICs, and remembers how they were.
type nics struct {
	tool NIC
	keep bool // the NICs stay as they are when the process ends: on an appliance
	undo []undo
}

// A NIC is how the drivers are asked and told: what `ethtool` does. All methods take the name of a link.
type NIC interface {
	DriverName(string) (string, error)
	BusInfo(string) (string, error)
	FeaturesWithState(string) (map[string]ethtool.FeatureState, error)
	Change(string, map[string]bool) error
	GetRing(string) (ethtool.Ring, error)
	SetRing(string, ethtool.Ring) (ethtool.Ring, error)
	GetPause(string) (ethtool.Pause, error)
	SetPause(string, ethtool.Pause) (ethtool.Pause, error)
	CmdGet(*ethtool.EthtoolCmd, string) (uint32, error)
	ModuleEeprom(string) ([]byte, error)
	Close()
}

// An undo gives a link a setting back. There is one of a kind for each link.
type undo struct {
	index int
	kind  string
	do    func() error
}

func openNICs(keep bool) (*nics, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("open ethtool: %w", err)
	}
	return &nics{tool: e, keep: keep}, nil
}

// close undoes what was changed, the latest first. Links that are gone need nothing.
func (n *nics) close() {
	if !n.keep {
		n.undoAll(func(undo) bool { return true })
	}
	n.tool.Close()
}

// release gives links back that are no ports any more.
func (n *nics) release(free func(index int) bool) {
	n.undoAll(func(u undo) bool { return free(u.index) })
}

// change remembers how to undo a change; only the first of its kind knows how it was.
func (n *nics) change(index int, kind string, back func() error) {
	if slices.ContainsFunc(n.undo, func(u undo) bool { return u.index == index && u.kind == kind }) {
		return
	}
	n.undo = append(n.undo, undo{index, kind, back})
}

// undoAll undoes the changes that are picked, the latest first.
func (n *nics) undoAll(pick func(undo) bool) {
	for _, u := range slices.Backward(n.undo) {
		if pick(u) {
			if err := u.do(); err != nil {
				slog.Debug("give a NIC its setting back", "index", u.index, "kind", u.kind, "error", err)
			}
		}
	}
	n.undo = slices.DeleteFunc(n.undo, pick)
}

// prepare makes a NIC fit for its use: nothing that changes frames, the largest receive ring, silent, switched on. It fills in the driver
// and whether frames come with their FCS, and returns what could not be done.
func (n *nics) prepare(l *link, u use, info *handover.Port) (reasons []string) {
	complain := func(format string, err error) {
		if err != nil {
			reasons = append(reasons, fmt.Sprintf(format, err))
		}
	}
	driver, err := n.tool.DriverName(l.name)
	if err != nil || driver == "" {
		driver = l.kind
	}
	info.Driver = driver
	complain("%v", n.disableOffloads(l, u.both))
	info.CanFCS, err = n.setFCS(l, u.fcs)
	complain("%v", err)
	complain("its MTU cannot be set: %v", n.setMTU(l, u.mtu))
	if u.silence == speaking {
		n.undoAll(func(x undo) bool { return x.index == l.index && slices.Contains(silent, x.kind) })
	} else {
		n.growRing(l)
		complain("%v", n.hush(l))
	}
	complain("%v", n.setGate(l, u))
	complain("frames to other addresses are neither sent on nor counted while no engine runs: %v", n.openEars(l))
	complain("it cannot be switched on: %v", n.switchOn(l))
	return reasons
}

// disableOffloads switches off what changes frames, and reads the result back: the kernel ignores what a driver cannot do without an error.
func (n *nics) disableOffloads(l *link, both bool) error {
	before, err := n.tool.FeaturesWithState(l.name)
	if err != nil {
		return fmt.Errorf("its offloads cannot be read: %w", err)
	}
	off, was := map[string]bool{}, map[string]bool{}
	for _, o := range offloads {
		if s := before[o.feature]; (s.Active || s.Requested) && (!o.sent || both) {
			off[o.feature], was[o.feature] = false, true
		}
	}
	if len(off) == 0 {
		return nil
	}
	changeErr := n.tool.Change(l.name, off)
	n.change(l.index, fmt.Sprintf("offloads, both: %t", both), func() error { return n.tool.Change(l.name, was) })
	after, err := n.tool.FeaturesWithState(l.name)
	if err != nil {
		return fmt.Errorf("its offloads cannot be read: %w", err)
	}
	var left []string
	for _, o := range offloads {
		if _, asked := off[o.feature]; asked && after[o.feature].Active {
			left = append(left, o.harm)
		}
	}
	if len(left) == 0 {
		return nil
	}
	text := strings.Join(left, "; ")
	if changeErr != nil {
		text += fmt.Sprintf(" (%v)", changeErr)
	}
	return errors.New(text)
}

// setFCS makes frames come with their frame check sequence, wrong ones too, or not, and reports whether they do: drivers that cannot do it are silent.
func (n *nics) setFCS(l *link, want bool) (on bool, err error) {
	before, err := n.tool.FeaturesWithState(l.name)
	if err != nil {
		return false, nil // said by disableOffloads
	}
	set, was := map[string]bool{}, map[string]bool{}
	for _, f := range fcsFeatures {
		if s, ok := before[f]; ok && s.Active != want {
			set[f], was[f] = want, s.Active
		}
	}
	if len(set) > 0 {
		// What remains to be read back says more than the error.
		_ = n.tool.Change(l.name, set)
		n.change(l.index, "fcs", func() error { return n.tool.Change(l.name, was) })
	}
	after, err := n.tool.FeaturesWithState(l.name)
	if err != nil {
		return false, fmt.Errorf("its features cannot be read: %w", err)
	}
	all, fcs := after["rx-all"].Active, after["rx-fcs"].Active
	switch {
	case want && fcs && !all:
		return true, errors.New("the NIC drops frames with a wrong frame check sequence (it has no rx-all): badCRC matches none")
	case want && !fcs:
		return false, errors.New("the NIC delivers no frame check sequence (it has no rx-fcs): badCRC has no answer on this port")
	}
	return fcs, nil
}

func (n *nics) setMTU(l *link, mtu int) error {
	if mtu == 0 || mtu == l.mtu {
		return nil
	}
	was := l.mtu
	if err := netlink.LinkSetMTU(l.device(), mtu); err != nil {
		return err
	}
	n.change(l.index, "mtu", func() error { return netlink.LinkSetMTU(l.device(), was) })
	return nil
}

// growRing gives the NIC the largest receive ring that it has, which not every driver can change; a burst then has more room.
func (n *nics) growRing(l *link) {
	r, err := n.tool.GetRing(l.name)
	if err != nil || r.RxPending >= r.RxMaxPending {
		return
	}
	was := r
	r.RxPending = r.RxMaxPending
	if _, err := n.tool.SetRing(l.name, r); err != nil {
		slog.Debug("grow the receive ring", "name", l.name, "error", err)
		return
	}
	n.change(l.index, "ring", func() error {
		_, err := n.tool.SetRing(l.name, was)
		return err
	})
}

// silent are the kinds of changes that keep a port from sending.
var silent = []string{"ipv6", "arp", "pause"}

// hush keeps kernel and NIC from sending on a port by themselves: no IPv6 (solicitations and multicast reports), no answers to ARP for whatever
// address the machine has elsewhere, no pause frames when a ring is full.
func (n *nics) hush(l *link) error {
	if l.loopback {
		return nil
	}
	file := "/proc/sys/net/ipv6/conf/" + l.name + "/disable_ipv6"
	was, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(was)) != "1" {
		if err = os.WriteFile(file, []byte("1"), 0); err == nil {
			n.change(l.index, "ipv6", func() error { return os.WriteFile(file, was, 0) })
		}
	}
	if errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		err = nil
	}
	if !l.noARP && err == nil {
		if err = netlink.LinkSetARPOff(l.device()); err == nil {
			n.change(l.index, "arp", func() error { return netlink.LinkSetARPOn(l.device()) })
		}
	}
	n.stopPause(l)
	if err != nil {
		return fmt.Errorf("the kernel may send there: %w", err)
	}
	return nil
}

// stopPause keeps the NIC from sending pause frames, where it has them.
func (n *nics) stopPause(l *link) {
	p, err := n.tool.GetPause(l.name)
	if err != nil || p.TxPause == 0 && p.RxPause == 0 && p.Autoneg == 0 {
		return
	}
	was := p
	p.Autoneg, p.RxPause, p.TxPause = 0, 0, 0
	if _, err := n.tool.SetPause(l.name, p); err != nil {
		slog.Debug("switch pause frames off", "name", l.name, "error", err)
		return
	}
	n.change(l.index, "pause", func() error {
		_, err := n.tool.SetPause(l.name, was)
		return err
	})
}

// openEars makes a port promiscuous by itself, as the engine's sockets do for as long as they are there: a NIC that leaves frames to others out while no engine runs does not
// count them either, so that nobody would know how many were lost, and a port in bridge mode would not send them on.
func (n *nics) openEars(l *link) error {
	if l.promiscuous || l.loopback {
		return nil
	}
	if err := netlink.SetPromiscOn(l.device()); err != nil {
		return err
	}
	n.change(l.index, "promiscuous", func() error { return netlink.SetPromiscOff(l.device()) })
	return nil
}

// setGate decides what passes.
func (n *nics) setGate(l *link, u use) error {
	switch {
	case u.peer != 0:
		if err := gate.Forward(l.index, u.peer); err != nil {
			return fmt.Errorf("frames are not sent on: %w", err)
		}
		n.change(l.index, "gate", func() error { return gate.Open(l.index) })
	case u.silence == closed:
		if err := gate.Close(l.index); err != nil {
			// Without it the port is quiet all the same.
			slog.Debug("close a capture port", "name", l.name, "error", err)
			return nil
		}
		n.change(l.index, "gate", func() error { return gate.Open(l.index) })
	default:
		n.undoAll(func(x undo) bool { return x.index == l.index && x.kind == "gate" })
	}
	return nil
}

func (n *nics) switchOn(l *link) error {
	if l.up {
		return nil
	}
	if err := netlink.LinkSetUp(l.device()); err != nil {
		return err
	}
	// Undone first of all: what gives a NIC its voice back must not let it speak.
	n.change(l.index, "up", func() error { return netlink.LinkSetDown(l.device()) })
	return nil
}

// medium returns the speed in Mbit/s, or 0 if it is unknown, the duplex, and what the module says of itself.
func (n *nics) medium(name string) (speedMbps int, duplex string, module *transceiver.Module) {
	var c ethtool.EthtoolCmd
	s, err := n.tool.CmdGet(&c, name)
	if err == nil {
		duplex = map[uint8]string{0: "half", 1: "full"}[c.Duplex] // linux/ethtool.h
	}
	if err == nil && int32(s) > 0 && s != 0xffff {
		speedMbps = int(s)
	}
	if eeprom, err := n.tool.ModuleEeprom(name); err == nil {
		module = transceiver.Parse(eeprom)
	}
	return speedMbps, duplex, module
}

// bus returns the address of the NIC on its bus.
func (n *nics) bus(name string) string {
	b, _ := n.tool.BusInfo(name)
	return b
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
