// Package gate decides what becomes of a capture port's frames after they were captured, and what may be sent there: nothing, or the
// frames of the port at the other end of its link.
//
// It is two eBPF programs at the kernel's traffic control hooks (tc-bpf(8)): the one at ingress, which runs after the packet sockets had their copy, drops
// every frame or sends it out of the other port; the one at egress lets only frames through that carry Mark. So nothing
// of the machine's own reaches a capture port's wire, whatever daemon or protocol made it, and the network stack sees no captured frame. A Linux
// bridge would swallow STP, LACP and pause frames, and learn addresses; this forwards each frame as it came, tags and wrong checksums
// included. The programs stay when this process dies.
//
// It needs CAP_NET_ADMIN and CAP_SYS_ADMIN, and the kernel's sch_ingress and cls_bpf. It owns the clsact qdisc of the ports: a port that has one of
// somebody else's is refused.
package gate

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mark is what a socket must put on its frames (SO_MARK) if they are meant to leave through a closed port. Sockets that bypass queueing
// (PACKET_QDISC_BYPASS) pass the gate unseen.
const Mark = 0x67616c76 // "galv"

// name is that of the filters, as `tc filter show dev eth1 ingress` has it.
const name = "galvo"

// Close lets nothing through a port: what it receives ends there, what this machine would send is dropped.
func Close(index int) error { return set(index, drop) }

// Forward sends everything that one port receives out of another one, and drops what this machine would send. For a link it is called for both directions.
func Forward(from, to int) error { return set(from, redirect(to)) }

// set replaces the programs of a port one by one: a port that forwards goes on until the new one is there.
func set(index int, ingress []instruction) error {
	if err := addQdisc(index); err != nil {
		return fmt.Errorf("prepare port %d for forwarding: %w", index, err)
	}
	err := attach(index, netlink.HANDLE_MIN_EGRESS, marked)
	if err == nil {
		err = attach(index, netlink.HANDLE_MIN_INGRESS, ingress)
	}
	if err != nil {
		return fmt.Errorf("prepare port %d for forwarding: %w", index, err)
	}
	return nil
}

// Open removes the gate of a port. A port without one, or that is gone, needs nothing.
func Open(index int) error {
	if set, err := IsSet(index); err != nil || !set {
		return err
	}
	err := netlink.QdiscDel(qdisc(index))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("open port %d: %w", index, err)
	}
	return nil
}

// IsSet reports whether a port has a gate, perhaps one of an earlier process.
func IsSet(index int) (bool, error) {
	filters, err := netlink.FilterList(device(index), netlink.HANDLE_MIN_EGRESS)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) { // no such port, or no clsact
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the filters of port %d: %w", index, err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == name {
			return true, nil
		}
	}
	return false, nil
}

func device(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

func qdisc(index int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

// addQdisc makes the hooks. Where they are already they must be ours.
func addQdisc(index int) error {
	err := netlink.QdiscAdd(qdisc(index))
	switch {
	case errors.Is(err, unix.ENOENT):
		return errors.New("the kernel has no clsact: it needs sch_ingress (CONFIG_NET_SCH_INGRESS)")
	case !errors.Is(err, unix.EEXIST):
		return err
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(device(index), parent)
		if err != nil {
			return err
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); !ok || b.Name != name {
				return fmt.Errorf("it has a tc filter of another program (%s): `tc filter show` has it", f.Type())
			}
		}
	}
	return nil
}

// attach makes code the one program at a hook.
func attach(index int, parent uint32, code []instruction) error {
	fd, err := load(code)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // the filter keeps the program
	err = netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:           fd,
		Name:         name,
		DirectAction: true,
	})
	if errors.Is(err, unix.ENOENT) {
		return errors.New("the kernel has no cls_bpf (CONFIG_NET_CLS_BPF)")
	}
	return err
}
