// Package dhcp keeps a lease of a link's IPv4 address (RFC 2131): it asks for one, renews it at T1, asks every server at T2, gives it up when it has
// run out or a server says no, and begins again. With its requests go the host's name as option 12 and, for servers that enter it into DNS, as
// option 81 (RFC 4702).
//
// It needs CAP_NET_RAW. It sets no address: who runs it is told of each lease. Messages are those of github.com/insomniacslk/dhcp; the states are here.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// A Lease is what a server grants.
type Lease struct {
	Address netip.Prefix
	Router  netip.Addr // the first; may be missing
	DNS     []netip.Addr
	NTP     []netip.Addr // option 42
	Domain  string
	Server  netip.Addr

	Begin  time.Time
	Renew  time.Time // T1
	Rebind time.Time // T2
	Expire time.Time
}

// A Client asks for one link.
type Client struct {
	Link string
	MAC  net.HardwareAddr
	Name string     // of the host; without a domain
	Last netip.Addr // address that it had before, to be asked for first; may be missing

	// Free reports whether nobody else uses an address that a server offered; an address that somebody has is declined.
	Free func(context.Context, netip.Addr) bool
	// Changed is called with each new or renewed lease, and with nil when there is none any more.
	Changed func(*Lease)
}

// Timing of RFC 2131 4.1 and 4.4.5.
const (
	firstWait   = 2 * time.Second // for an answer; it doubles with each try
	tries       = 4
	longestRest = 30 * time.Second // between rounds of tries
	declineRest = 10 * time.Second // 3.1.5
	leastRenew  = 60 * time.Second // between requests of one lease
	quickRenew  = time.Second      // for leases of seconds, which only tests have
)

// errRefused is a server's no (DHCPNAK).
var errRefused = errors.New("the server refuses")

// Run keeps a lease until ctx is done. Failures are said and tried again.
func (c *Client) Run(ctx context.Context) {
	rest := time.Second
	for ctx.Err() == nil {
		lease, err := c.acquire(ctx)
		if err != nil {
			if ctx.Err() == nil {
				slog.Debug("dhcp", "link", c.Link, "error", err)
			}
			sleep(ctx, rest/2+rand.N(rest))
			rest = min(2*rest, longestRest)
			continue
		}
		rest = time.Second
		c.Changed(lease)
		c.hold(ctx, lease)
		if ctx.Err() == nil {
			c.Changed(nil)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// acquire gets a lease: the address of last time if the server still has it, else any.
func (c *Client) acquire(ctx context.Context) (*Lease, error) {
	client, err := nclient4.New(c.Link, nclient4.WithHWAddr(c.MAC), nclient4.WithTimeout(firstWait), nclient4.WithRetry(tries))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if c.Last.IsValid() {
		short, cancel := context.WithTimeout(ctx, 2*firstWait)
		lease, err := c.reboot(short, client)
		cancel()
		if err == nil {
			return lease, nil
		}
		c.Last = netip.Addr{}
	}
	got, err := client.Request(ctx, c.modifiers()...)
	if err != nil {
		return nil, err
	}
	lease, err := leaseOf(got.ACK)
	if err != nil {
		return nil, err
	}
	if c.Free != nil && !c.Free(ctx, lease.Address.Addr()) {
		err := c.decline(client, got.ACK)
		sleep(ctx, declineRest)
		return nil, errors.Join(fmt.Errorf("somebody else has the address %s that %s offered", lease.Address.Addr(), lease.Server), err)
	}
	c.Last = lease.Address.Addr()
	return lease, nil
}

// reboot asks for the last address without an offer (RFC 2131 4.3.2, INIT-REBOOT).
func (c *Client) reboot(ctx context.Context, client *nclient4.Client) (*Lease, error) {
	request, err := dhcpv4.New(dhcpv4.PrependModifiers(c.modifiers(),
		dhcpv4.WithHwAddr(c.MAC), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(c.Last.AsSlice())))...)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, client, client.RemoteAddr(), request)
}

// ask sends a request and returns the lease of its answer.
func (c *Client) ask(ctx context.Context, client *nclient4.Client, to *net.UDPAddr, request *dhcpv4.DHCPv4) (*Lease, error) {
	reply, err := client.SendAndRead(ctx, to, request, nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, err
	}
	if reply.MessageType() == dhcpv4.MessageTypeNak {
		return nil, errRefused
	}
	return leaseOf(reply)
}

func (c *Client) decline(client *nclient4.Client, ack *dhcpv4.DHCPv4) error {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(c.MAC), dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ack.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ack.ServerIdentifier())))
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	// There is no answer to wait for.
	if _, err = client.SendAndRead(short, client.RemoteAddr(), m, nil); errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// hold keeps a lease for as long as a server renews it.
func (c *Client) hold(ctx context.Context, lease *Lease) {
	for ctx.Err() == nil {
		if wait(ctx, lease.Renew); ctx.Err() != nil {
			return
		}
		renewed, err := c.extend(ctx, lease, lease.Rebind, c.unicast)
		if err != nil && !errors.Is(err, errRefused) {
			renewed, err = c.extend(ctx, lease, lease.Expire, c.broadcast)
		}
		if err != nil {
			if ctx.Err() == nil {
				slog.Warn("the address is lost", "link", c.Link, "address", lease.Address, "reason", err)
			}
			if errors.Is(err, errRefused) {
				c.Last = netip.Addr{}
			}
			return
		}
		lease = renewed
		c.Changed(lease)
	}
}

