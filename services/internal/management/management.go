// Package management gives the management port its addresses, so that the device is reached: by DHCP or as they are set, and by link-local ones where
// nobody answers, so that a laptop that is plugged in finds it. IPv6 is made by the kernel from router advertisements.
//
// The port is Galvo's own: IPv4 addresses, static IPv6 ones and default routes there that nobody wants are removed. Other links are not touched. It needs
// CAP_NET_ADMIN and CAP_NET_RAW.
package management

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"galvo/services/config"
	"galvo/services/internal/dhcp"
	"galvo/services/internal/linklocal"
)

// A Link is the link that is the management port.
type Link struct {
	Index   int
	Name    string
	MAC     string
	Carrier bool
}

// A Wish is what the port is to be.
type Wish struct {
	Settings config.Management
	Name     string // of the host, without a domain
	Link     Link   // the zero value while there is none
}

// A State is what the port is.
type State struct {
	Link      Link
	Source    string      // of IPv4: dhcp, static, link-local, or empty while there is nothing yet
	Lease     *dhcp.Lease // nil if there is none
	LinkLocal netip.Addr  // that was taken; may be missing
	DNS       []netip.Addr
	Problem   string // in words; empty while all is well
}

// patience is how long a DHCP server may take before the port gets a link-local address besides.
const patience = 6 * time.Second

// A Port keeps the management port as it is wished.
type Port struct {
	file    string // of the lease
	keep    bool   // addresses stay when Run ends
	changed func()

	wishes chan struct{} // there is a new one

	mu    sync.Mutex
	wish  Wish
	state State
}

// New returns a port that remembers its lease in a file. Addresses stay when Run ends if keep is set. changed is called after each change of
// the state, and must not block.
func New(file string, keep bool, changed func()) *Port {
	return &Port{file: file, keep: keep, changed: changed, wishes: make(chan struct{}, 1)}
}

// Wish says what the port is to be from now on. The same wish again changes nothing.
func (p *Port) Wish(w Wish) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reflect.DeepEqual(p.wish, w) {
		return
	}
	p.wish = w
	select {
	case p.wishes <- struct{}{}:
	default:
	}
}

// State returns what the port is.
func (p *Port) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Port) update(f func(*State)) {
	p.mu.Lock()
	f(&p.state)
	p.mu.Unlock()
	p.changed()
}

// Run keeps the port until ctx is done.
func (p *Port) Run(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		w, last := p.wish, p.state
		p.mu.Unlock()
		if last.Link.Index != 0 && last.Link.Index != w.Link.Index {
			release(last.Link)
		}
		session, end := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { p.serve(session, w, last) })
		select {
		case <-ctx.Done():
		case <-p.wishes:
		}
		end()
		running.Wait()
	}
	if s := p.State(); !p.keep && s.Link.Index != 0 {
		release(s.Link)
	}
}

// serve fulfils one wish until ctx is done.
func (p *Port) serve(ctx context.Context, w Wish, last State) {
	if w.Link.Index == 0 {
		problem := ""
		if w.Settings.Port != "" {
			problem = fmt.Sprintf("the management port %s is not there: `ip link` has the names", w.Settings.Port)
		}
		p.update(func(s *State) { *s = State{Problem: problem} })
		return
	}
	if err := prepare(w.Link, w.Settings); err != nil {
		slog.Error("prepare the management port", "name", w.Link.Name, "error", err)
	}
	s := &session{port: p, wish: w}
	if last.Link.Index == w.Link.Index && last.Lease != nil && time.Now().Before(last.Lease.Expire) {
		s.lease = last.Lease // the cable was out for a while
	}
	if l := cmp.Or(s.lease, readLease(p.file, w.Link.MAC)); l != nil {
		s.before = l.Address.Addr()
	}
	s.set(func() {})
	if w.Link.Carrier {
		s.run(ctx)
	}
	<-ctx.Done()
}

// A session is the port while one wish holds.
type session struct {
	port   *Port
	wish   Wish
	before netip.Addr // of a lease that the link had, perhaps in another network; may be missing

	mu        sync.Mutex
	lease     *dhcp.Lease // the last, perhaps not confirmed on this network
	confirmed bool
	linkLocal netip.Addr
	late      bool // nobody answered within patience
}

// run looks for addresses.
func (s *session) run(ctx context.Context) {
	mac, err := net.ParseMAC(s.wish.Link.MAC)
	if err != nil {
		return // no Ethernet: only static addresses
	}
	arp := linklocal.Link{Index: s.wish.Link.Index, MAC: mac}
	var running sync.WaitGroup
	defer running.Wait()
	switch s.wish.Settings.IPv4 {
	case "dhcp":
		running.Go(func() { s.client(arp).Run(ctx) })
		running.Go(func() { s.fallBack(ctx, arp) })
	case "link-local":
		running.Go(func() { s.takeLinkLocal(ctx, arp) })
	case "static":
		if a, err := netip.ParsePrefix(s.wish.Settings.Address); err == nil {
			running.Go(func() { s.checkStatic(ctx, arp, a.Addr()) })
		}
	}
}

