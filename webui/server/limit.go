package server

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures  = 3 // before attempts are slowed down
	firstDelay    = 250 * time.Millisecond
	longestDelay  = 2 * time.Second // what the right password may have to wait, besides the hashes of others
	forgetAfter   = 15 * time.Minute
	maxTracked    = 4096 // addresses and users
	waitingOfOne  = 8    // attempts of one address that may wait
	waitingOfAll  = 64
	retryAfterSec = "3"
)

// A limiter slows down guessing. Whoever failed often, by address or by user name, waits before the next attempt is looked at; nobody is locked out,
// since a right password is let in however often others failed. Passwords that were right before do not come here.
type limiter struct {
	now func() time.Time

	mu       sync.Mutex
	failures map[string]failure // by "a" + network or "u" + name
	waiting  map[string]int     // by network
	all      int
}

type failure struct {
	count int
	last  time.Time
}

func newLimiter() *limiter {
	return &limiter{now: time.Now, failures: map[string]failure{}, waiting: map[string]int{}}
}

// enter waits as long as the failures of the address and the name demand. It returns false if too many wait already, or ctx ended. After true, leave
// must be called.
func (l *limiter) enter(ctx context.Context, address, name string) bool {
	network := network(address)
	l.mu.Lock()
	if l.waiting[network] >= waitingOfOne || l.all >= waitingOfAll {
		l.mu.Unlock()
		return false
	}
	l.waiting[network]++
	l.all++
	delay := max(l.delay("a"+network), l.delay("u"+name))
	l.mu.Unlock()
	if delay == 0 {
		return true
	}
	select {
	case <-time.After(delay):
		return true
	case <-ctx.Done():
		l.release(network)
		return false
	}
}

// leave ends an attempt.
func (l *limiter) leave(address, name string, right bool) {
	network := network(address)
	l.release(network)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range []string{"a" + network, "u" + name} {
		if right {
			delete(l.failures, key)
			continue
		}
		l.makeRoom()
		f := l.failures[key]
		l.failures[key] = failure{f.count + 1, l.now()}
	}
}

func (l *limiter) release(network string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.waiting[network]--; l.waiting[network] == 0 {
		delete(l.waiting, network)
	}
}

// delay returns what a key has to wait. It needs l.mu.
func (l *limiter) delay(key string) time.Duration {
	f, ok := l.failures[key]
	if !ok || l.now().Sub(f.last) > forgetAfter {
		delete(l.failures, key)
		return 0
	}
	over := f.count - freeFailures
	if over < 0 {
		return 0
	}
	return min(firstDelay<<min(over, 10), longestDelay)
}

// makeRoom forgets the key that failed the longest ago when there are too many. It needs l.mu.
func (l *limiter) makeRoom() {
	if len(l.failures) < maxTracked {
		return
	}
	oldest := ""
	for key, f := range l.failures {
		if oldest == "" || f.last.Before(l.failures[oldest].last) {
			oldest = key
		}
	}
	delete(l.failures, oldest)
}

// network is what one client can have many addresses of: an IPv6 /64, or one IPv4 address.
func network(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return address
	}
	return p.String()
}
