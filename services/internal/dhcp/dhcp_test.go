package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"galvo/ci/pace"
	"galvo/ci/rig"
)

// A server is what the tests' network has; answer decides about each message and may be nil for silence.
type server struct {
	*testing.T
	end    *rig.End
	asked  chan question
	answer func(question) *dhcpv4.DHCPv4
}

// A question is a client's message, and how it came.
type question struct {
	*dhcpv4.DHCPv4
	unicast bool // from an address
}

var serverAddress = netip.MustParseAddr("10.9.0.1")

func serve(t *testing.T, end *rig.End) *server {
	t.Helper()
	s := &server{T: t, end: end, asked: make(chan question, 100)}
	if err := end.Address(serverAddress.String() + "/24"); err != nil {
		t.Fatal(err)
	}
	var conn net.PacketConn
	if err := end.Netns.Run(func() (err error) {
		conn, err = server4.NewIPv4UDPConn(end.Name, &net.UDPAddr{Port: 67})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	handle := func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		from, _ := peer.(*net.UDPAddr)
		q := question{m, from != nil && !from.IP.Equal(net.IPv4bcast)} // what server4 makes of no address
		s.asked <- q
		if reply := s.answer(q); reply != nil {
			to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
			if q.unicast {
				to = from
			}
			conn.WriteTo(reply.ToBytes(), to)
		}
	}
	srv, err := server4.NewServer(end.Name, nil, handle, server4.WithConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { srv.Serve(); close(served) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return s
}

// grant answers as a server does that has one address.
func grant(q question, address string, life time.Duration) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeAck
	if q.MessageType() == dhcpv4.MessageTypeDiscover {
		kind = dhcpv4.MessageTypeOffer
	}
	reply, err := dhcpv4.NewReplyFromRequest(q.DHCPv4, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(address)),
		dhcpv4.WithServerIP(serverAddress.AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverAddress.AsSlice())),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.ParseIP("10.9.0.254")), dhcpv4.WithDNS(net.ParseIP("10.9.0.53")),
		dhcpv4.WithOption(dhcpv4.OptNTPServers(net.ParseIP("10.9.0.123"))), dhcpv4.WithLeaseTime(uint32(life.Seconds())))
	if err != nil {
		return nil
	}
	return reply
}

func refuse(q question) *dhcpv4.DHCPv4 {
	reply, _ := dhcpv4.NewReplyFromRequest(q.DHCPv4, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverAddress.AsSlice())))
	return reply
}

// patience is more than the longest life of a lease here.
const patience = 2 * time.Minute

// next returns the next question that is picked.
func (s *server) next(what string, pick func(question) bool) question {
	s.Helper()
	late := time.After(patience)
	for {
		select {
		case q := <-s.asked:
			if pick(q) {
				return q
			}
		case <-late:
			s.Fatalf("no %s", what)
		}
	}
}

