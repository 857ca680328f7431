// Package mdns answers for the device's name on the links that it is managed through: NAME.local by multicast DNS (RFC 6762), and its page as a service
// of the type _https._tcp (RFC 6763), so that a person finds it without knowing its address.
//
// It opens no socket: those bound to port 5353 are inherited, and joining a group needs no right. It asks nothing but whether the name is free, and keeps no
// cache.
package mdns

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups and the port (RFC 6762 3).
var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: Port}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: Port}
)

// Port is where everybody listens.
const Port = 5353

// A Host is what is answered for. The zero value is nothing.
type Host struct {
	Name      string // without .local
	Link      int    // the kernel's index of the link where it is answered for
	Addresses []netip.Addr
	HTTPS     uint16 // port of the page; 0 is none
}

func (h Host) equal(o Host) bool {
	return h.Name == o.Name && h.Link == o.Link && h.HTTPS == o.HTTPS && slices.Equal(h.Addresses, o.Addresses)
}

// A Responder answers. Its methods may be called from several goroutines.
type Responder struct {
	v4 *ipv4.PacketConn // nil for none
	v6 *ipv6.PacketConn

	mu       sync.Mutex
	host     Host
	conflict time.Time    // when another host last answered for the name
	joined   map[int]bool // links
	changed  chan struct{}
}

// New makes a responder on sockets bound to port 5353; one of them may be nil. They belong to the responder.
func New(v4, v6 net.PacketConn) *Responder {
	r := &Responder{joined: map[int]bool{}, changed: make(chan struct{}, 1)}
	if v4 != nil {
		r.v4 = ipv4.NewPacketConn(v4)
		r.v4.SetControlMessage(ipv4.FlagInterface, true) // without it a link's answers go to others too
		r.v4.SetMulticastTTL(255)
		r.v4.SetMulticastLoopback(false) // an own announcement is no other host's
	}
	if v6 != nil {
		r.v6 = ipv6.NewPacketConn(v6)
		r.v6.SetControlMessage(ipv6.FlagInterface, true)
		r.v6.SetMulticastHopLimit(255)
		r.v6.SetMulticastLoopback(false)
	}
	return r
}

// Set changes what is answered for. A change is announced.
func (r *Responder) Set(h Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host.equal(h) {
		return
	}
	if old := r.host; old.Name != h.Name || old.Link != h.Link {
		r.conflict = time.Time{}
		if old.Name != "" {
			r.send(old, goodbye(old), nil)
		}
	}
	r.host = h
	r.join(h.Link)
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// join needs r.mu. A link that is gone has left the groups.
func (r *Responder) join(link int) {
	if link == 0 || r.joined[link] {
		return
	}
	r.joined[link] = true
	i := &net.Interface{Index: link}
	if r.v4 != nil {
		if err := r.v4.JoinGroup(i, group4); err != nil {
			slog.Debug("join the mDNS group", "link", link, "error", err)
			r.joined[link] = false // it may have no address yet
		}
	}
	if r.v6 != nil {
		if err := r.v6.JoinGroup(i, group6); err != nil {
			slog.Debug("join the mDNS group", "link", link, "error", err)
		}
	}
}

// conflictLife is how long another host's answer counts. It is asked again before that.
const (
	conflictLife = 3 * time.Minute
	askAgain     = time.Minute
)

// Conflict reports whether another host answers for the name.
func (r *Responder) Conflict() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.conflict) < conflictLife
}

// Run answers until ctx is done, and then says that the host is gone.
func (r *Responder) Run(ctx context.Context) {
	var reading sync.WaitGroup
	if r.v4 != nil {
		reading.Go(func() { r.read4(ctx) })
	}
	if r.v6 != nil {
		reading.Go(func() { r.read6(ctx) })
	}
	r.announce(ctx)
	r.mu.Lock()
	if r.host.Name != "" {
		r.send(r.host, goodbye(r.host), nil)
	}
	r.mu.Unlock()
	if r.v4 != nil {
		r.v4.Close()
	}
	if r.v6 != nil {
		r.v6.Close()
	}
	reading.Wait()
}

// announce asks for the name, and tells it twice, a second apart (RFC 6762 8.3), after each change.
func (r *Responder) announce(ctx context.Context) {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			if r.Conflict() {
				r.mu.Lock()
				r.send(r.host, probe(r.host), nil)
				r.mu.Unlock()
			}
			continue
		case <-r.changed:
		}
		for range 2 {
			r.mu.Lock()
			h := r.host
			r.join(h.Link)
			if h.Name != "" {
				r.send(h, probe(h), nil)
				r.send(h, announcement(h), nil)
			}
			r.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

// maxMessage is above what Ethernet carries in one frame; larger messages are in fragments and not for us.
const maxMessage = 9000

func (r *Responder) read4(ctx context.Context) {
	b := make([]byte, maxMessage)
	for ctx.Err() == nil {
		n, control, from, err := r.v4.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && control != nil {
			r.receive(b[:n], control.IfIndex, from)
		}
	}
}

func (r *Responder) read6(ctx context.Context) {
	b := make([]byte, maxMessage)
	for ctx.Err() == nil {
		n, control, from, err := r.v6.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && control != nil {
			r.receive(b[:n], control.IfIndex, from)
		}
	}
}

// receive answers a message that came on a link.
func (r *Responder) receive(b []byte, link int, from net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	peer, ok := from.(*net.UDPAddr)
	if !ok || r.host.Name == "" || link != r.host.Link {
		return
	}
	if claims(r.host, b) {
		if time.Since(r.conflict) > conflictLife {
			slog.Warn("another host in the network answers for this device's name: give one of them another name", "name", r.host.Name+".local", "host", peer.IP)
		}
		r.conflict = time.Now()
		return
	}
	reply, unicast := answer(r.host, b, peer.Port != Port)
	if reply == nil {
		return
	}
	if !unicast {
		peer = nil
	}
	r.send(r.host, reply, peer)
}

// send sends a message to one peer, or with none to the groups. It needs r.mu.
func (r *Responder) send(h Host, b []byte, peer *net.UDPAddr) {
	if b == nil {
		return
	}
	if r.v4 != nil && (peer == nil || peer.IP.To4() != nil) {
		to := cmp.Or(peer, group4)
		if _, err := r.v4.WriteTo(b, &ipv4.ControlMessage{IfIndex: h.Link}, to); err != nil {
			slog.Debug("mDNS", "error", err)
		}
	}
	if r.v6 != nil && (peer == nil || peer.IP.To4() == nil) {
		to := cmp.Or(peer, group6)
		if _, err := r.v6.WriteTo(b, &ipv6.ControlMessage{IfIndex: h.Link}, to); err != nil {
			slog.Debug("mDNS", "error", err)
		}
	}
}

// same compares names as DNS does.
func same(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }
