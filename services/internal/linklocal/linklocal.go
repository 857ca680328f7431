package linklocal

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Timing of RFC 5227 2.1.1, which RFC 3927 9 shares.
const (
	probes       = 3
	probeLeast   = time.Second
	probeMost    = 2 * time.Second
	announceWait = 2 * time.Second
	announces    = 2
	defend       = 10 * time.Second

	tooMany = 10          // conflicts, after which a host slows down
	slow    = time.Minute // to one address a minute
)

// Free asks whether nobody uses an address, briefly: once, for half a second.
func Free(ctx context.Context, l Link, a netip.Addr) (bool, error) {
	s, err := open(l)
	if err != nil {
		return false, err
	}
	defer s.close()
	if err := s.send(netip.IPv4Unspecified(), a); err != nil {
		return false, err
	}
	taken, err := s.await(ctx, 500*time.Millisecond, conflict(a))
	return !taken, err
}

// Announce tells everybody on the link who has an address now, so that none goes on sending to its former owner.
func Announce(l Link, a netip.Addr) error {
	s, err := open(l)
	if err != nil {
		return err
	}
	defer s.close()
	return s.send(a, a)
}

// conflict picks messages of a host that uses an address, or is about to.
func conflict(a netip.Addr) func(message) bool {
	return func(m message) bool {
		probe := m.op == opRequest && m.sender.IsUnspecified() && m.target == a
		return m.sender == a || probe
	}
}

// Hold keeps an address of 169.254/16 for a link until ctx is done: it finds one that is free, calls set with it, and again with another one
// when another host insists on it. The first address depends on the MAC alone, so that a device has the same one each time.
func Hold(ctx context.Context, l Link, set func(netip.Addr)) error {
	s, err := open(l)
	if err != nil {
		return err
	}
	defer s.close()
	for conflicts := 0; ctx.Err() == nil; conflicts++ {
		if conflicts > tooMany {
			if _, err := s.await(ctx, slow, func(message) bool { return false }); err != nil {
				return done(err)
			}
		}
		a := candidate(l.MAC, conflicts)
		free, err := s.claim(ctx, a)
		if err != nil {
			return done(err)
		}
		if !free {
			continue
		}
		set(a)
		if err := s.keep(ctx, a); err != nil {
			return done(err)
		}
	}
	return nil
}

// done makes the end that was asked for no error.
func done(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// claim probes an address and announces it if it is free.
func (s *socket) claim(ctx context.Context, a netip.Addr) (free bool, err error) {
	for i := range probes {
		if err := s.send(netip.IPv4Unspecified(), a); err != nil {
			return false, err
		}
		wait := probeLeast + rand.N(probeMost-probeLeast)
		if i == probes-1 {
			wait = announceWait
		}
		if taken, err := s.await(ctx, wait, conflict(a)); err != nil || taken {
			return false, err
		}
	}
	for range announces {
		if err := s.send(a, a); err != nil {
			return false, err
		}
	}
	return true, nil
}

// keep returns when another host insists on an address: it is told once, and gets it if it comes again within a while (RFC 3927 2.5).
func (s *socket) keep(ctx context.Context, a netip.Addr) error {
	used := func(m message) bool { return m.sender == a }
	for {
		const forever = 1 << 62
		if _, err := s.await(ctx, forever, used); err != nil {
			return err
		}
		if err := s.send(a, a); err != nil {
			return err
		}
		if again, err := s.await(ctx, defend, used); err != nil || again {
			return err
		}
	}
}

// candidate returns the nth address that a host tries, out of 169.254.1.0 to 169.254.254.255.
func candidate(mac net.HardwareAddr, n int) netip.Addr {
	h := fnv.New64a()
	h.Write(mac)
	pick := rand.New(rand.NewPCG(h.Sum64(), uint64(n))).Uint32N(254 * 256)
	return netip.AddrFrom4([4]byte{169, 254, byte(1 + pick>>8), byte(pick)})
}