// run keeps a client going on a link until the test ends. Leases are set as addresses.
func run(t *testing.T, end *rig.End, c Client) <-chan *Lease {
	t.Helper()
	leases, ended := make(chan *Lease, 100), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- end.Netns.Run(func() error {
			l, err := netlink.LinkByName(end.Name)
			if err != nil {
				return err
			}
			c.Link, c.MAC = end.Name, l.Attrs().HardwareAddr
			c.Changed = func(lease *Lease) {
				if lease != nil {
					a, _ := netlink.ParseAddr(lease.Address.String())
					netlink.AddrReplace(l, a)
				}
				leases <- lease
			}
			c.Run(ctx)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return leases
}

func await(t *testing.T, leases <-chan *Lease) *Lease {
	t.Helper()
	select {
	case l := <-leases:
		return l
	case <-time.After(patience):
		t.Fatal("no lease")
		return nil
	}
}

func kind(k dhcpv4.MessageType) func(question) bool {
	return func(q question) bool { return q.MessageType() == k }
}

// A lease is granted, renewed with its server, with any server, lost, and granted anew.
func TestLife(t *testing.T) {
	t.Parallel()
	pace.Patiently(t, func(times time.Duration) error { return live(t, times*4*time.Second) })
}

// live has the client go through all that with leases of a life, an eighth of which is left when it asks any server.
func live(t *testing.T, life time.Duration) error {
	link, other := rig.VethFor(t)
	s := serve(t, other)
	var granted atomic.Int32
	s.answer = func(q question) *dhcpv4.DHCPv4 {
		bound := !q.ClientIPAddr.IsUnspecified()
		switch {
		case bound && q.unicast && granted.Load() >= 2, bound && granted.Load() >= 3:
			return nil // the server is gone, and then all are
		case q.MessageType() == dhcpv4.MessageTypeRequest:
			granted.Add(1)
		}
		return grant(q, "10.9.0.77", life)
	}
	leases := run(t, link, Client{Name: "galvo-0001"})

	discover := s.next("discovery", kind(dhcpv4.MessageTypeDiscover))
	if got := discover.HostName(); got != "galvo-0001" {
		t.Errorf("option 12 is %q", got)
	}
	if got, want := discover.Options.Get(dhcpv4.OptionFQDN), []byte("\x05\x00\x00\x0agalvo-0001"); !slices.Equal(got, want) {
		t.Errorf("option 81 is %q, want %q", got, want)
	}
	first := await(t, leases)
	if first == nil || first.Address.String() != "10.9.0.77/24" || first.Router.String() != "10.9.0.254" || len(first.NTP) != 1 ||
		first.NTP[0].String() != "10.9.0.123" || len(first.DNS) != 1 || first.Server != serverAddress || first.Expire.Sub(first.Begin) != life {
		t.Fatalf("lease %+v", first)
	}
	if q := s.next("renewal", func(q question) bool { return !q.ClientIPAddr.IsUnspecified() }); !q.unicast {
		return errors.New("the renewal is not sent to the server alone")
	}
	if second := await(t, leases); second == nil || !second.Expire.After(first.Expire) {
		return fmt.Errorf("renewed as %+v", second)
	}
	if third := await(t, leases); third == nil || granted.Load() != 3 {
		return fmt.Errorf("after rebinding: %+v, granted %d times", third, granted.Load())
	}
	if lost := await(t, leases); lost != nil {
		return fmt.Errorf("no server answers, and the lease is %+v", lost)
	}
	if again := await(t, leases); again == nil || again.Address != first.Address {
		return fmt.Errorf("again: %+v", again)
	}
	return nil
}

// The address of last time is asked for first; a server that refuses it offers another one, and what a neighbour has is declined.
func TestRefusals(t *testing.T) {
	t.Parallel()
	link, other := rig.VethFor(t)
	s := serve(t, other)
	s.answer = func(q question) *dhcpv4.DHCPv4 {
		if q.RequestedIPAddress().String() == "10.9.0.5" {
			return refuse(q)
		}
		return grant(q, "10.9.0.6", time.Hour)
	}
	asked := make(chan netip.Addr, 10)
	run(t, link, Client{Last: netip.MustParseAddr("10.9.0.5"), Free: func(_ context.Context, a netip.Addr) bool {
		asked <- a
		return false
	}})
	if q := s.next("request for the last address", kind(dhcpv4.MessageTypeRequest)); q.RequestedIPAddress().String() != "10.9.0.5" || q.ServerIdentifier() != nil {
		t.Errorf("the first request is %s", q.Summary())
	}
	if q := s.next("decline", kind(dhcpv4.MessageTypeDecline)); q.RequestedIPAddress().String() != "10.9.0.6" {
		t.Errorf("declined: %s", q.Summary())
	}
	if a := <-asked; a.String() != "10.9.0.6" {
		t.Errorf("asked whether %s is free", a)
	}
}

func TestLeaseOf(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	request, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	ack := func(address string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.NewReplyFromRequest(request, append(mods, dhcpv4.WithYourIP(net.ParseIP(address)))...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, bad := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1"} {
		if l, err := leaseOf(ack(bad)); err == nil {
			t.Errorf("%s makes the lease %+v", bad, l)
		}
	}
	l, err := leaseOf(ack("10.0.0.1"))
	if err != nil || l.Address.String() != "10.0.0.1/8" || l.Renew.Sub(l.Begin) != 30*time.Minute || l.Router.IsValid() {
		t.Errorf("a lease that says nothing: %+v, %v", l, err)
	}
	l, err = leaseOf(ack("10.0.0.1", dhcpv4.WithLeaseTime(0xffffffff), dhcpv4.WithNetmask(net.IPv4Mask(255, 0, 255, 0))))
	if err != nil || l.Expire.Sub(l.Begin) != forever || l.Renew.Sub(l.Begin) != 24*time.Hour || l.Address.Bits() != 8 {
		t.Errorf("an infinite lease: %+v, %v", l, err)
	}
}

// Whatever a server sends, a lease has an address and its times are in order.
func FuzzLeaseOf(f *testing.F) {
	request, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(grant(question{request, false}, "10.9.0.1", time.Hour).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := leaseOf(m)
		if err != nil {
			return
		}
		if !l.Address.IsValid() || l.Address.Bits() < 1 || l.Renew.After(l.Rebind) || l.Rebind.After(l.Expire) || !l.Renew.After(l.Begin) {
			t.Errorf("%+v", l)
		}
	})
}
