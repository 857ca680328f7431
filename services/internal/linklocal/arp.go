// Package linklocal gives a link an IPv4 address that nobody else on it has: it asks by ARP, takes addresses of 169.254/16 by itself, and notices when
// another host begins to use one (RFC 3927, RFC 5227).
//
// It needs CAP_NET_RAW, sends and receives ARP on one link only, and sets no address: who asks for one does.
package linklocal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Link is one that speaks ARP over Ethernet.
type Link struct {
	Index int
	MAC   net.HardwareAddr // 6 bytes
}

// arpBytes is the size of an ARP packet for Ethernet and IPv4 (RFC 826).
const arpBytes = 28

const (
	opRequest = 1
	opReply   = 2
)

// A message is an ARP packet for Ethernet and IPv4.
type message struct {
	op             uint16
	senderMAC      [6]byte
	sender, target netip.Addr
}

// parse reads an ARP packet. Padding may follow.
func parse(b []byte) (m message, ok bool) {
	if len(b) < arpBytes || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_0604 {
		return m, false
	}
	m.op = binary.BigEndian.Uint16(b[6:])
	copy(m.senderMAC[:], b[8:])
	m.sender, m.target = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	return m, m.op == opRequest || m.op == opReply
}

// request returns an ARP request. One without a sender's address is a probe, and one whose sender asks for itself an announcement.
func request(mac net.HardwareAddr, sender, target netip.Addr) []byte {
	b := make([]byte, arpBytes)
	binary.BigEndian.PutUint64(b, 0x0001_0800_0604<<16|opRequest)
	copy(b[8:], mac)
	from, to := sender.As4(), target.As4()
	copy(b[14:], from[:])
	copy(b[24:], to[:])
	return b
}

// A socket sends and receives the ARP of one link.
type socket struct {
	fd   int
	link Link
}

func open(l Link) (*socket, error) {
	if len(l.MAC) != 6 {
		return nil, fmt.Errorf("speak ARP on link %d: it is no Ethernet", l.Index)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("speak ARP on link %d: %w", l.Index, err)
	}
	s := &socket{fd, l}
	if err := unix.Bind(fd, s.address()); err != nil {
		s.close()
		return nil, fmt.Errorf("speak ARP on link %d: %w", l.Index, err)
	}
	return s, nil
}

// address is everybody on the link.
func (s *socket) address() *unix.SockaddrLinklayer {
	proto := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff})
	return &unix.SockaddrLinklayer{Ifindex: s.link.Index, Protocol: proto, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
}

func (s *socket) close() { unix.Close(s.fd) }

func (s *socket) send(sender, target netip.Addr) error {
	if err := unix.Sendto(s.fd, request(s.link.MAC, sender, target), 0, s.address()); err != nil {
		return fmt.Errorf("send ARP on link %d: %w", s.link.Index, err)
	}
	return nil
}

// tick is how often a waiting receive looks whether it is to end.
const tick = 100 * time.Millisecond

// await returns true when a message comes that is picked, and false after a time or when ctx is done. What came while this process had no processor counts.
func (s *socket) await(ctx context.Context, d time.Duration, pick func(message) bool) (bool, error) {
	for deadline := time.Now().Add(d); ctx.Err() == nil; {
		left := time.Until(deadline)
		if found, err := s.received(pick); found || err != nil || left <= 0 {
			return found, err
		}
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		ts := unix.NsecToTimespec(int64(min(left, tick)))
		if _, err := unix.Ppoll(poll, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
	return false, ctx.Err()
}

// atOnce is more than the kernel keeps for a socket.
const atOnce = 1000

// received takes what has come, up to a message that is picked.
func (s *socket) received(pick func(message) bool) (bool, error) {
	var b [128]byte
	for range atOnce {
		n, _, err := unix.Recvfrom(s.fd, b[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("receive ARP on link %d: %w", s.link.Index, err)
		}
		if m, ok := parse(b[:n]); ok && [6]byte(s.link.MAC) != m.senderMAC && pick(m) {
			return true, nil
		}
	}
	return false, nil
}
