package linklocal

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"galvo/ci/rig"
)

func linkOf(t *testing.T, e *rig.End) (l Link) {
	t.Helper()
	if err := e.Netns.Run(func() error {
		link, err := netlink.LinkByName(e.Name)
		if err == nil {
			l = Link{e.Index, link.Attrs().HardwareAddr}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

// Two hosts that want one address get two, and the one that came first keeps it.
func TestConflict(t *testing.T) {
	t.Parallel()
	a, b := rig.VethFor(t)
	if err := a.WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	hold := func(e *rig.End, l Link) chan netip.Addr {
		got := make(chan netip.Addr, 8)
		go func() {
			ended <- e.Netns.Run(func() error { return Hold(ctx, l, func(a netip.Addr) { got <- a }) })
		}()
		return got
	}
	la, lb := linkOf(t, a), linkOf(t, b)
	first := candidate(la.MAC, 0)
	// The neighbour has the address that the host will try first.
	if err := b.Address(first.String() + "/16"); err != nil {
		t.Fatal(err)
	}
	var free bool
	if err := a.Netns.Run(func() (err error) { free, err = Free(ctx, la, first); return err }); err != nil || free {
		t.Errorf("Free = %t, %v, of a neighbour's address", free, err)
	}
	got := <-hold(a, la)
	if want := candidate(la.MAC, 1); got != want {
		t.Errorf("%s, want the second candidate %s", got, want)
	}
	if err := b.Netns.Run(func() (err error) { free, err = Free(ctx, lb, netip.MustParseAddr("169.254.9.9")); return err }); err != nil || !free {
		t.Errorf("Free = %t, %v, of an address that nobody has", free, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An answer that came while nobody looked counts, although the time is over.
func TestLateLook(t *testing.T) {
	t.Parallel()
	a, b := rig.VethFor(t)
	taken := netip.MustParseAddr("169.254.9.9")
	if err := b.Address(taken.String() + "/16"); err != nil {
		t.Fatal(err)
	}
	la := linkOf(t, a)
	if err := a.Netns.Run(func() error {
		s, err := open(la)
		if err != nil {
			return err
		}
		defer s.close()
		if err := s.send(netip.IPv4Unspecified(), taken); err != nil {
			return err
		}
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		for n := 0; n != 1; {
			if n, err = unix.Poll(poll, 60_000); n == 0 && err == nil {
				return errors.New("nobody answers")
			}
		}
		found, err := s.await(t.Context(), 0, conflict(taken))
		if !found {
			t.Error("the answer is not seen")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// Who insists on an address gets it.
func TestYield(t *testing.T) {
	t.Parallel()
	a, b := rig.VethFor(t)
	if err := a.WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, ended := make(chan netip.Addr, 8), make(chan error)
	la, lb := linkOf(t, a), linkOf(t, b)
	go func() {
		ended <- a.Netns.Run(func() error { return Hold(ctx, la, func(a netip.Addr) { got <- a }) })
	}()
	first := <-got
	for range 2 {
		if err := b.Netns.Run(func() error { return Announce(lb, first) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // two announcements, not one burst
	}
	if second := <-got; second == first {
		t.Errorf("%s twice", second)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCandidates(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	seen := map[netip.Addr]bool{}
	for n := range 1000 {
		a := candidate(mac, n)
		if b := a.As4(); b[0] != 169 || b[1] != 254 || b[2] == 0 || b[2] == 255 {
			t.Fatalf("%s is reserved", a)
		}
		seen[a] = true
	}
	if len(seen) < 950 {
		t.Errorf("%d addresses of 1000", len(seen))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(request(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")))
	f.Add([]byte{0, 1, 8, 0, 6, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := parse(b); ok && (!m.sender.Is4() || !m.target.Is4()) {
			t.Errorf("%+v", m)
		}
	})
}