func (s *session) client(arp linklocal.Link) *dhcp.Client {
	c := &dhcp.Client{
		Link: s.wish.Link.Name, MAC: arp.MAC, Name: s.wish.Name, Last: s.before,
		Free: func(ctx context.Context, a netip.Addr) bool {
			free, err := linklocal.Free(ctx, arp, a)
			return free || err != nil
		},
		Changed: func(l *dhcp.Lease) {
			s.set(func() { s.lease, s.confirmed = l, l != nil })
			if err := writeLease(s.port.file, s.wish.Link.MAC, l); err != nil {
				slog.Warn("remember the lease", "error", err)
			}
			if l != nil {
				slog.Info("the management port has a lease", "name", s.wish.Link.Name, "address", l.Address, "server", l.Server, "until", l.Expire)
				linklocal.Announce(arp, l.Address.Addr()) // whoever does not hear it asks
			}
		},
	}
	return c
}

// fallBack takes a link-local address whenever there was no server for a while, and gives it up when there is one.
func (s *session) fallBack(ctx context.Context, arp linklocal.Link) {
	for ctx.Err() == nil {
		since := time.Now()
		for s.needsServer() && time.Since(since) < patience && ctx.Err() == nil {
			pause(ctx)
		}
		if s.needsServer() && ctx.Err() == nil {
			s.set(func() { s.late = true })
			taken, giveUp := context.WithCancel(ctx)
			var holding sync.WaitGroup
			holding.Go(func() { s.takeLinkLocal(taken, arp) })
			for s.needsServer() && ctx.Err() == nil {
				pause(ctx)
			}
			giveUp()
			holding.Wait()
			s.set(func() { s.late, s.linkLocal = false, netip.Addr{} })
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
}

func (s *session) needsServer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.confirmed
}

func (s *session) takeLinkLocal(ctx context.Context, arp linklocal.Link) {
	for ctx.Err() == nil {
		err := linklocal.Hold(ctx, arp, func(a netip.Addr) {
			slog.Info("the management port has a link-local address", "name", s.wish.Link.Name, "address", a)
			s.set(func() { s.linkLocal = a })
		})
		if err != nil {
			slog.Warn("take a link-local address", "name", s.wish.Link.Name, "error", err)
			pause(ctx)
		}
	}
}

// checkStatic says when a neighbour has the address that was set.
func (s *session) checkStatic(ctx context.Context, arp linklocal.Link, a netip.Addr) {
	free, err := linklocal.Free(ctx, arp, a)
	if err == nil && !free {
		s.port.update(func(st *State) {
			st.Problem = fmt.Sprintf("another device in the network has the address %s of the management port: change one of them", a)
		})
		return
	}
	linklocal.Announce(arp, a)
}

// set changes what the session has, makes the link have it, and tells.
func (s *session) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	w, ok := s.addresses()
	var err error
	if ok {
		err = apply(s.wish.Link, w)
	}
	if err != nil {
		slog.Error("set the addresses of the management port", "name", s.wish.Link.Name, "error", err)
	}
	s.port.update(func(st *State) { *st = s.state(err) })
}

// state needs s.mu.
func (s *session) state(failed error) State {
	st := State{Link: s.wish.Link, Lease: s.lease, LinkLocal: s.linkLocal, DNS: s.dns()}
	switch {
	case s.wish.Settings.IPv4 == "static":
		st.Source, st.Lease = "static", nil
	case s.wish.Settings.IPv4 == "dhcp" && s.lease != nil:
		st.Source = "dhcp"
	case s.linkLocal.IsValid():
		st.Source = "link-local"
	}
	switch {
	case failed != nil:
		st.Problem = fmt.Sprintf("the addresses of the management port cannot be set: %v", failed)
	case !s.wish.Link.Carrier:
		st.Problem = fmt.Sprintf("the management port %s has no carrier: check the cable and the other end", s.wish.Link.Name)
	case s.late && s.linkLocal.IsValid():
		st.Problem = fmt.Sprintf("no DHCP server answers on %s: the device has the link-local address %s meanwhile", s.wish.Link.Name, s.linkLocal)
	case s.late:
		st.Problem = fmt.Sprintf("no DHCP server answers on %s: a link-local address is looked for", s.wish.Link.Name)
	}
	return st
}

// addresses returns what the link is to have, and false while it is not known: what an earlier process left stays until then. It needs s.mu.
func (s *session) addresses() (wanted, bool) {
	m := s.wish.Settings
	var w wanted
	known := true
	switch m.IPv4 {
	case "static":
		w.addresses = append(w.addresses, timed{prefix: netip.MustParsePrefix(m.Address)})
		w.gateway4, _ = netip.ParseAddr(m.Gateway)
	case "dhcp":
		if s.lease != nil {
			w.addresses = append(w.addresses, timed{s.lease.Address, s.lease.Expire})
			w.gateway4 = s.lease.Router
		}
		known = s.lease != nil || s.late
	case "link-local":
		known = s.linkLocal.IsValid() || !s.wish.Link.Carrier
	}
	if s.linkLocal.IsValid() {
		w.addresses = append(w.addresses, timed{prefix: netip.PrefixFrom(s.linkLocal, 16)})
	}
	if m.IPv6 == "static" {
		w.addresses = append(w.addresses, timed{prefix: netip.MustParsePrefix(m.Address6)})
		w.gateway6, _ = netip.ParseAddr(m.Gateway6)
	}
	w.auto6 = m.IPv6 == "auto"
	return w, known
}

// dns needs s.mu.
func (s *session) dns() []netip.Addr {
	var list []netip.Addr
	for _, text := range s.wish.Settings.DNS {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a)
		}
	}
	if len(list) == 0 && s.wish.Settings.IPv4 == "dhcp" && s.lease != nil {
		list = s.lease.DNS
	}
	return list
}
