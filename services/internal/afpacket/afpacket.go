// Package afpacket receives frames from live ports through Linux packet sockets (packet(7)) with TPACKET_V3 rings.
//
// It has two halves. The privileged one is Open, which `galvo host` calls: it makes the sockets of a port, bound to the port and not yet
// receiving. The other half needs no capability and works on sockets that were handed over: Ports makes rings and a fanout group
// of them and gives each worker a pipeline.Source over the rings of all ports.
//
// Every frame of a port goes to exactly one worker, chosen by a hash over the outer address pair that is the same for both
// directions and for all ports (see fanout.go). So both directions of a flow, all fragments of its datagrams, and both ports of a
// link meet in one worker.
//
// Frames are delivered without copying: Frame.Data lies in the memory that the kernel fills. A block of a ring is given back to the
// kernel at the Next after the one that delivered its last frame. The VLAN tag that the kernel takes out of a frame is put back in
// place. When a ring is full the kernel drops and counts; nothing here ever waits for a worker.
//
// What it does not do: switch off GRO and LRO, enable a NIC's hardware timestamps, or bring ports up (package host); send frames; or
// complete the checksums and cut up the large segments of frames that this machine itself sends (the kernel shows them before
// offloads).
package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
)

// A Direction says which frames of a port are received.
type Direction uint8

// The directions.
const (
	In   Direction = iota // what the port receives
	Both                  // and what this machine sends through it, flagged packet.DirOut
)

// linkTypes has the link type of each ARPHRD_ type (if_arp.h) that can be a port.
var linkTypes = map[uint16]packet.LinkType{
	unix.ARPHRD_ETHER:    packet.LinkEthernet,
	unix.ARPHRD_LOOPBACK: packet.LinkEthernet,
	unix.ARPHRD_NONE:     packet.LinkRaw,
}

// Open makes one packet socket per worker, in worker order, for the interface with the given index. The sockets are bound to the
// interface without a protocol, so they receive nothing until Ports.Add starts them; whoever gets them can do that without privilege. It
// needs CAP_NET_RAW, and fails with unix.ENODEV if there is no such interface.
//
// The caller must close its copies once they are handed over: a kept one would stay a member of the fanout group and take frames that nobody reads.
func Open(ifindex, workers int) ([]int, error) {
	fds := make([]int, 0, workers)
	for range workers {
		fd, err := open(ifindex)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("open packet socket on interface %d: %w", ifindex, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func open(ifindex int) (int, error) {
	// Protocol 0: a socket made with ETH_P_ALL would receive from all interfaces until it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
