package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"
)

// A unicastConn sends datagrams from the leased address through the kernel's routes, and hears what comes to the client's port. It is made of raw sockets: to
// bind a socket to port 68 would need another capability.
type unicastConn struct {
	net.PacketConn // receives
	fd             int
	from           netip.Addr
}

func dialUnicast(link string, from netip.Addr) (*unicastConn, error) {
	in, err := nclient4.NewRawUDPConn(link, nclient4.ClientPort)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	c := &unicastConn{in, fd, from}
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, link); err != nil {
		c.Close()
		return nil, fmt.Errorf("bind a raw socket to %s: %w", link, err)
	}
	// A port there would be taken for a protocol.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		c.Close()
		return nil, fmt.Errorf("send from %s: %w", from, err)
	}
	return c, nil
}

// WriteTo sends one datagram.
func (c *unicastConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok || u.IP.To4() == nil {
		return 0, fmt.Errorf("send to %v: no IPv4 address and port", to)
	}
	server := netip.AddrFrom4([4]byte(u.IP.To4()))
	err := unix.Sendto(c.fd, datagram(c.from, server, nclient4.ClientPort, uint16(u.Port), b), 0, &unix.SockaddrInet4{Addr: server.As4()})
	return len(b), err
}

// Close closes both sockets.
func (c *unicastConn) Close() error {
	unix.Close(c.fd)
	return c.PacketConn.Close()
}

// datagram returns a UDP datagram (RFC 768) without its IP header.
func datagram(from, to netip.Addr, fromPort, toPort uint16, payload []byte) []byte {
	const header = 8
	d := make([]byte, header, header+len(payload)+1)
	binary.BigEndian.PutUint16(d[0:], fromPort)
	binary.BigEndian.PutUint16(d[2:], toPort)
	binary.BigEndian.PutUint16(d[4:], uint16(header+len(payload)))
	d = append(d, payload...)
	sum := uint32(unix.IPPROTO_UDP + len(d))
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), append(d, 0)[:(len(d)+1)/2*2]} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	if sum == 0xffff {
		sum = 0 // sent as all ones: zero is no checksum
	}
	binary.BigEndian.PutUint16(d[6:], ^uint16(sum))
	return d
}
