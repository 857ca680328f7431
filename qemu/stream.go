package qemu

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A stream is a laptop's end of a TCP connection (RFC 9293), as simple as a wire allows that neither loses nor reorders: no windows but a constant one, no congestion, segments out of order
// are dropped and come again. It is a net.Conn without deadlines.
type stream struct {
	laptop *Laptop
	mac    net.HardwareAddr
	to     netip.AddrPort
	port   uint16

	mu      sync.Mutex
	changed *sync.Cond
	opened  bool
	next    uint32 // number of the first byte that was not acknowledged
	unsent  []byte // from there on: sent, and not acknowledged yet
	last    time.Time
	want    uint32 // number of the next byte of the device
	got     []byte // received and not read yet
	eof     bool   // the device has sent everything
	err     error
}

// A segment has at most so many bytes, which every link takes; again waits for so long.
const (
	segmentBytes = 1400
	window       = 65535
	againAfter   = time.Second
)

func newStream(l *Laptop, mac net.HardwareAddr, to netip.AddrPort, port uint16) *stream {
	s := &stream{laptop: l, mac: mac, to: to, port: port, next: uint32(port) << 16}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// emit sends a segment that begins with the byte of a number.
func (s *stream) emit(number uint32, change func(*layers.TCP), payload []byte) error {
	ip, network, protocol := s.laptop.network(s.to.Addr(), layers.IPProtocolTCP, 64)
	tcp := &layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: layers.TCPPort(s.to.Port()), Seq: number, Ack: s.want, ACK: true, Window: window}
	change(tcp)
	tcp.SetNetworkLayerForChecksum(network)
	return s.laptop.send(s.mac, protocol, ip, tcp, gopacket.Payload(payload))
}

func plain(*layers.TCP)    {}
func push(t *layers.TCP)   { t.PSH = true }
func finish(t *layers.TCP) { t.FIN = true }
func begin(t *layers.TCP)  { t.SYN, t.ACK = true, false }

// open sends the first segment until it is answered.
func (s *stream) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.fail(ctx.Err()) })
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.emit(s.next, begin, nil); err != nil {
		return err
	}
	s.last = time.Now()
	for !s.opened && s.err == nil {
		s.changed.Wait()
	}
	return s.err
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

// hear takes a segment of the device.
func (s *stream) hear(t *layers.TCP) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	switch {
	case t.RST:
		s.err = errReset
		return
	case t.SYN && t.ACK && !s.opened:
		s.opened, s.next, s.want = true, t.Ack, t.Seq+1
		s.emit(s.next, plain, nil)
		return
	case !s.opened:
		return
	}
	if n := t.Ack - s.next; t.ACK && n > 0 && n <= uint32(len(s.unsent)) {
		s.next, s.unsent, s.last = t.Ack, s.unsent[n:], time.Now()
	}
	if len(t.Payload) == 0 && !t.FIN {
		return
	}
	// What was there already is cut off; what is not next comes again.
	if old := s.want - t.Seq; old <= uint32(len(t.Payload)) {
		fresh := t.Payload[old:]
		s.got, s.want = append(s.got, fresh...), s.want+uint32(len(fresh))
		if t.FIN && !s.eof {
			s.eof, s.want = true, s.want+1
		}
	}
	s.emit(s.next+uint32(len(s.unsent)), plain, nil)
}

// again sends anew what was not acknowledged.
func (s *stream) again(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || now.Sub(s.last) < againAfter {
		return
	}
	s.last = now
	if !s.opened {
		s.emit(s.next, begin, nil)
		return
	}
	s.transmit(s.next, s.unsent)
}

// transmit needs s.mu.
func (s *stream) transmit(number uint32, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), segmentBytes)
		if err := s.emit(number, push, b[:n]); err != nil {
			return err
		}
		number, b = number+uint32(n), b[n:]
	}
	return nil
}

// Read waits for bytes of the device.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.got) == 0 && !s.eof && s.err == nil {
		s.changed.Wait()
	}
	switch {
	case len(s.got) > 0:
		n := copy(b, s.got)
		s.got = s.got[n:]
		return n, nil
	case s.eof:
		return 0, io.EOF
	}
	return 0, s.err
}

// Write sends b, and waits while the device has not acknowledged a window's bytes.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for written < len(b) {
		for len(s.unsent) >= window/2 && s.err == nil {
			s.changed.Wait()
		}
		if s.err != nil {
			return written, s.err
		}
		part := b[written:min(len(b), written+segmentBytes)]
		number := s.next + uint32(len(s.unsent))
		s.unsent, s.last = append(s.unsent, part...), time.Now()
		if err := s.transmit(number, part); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}

// Close says that no more comes, and forgets the connection.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.opened && s.err == nil {
		s.emit(s.next+uint32(len(s.unsent)), finish, nil)
	}
	s.mu.Unlock()
	s.fail(os.ErrClosed)
	s.laptop.mu.Lock()
	defer s.laptop.mu.Unlock()
	delete(s.laptop.streams, s.port)
	return nil
}

func (s *stream) address(a netip.AddrPort) net.Addr { return net.TCPAddrFromAddrPort(a) }

// LocalAddr is the laptop's.
func (s *stream) LocalAddr() net.Addr {
	if s.to.Addr().Is4() {
		return s.address(netip.AddrPortFrom(s.laptop.ip4, s.port))
	}
	return s.address(netip.AddrPortFrom(s.laptop.ip6, s.port))
}

// RemoteAddr is the device's.
func (s *stream) RemoteAddr() net.Addr { return s.address(s.to) }

// SetDeadline and its like do nothing: who waits for too long closes the connection.
func (s *stream) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (s *stream) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
