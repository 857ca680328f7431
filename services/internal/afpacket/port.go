package afpacket

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
)

// Options of a port.
type Options struct {
	Direction Direction
	// FCS says that received frames end with their frame check sequence (the NIC's rx-fcs). It is left out of them, and verified.
	FCS bool
	// Blocks of BlockSize per worker; 0 means 64. A worker may be late for 20 ms per block, however few frames come. From three quarters on
	// the kernel loses, and counts, a single frame now and then: it asks for room without the ring's lock, just when a block is handed over.
	Blocks int
}

// BlockSize is the size of a ring's blocks in bytes: large enough that waking up costs little per frame, and no frame is larger.
const BlockSize = 1 << 20

// retire is how long the kernel waits for a block to fill up.
const retire = 20 * time.Millisecond

// settle is how long after a frame's reception its block can still be on the way to the worker.
const settle = retire + 5*time.Millisecond

// onTheWay is how long after its reception a frame can be neither in a ring nor seen to come there: in the kernel's queue of a processor that has much to do.
const onTheWay = 50 * time.Millisecond

// A Port is a live port: one ring per worker.
type Port struct {
	Iface uint16 // index into the interface table of the sources

	fcs     bool         // received frames end with their frame check sequence
	rings   []*ring      // by worker
	leaving atomic.Int64 // when the port is removed: the time since the start of Ports after which an empty ring stays empty

	mu     sync.Mutex
	kernel Stats // guarded by mu; without Frames and Bytes
	closed bool  // guarded by mu
}

// Stats are the counters of a port since it was added, all workers together.
type Stats struct {
	Received   uint64 // frames that the kernel put into a ring
	LostKernel uint64 // frames that found all rings of their worker full
	Freezes    uint64 // how often a ring was full
	Frames     uint64 // frames that workers were given; Received - Frames are still in the rings
	Bytes      uint64 // their length on the wire
}

// Stats returns the counters. It may be called at any time, also after the port was removed.
func (p *Port) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.readKernel()
	}
	s := p.kernel
	for _, r := range p.rings {
		s.Frames += r.frames.Load()
		s.Bytes += r.bytes.Load()
	}
	return s
}

// Gone reports whether the port was removed, or its interface was removed from the machine. Its sockets never receive again: Remove the port, and Add
// it with new ones when it is back. A port that is only down goes on by itself when it is up again.
func (p *Port) Gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return true
	}
	// Only asking tells: a socket has an error when its interface goes down, and none when a down one goes away.
	_, err := identify([]int{p.rings[0].fd})
	return errors.Is(err, unix.ENODEV)
}

// readKernel adds up what the kernel counted: reading resets its counters, which are 32 bits wide. It needs p.mu.
func (p *Port) readKernel() {
	for _, r := range p.rings {
		st, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			continue
		}
		p.kernel.Received += uint64(st.Packets - st.Drops)
		p.kernel.LostKernel += uint64(st.Drops)
		p.kernel.Freezes += uint64(st.Freeze_q_cnt)
	}
}

// newPort makes a port of sockets from Open. The sockets belong to it, also if it fails.
func newPort(fds []int, o Options) (*Port, *link, error) {
	p := &Port{fcs: o.FCS}
	for _, fd := range fds {
		p.rings = append(p.rings, &ring{fd: fd, port: p, gone: make(chan struct{})})
	}
	l, err := identify(fds)
	if err == nil {
		err = p.start(l, o)
	}
	if err != nil {
		p.close()
		return nil, nil, err
	}
	return p, l, nil
}

// A link is what the kernel says about the interface of a socket.
type link struct {
	index int
	kind  packet.LinkType
	mac   [6]byte
}

// identify returns the interface that all sockets are bound to.
func identify(fds []int) (*link, error) {
	var l *link
	for _, fd := range fds {
		name, err := unix.Getsockname(fd)
		if err != nil {
			return nil, fmt.Errorf("identify packet socket: %w", err)
		}
		ll, ok := name.(*unix.SockaddrLinklayer)
		if !ok || ll.Ifindex <= 0 {
			return nil, fmt.Errorf("identify packet socket: it is not bound to an interface, or the interface is gone: %w", unix.ENODEV)
		}
		kind, ok := linkTypes[ll.Hatype]
		if !ok {
			return nil, fmt.Errorf("interface %d has link type %d (ARPHRD), which cannot be a port", ll.Ifindex, ll.Hatype)
		}
		if l != nil && l.index != ll.Ifindex {
			return nil, fmt.Errorf("packet sockets of one port are bound to interfaces %d and %d", l.index, ll.Ifindex)
		}
		l = &link{index: ll.Ifindex, kind: kind, mac: [6]byte(ll.Addr[:6])}
	}
	if l == nil {
		return nil, fmt.Errorf("a port without packet sockets")
	}
	return l, nil
}

// start sets up the rings and the fanout group. Nothing is received before the group is whole: a filter that takes nothing is in
// front of every socket until then, so that no frame goes to the wrong worker.
func (p *Port) start(l *link, o Options) error {
	if o.Blocks == 0 {
		o.Blocks = 64
	}
	// The kernel clears a ring's memory, 64 MiB in 50 ms: all of them at once, since frames may be lost meanwhile.
	errs := make([]error, len(p.rings))
	var made sync.WaitGroup
	for i, r := range p.rings {
		made.Go(func() { errs[i] = r.setUp(l.index, o) })
	}
	made.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set up ring of %d MiB on interface %d: %w", o.Blocks, l.index, err)
	}
	if err := p.fanOut(l, o); err != nil {
		return fmt.Errorf("set up fanout of interface %d: %w", l.index, err)
	}
	// packet(7): the interface leaves promiscuous mode when the socket is closed.
	promisc := &unix.PacketMreq{Ifindex: int32(l.index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(p.rings[0].fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, promisc); err != nil {
		return fmt.Errorf("set interface %d to promiscuous mode: %w", l.index, err)
	}
	for _, r := range p.rings {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
			return fmt.Errorf("detach filter on interface %d: %w", l.index, err)
		}
	}
	return nil
}

// fanOut joins the sockets in worker order, which is also the order in which the kernel made them and puts them back after the
// interface was down.
func (p *Port) fanOut(l *link, o Options) error {
	if len(p.rings) == 1 {
		return nil
	}
	kind := unix.PACKET_FANOUT_CBPF
	if o.Direction == In {
		// The group has a hook of its own, to which the sockets' PACKET_IGNORE_OUTGOING means nothing.
		kind |= unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	}
	fd := p.rings[0].fd
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, (kind|unix.PACKET_FANOUT_FLAG_UNIQUEID)<<16); err != nil {
		return err
	}
	id, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return err
	}
	for _, r := range p.rings[1:] {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, kind<<16|id&0xffff); err != nil {
			return err
		}
	}
	return setProgram(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, fanoutProgram(l.kind))
}

// mute lets nothing more into the rings.
func (p *Port) mute() error {
	for _, r := range p.rings {
		if err := setProgram(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, takeNothing); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	return nil
}

var takeNothing = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}

func setProgram(fd, level, option int, code []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, level, option, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// close gives rings and sockets back. No source may have the rings any more.
func (p *Port) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.readKernel()
	p.closed = true
	for _, r := range p.rings {
		r.close()
	}
}
