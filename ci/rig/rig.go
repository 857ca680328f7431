// Package rig makes networks for tests and benchmarks out of namespaces and veth pairs, and plays traffic into them.
//
// A Netns has no name and no process: it vanishes with the last thing that refers to it, also when a test is killed. A Veth joins two
// of them. A Player sends frames, from a savefile or from Mix, with an exact count and one of several timings. Everything needs root
// and nothing touches the machine's own network.
//
// The players send on the processor that they run on, and the kernel delivers to the other end's sockets within the send call: on
// veth the receiver's kernel work is charged to the sender, and throttles it.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A Netns is a network namespace with its loopback up and IPv6 off, so that nothing but what the test sends is on its wires.
type Netns struct{ handle netns.NsHandle }

// NewNetns makes a namespace.
func NewNetns() (*Netns, error) {
	n := &Netns{}
	err := onOwnThread(func() (err error) {
		if n.handle, err = netns.New(); err != nil {
			return err
		}
		for _, file := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+file+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return n, nil
}

// ThisNetns returns the namespace that the process runs in.
func ThisNetns() (*Netns, error) {
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open this network namespace: %w", err)
	}
	return &Netns{handle}, nil
}

// Close forgets the namespace. It vanishes, with its interfaces, when processes and sockets in it are gone too.
func (n *Netns) Close() error { return n.handle.Close() }

// Run calls f on a thread of its own inside the namespace: sockets that f makes and processes that it starts belong to it.
func (n *Netns) Run(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Start starts cmd inside the namespace.
func (n *Netns) Start(cmd *exec.Cmd) error { return n.Run(cmd.Start) }

// onOwnThread calls f on a thread that ends with it, because a thread that was in another namespace is of no use to anybody.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// An End is one end of a veth pair.
type End struct {
	Netns *Netns
	Name  string
	Index int
}

// upTime is how long a new pair may take to come up, which takes milliseconds.
const upTime = time.Minute

// Veth makes a pair of interfaces, both up, without any offload that changes frames, and returns them in the order of the names. Frames go through: before its carrier is
// there an end drops what a program sends and says that it was sent.
// Names must be unique within their namespace. mtu is in bytes, 0 means 9216: enough for jumbo frames with tags.
func Veth(a *Netns, nameA string, b *Netns, nameB string, mtu int) (endA, endB *End, err error) {
	if mtu == 0 {
		mtu = 9216
	}
	err = a.Run(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = nameA, mtu
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.handle)})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make veth pair %s, %s: %w", nameA, nameB, err)
	}
	endA, endB = &End{a, nameA, 0}, &End{b, nameB, 0}
	for _, e := range []*End{endA, endB} {
		if err := e.Netns.Run(e.setUp); err != nil {
			return nil, nil, fmt.Errorf("set up veth %s: %w", e.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), upTime)
	defer cancel()
	for _, e := range []*End{endA, endB} {
		if err := e.WaitUp(ctx); err != nil {
			return nil, nil, fmt.Errorf("wait for veth %s: %w", e.Name, err)
		}
	}
	return endA, endB, nil
}

func (e *End) setUp() error {
	link, err := netlink.LinkByName(e.Name)
	if err != nil {
		return err
	}
	e.Index = link.Attrs().Index
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer tool.Close()
	// What a sender's offloads leave to the NIC would never be done on a veth, and GRO merges frames before a capture sees them.
	off := map[string]bool{"rx-gro": false, "tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-generic-segmentation": false, "tx-checksum-ip-generic": false}
	if err := tool.Change(e.Name, off); err != nil {
		return fmt.Errorf("switch offloads off: %w", err)
	}
	return netlink.LinkSetUp(link)
}

// Up sets the end up or down.
func (e *End) Up(up bool) error {
	return e.link(func(l netlink.Link) error {
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	})
}

// WaitUp waits until frames go through the pair. A veth has its carrier back some time after both ends are up.
func (e *End) WaitUp(ctx context.Context) error {
	for {
		up := false
		err := e.link(func(l netlink.Link) error {
			up = l.Attrs().OperState == netlink.OperUp
			return nil
		})
		if err != nil || up {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Remove removes the pair.
func (e *End) Remove() error { return e.link(netlink.LinkDel) }

// Address gives the end an address such as 10.0.0.1/24.
func (e *End) Address(cidr string) error {
	return e.link(func(l netlink.Link) error {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, addr)
	})
}

// Dropped returns how many frames sent into this end never came out of the other one.
func (e *End) Dropped() (n uint64, err error) {
	err = e.link(func(l netlink.Link) error {
		n = l.Attrs().Statistics.TxDropped
		return nil
	})
	return n, err
}

func (e *End) link(f func(netlink.Link) error) error {
	return e.Netns.Run(func() error {
		l, err := netlink.LinkByName(e.Name)
		if err == nil {
			err = f(l)
		}
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		return nil
	})
}