func wait(ctx context.Context, until time.Time) { sleep(ctx, time.Until(until)) }

// extend asks in one way until somebody answers, or a time has come. Half of what is left lies between two requests (RFC 2131 4.4.5).
func (c *Client) extend(ctx context.Context, lease *Lease, until time.Time, way func(context.Context, *Lease) (*Lease, error)) (*Lease, error) {
	for {
		left := time.Until(until)
		if left <= 0 {
			return nil, errors.New("no server answers")
		}
		round, cancel := context.WithDeadline(ctx, until)
		renewed, err := way(round, lease)
		cancel()
		if err == nil || errors.Is(err, errRefused) || ctx.Err() != nil {
			return renewed, errors.Join(err, ctx.Err())
		}
		pause := max(time.Until(until)/2, leastRenew)
		if lease.Expire.Sub(lease.Begin) < 10*leastRenew {
			pause = max(time.Until(until)/2, quickRenew)
		}
		wait(ctx, earlier(time.Now().Add(pause), until))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// unicast asks the server that granted the lease (RENEWING).
func (c *Client) unicast(ctx context.Context, lease *Lease) (*Lease, error) {
	conn, err := dialUnicast(c.Link, lease.Address.Addr())
	if err != nil {
		return nil, err
	}
	client, err := nclient4.NewWithConn(conn, c.MAC, nclient4.WithTimeout(firstWait), nclient4.WithRetry(2))
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer client.Close()
	return c.renew(ctx, client, &net.UDPAddr{IP: lease.Server.AsSlice(), Port: nclient4.ServerPort}, lease)
}

// broadcast asks all servers (REBINDING).
func (c *Client) broadcast(ctx context.Context, lease *Lease) (*Lease, error) {
	client, err := nclient4.New(c.Link, nclient4.WithHWAddr(c.MAC), nclient4.WithTimeout(firstWait), nclient4.WithRetry(2))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return c.renew(ctx, client, client.RemoteAddr(), lease)
}

func (c *Client) renew(ctx context.Context, client *nclient4.Client, to *net.UDPAddr, lease *Lease) (*Lease, error) {
	request, err := dhcpv4.New(dhcpv4.PrependModifiers(c.modifiers(),
		dhcpv4.WithHwAddr(c.MAC), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(lease.Address.Addr().AsSlice()))...)
	if err != nil {
		return nil, err
	}
	renewed, err := c.ask(ctx, client, to, request)
	if err == nil && renewed.Address.Addr() != lease.Address.Addr() {
		return nil, errRefused // an answer to another question
	}
	return renewed, err
}

// modifiers are what all messages of the client have.
func (c *Client) modifiers() []dhcpv4.Modifier {
	m := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
			dhcpv4.OptionNTPServers, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue),
		// Some servers know a host by nothing else.
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, c.MAC...))),
	}
	if c.Name != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptHostName(c.Name)), dhcpv4.WithOption(fqdn(c.Name)))
	}
	return m
}

// fqdn is option 81: the server is asked to enter the name (S), which comes in the form of DNS messages (E) and without a domain.
func fqdn(name string) dhcpv4.Option {
	const s, e = 1, 4
	labels := (&rfc1035label.Labels{Labels: []string{name}}).ToBytes()
	value := append([]byte{s | e, 0, 0}, labels[:len(name)+1]...)
	return dhcpv4.OptGeneric(dhcpv4.OptionFQDN, value)
}

// leaseOf reads a server's answer. One that makes no sense is an error.
func leaseOf(ack *dhcpv4.DHCPv4) (*Lease, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || address.IsUnspecified() || address.IsLoopback() || address.IsMulticast() {
		return nil, fmt.Errorf("the server offers the address %s", ack.YourIPAddr)
	}
	bits := 0
	if mask := ack.SubnetMask(); mask != nil {
		bits, _ = mask.Size()
	}
	if bits == 0 { // none, or one with holes
		bits, _ = net.IP(address.AsSlice()).DefaultMask().Size()
	}
	l := &Lease{Address: netip.PrefixFrom(address, max(bits, 1)), DNS: addresses(ack.DNS()), NTP: addresses(ack.NTPServers()), Domain: ack.DomainName(), Begin: time.Now()}
	if routers := addresses(ack.Router()); len(routers) > 0 {
		l.Router = routers[0]
	}
	l.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	l.times(ack)
	return l, nil
}

const forever = 10 * 365 * 24 * time.Hour

// times fills in when the lease is to be renewed. An infinite one (RFC 2131 3.3) is asked for anew all the same, now and then.
func (l *Lease) times(ack *dhcpv4.DHCPv4) {
	life := ack.IPAddressLeaseTime(time.Hour)
	if life <= 0 || life > forever {
		life = forever
	}
	t1, t2 := ack.IPAddressRenewalTime(0), ack.IPAddressRebindingTime(0)
	if t2 <= 0 || t2 >= life {
		t2 = life * 7 / 8
	}
	if t1 <= 0 || t1 >= t2 {
		t1 = min(life/2, t2)
	}
	l.Renew, l.Rebind, l.Expire = l.Begin.Add(min(t1, 24*time.Hour)), l.Begin.Add(t2), l.Begin.Add(life)
}

func addresses(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}
