// Package clock keeps the machine's clock right by NTP (RFC 5905): it asks servers, takes the middle one of their answers, and slews the kernel's
// clock. It steps only at first, or when the clock is far off for a while, and never to a time before a floor, such as the date of the build.
//
// It needs CAP_SYS_TIME. The RTC is the kernel's own business: it writes the time there while the clock counts as synchronised. Queries are made
// by github.com/beevik/ntp; what is done with their answers is here.
package clock

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Server is asked for the time.
type Server struct {
	Name string // or address
	From string // who named it: the configuration, or DHCP
}

// A Sample is a server's answer.
type Sample struct {
	Server Server
	Offset time.Duration // to be added to this machine's clock
	Error  time.Duration // how far off it may be
}

// A Kernel has the clock.
type Kernel interface {
	Now() time.Time
	Step(by time.Duration) error
	// Slew corrects the clock by running it a little faster or slower. maxError is how far off it may be then.
	Slew(by, maxError time.Duration) error
}

// A State is what is known of the clock.
type State struct {
	Source  string        // the server and who named it; empty before the first answer
	Offset  time.Duration // of the last answer
	Last    time.Time     // when that was; zero if there was none
	Synced  bool
	Problem string // in words; empty while all is well
}

// A Clock is kept right by Run. Its fields are not to be changed then.
type Clock struct {
	Kernel  Kernel
	Query   func(context.Context, Server) (Sample, error)
	Servers func() []Server // that are to be asked now; none leaves the clock alone
	Floor   time.Time       // the clock is never set below
	Raise   bool            // and is set to it if it is below
	Wake    <-chan struct{} // the servers changed

	mu    sync.Mutex
	state State
	far   int // answers in a row that are far off
	pause time.Duration
}

const (
	// near is what is slewed at any time, and beyond which the first answer is stepped to (RFC 5905 A.1.1, STEPT).
	near = 128 * time.Millisecond
	// patience is how many answers in a row must say that a clock that was right is far off.
	patience = 3

	firstPause   = 16 * time.Second
	longestPause = 1024 * time.Second
	retryPause   = 15 * time.Second
	longestRetry = 5 * time.Minute
	queryTimeout = 5 * time.Second

	// staleAfter is when an answer is so old that the clock counts as running alone.
	staleAfter = 2 * longestPause
)

// Run keeps the clock until ctx is done.
func (c *Clock) Run(ctx context.Context) {
	c.raise()
	retry := retryPause
	for ctx.Err() == nil {
		next := longestPause
		switch servers := c.Servers(); {
		case len(servers) == 0:
			c.update(func(s *State) { *s = State{} })
		case c.round(ctx, servers):
			next, retry = c.pause, retryPause
		default:
			next, retry = retry, min(2*retry, longestRetry)
		}
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-c.Wake:
			retry = retryPause
		case <-t.C:
		}
		t.Stop()
	}
}

// raise brings a clock that is below the floor up to it: a machine without an RTC begins in 1970.
func (c *Clock) raise() {
	below := c.Floor.Sub(c.Kernel.Now())
	if below <= 0 || !c.Raise {
		return
	}
	slog.Warn("the clock is before the date of the build and is set to that", "by", below)
	if err := c.Kernel.Step(below); err != nil {
		slog.Error("set the clock", "error", err)
	}
}

// State returns what is known of the clock.
func (c *Clock) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	if s.Synced && c.Kernel.Now().Sub(s.Last) > staleAfter {
		s.Synced = false
	}
	return s
}

func (c *Clock) update(f func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.state)
}

// round asks all servers, corrects the clock, and reports whether any answer was of use.
func (c *Clock) round(ctx context.Context, servers []Server) bool {
	samples, reason := c.ask(ctx, servers)
	if len(samples) == 0 {
		c.update(func(s *State) { s.Problem = "no NTP server gives the time: " + reason })
		return false
	}
	best := middle(samples)
	err := c.correct(best)
	c.update(func(s *State) {
		s.Source = fmt.Sprintf("%s (%s)", best.Server.Name, best.Server.From)
		s.Offset, s.Last = best.Offset, c.Kernel.Now()
		s.Synced, s.Problem = err == nil, ""
		if err != nil {
			s.Problem = err.Error()
		}
	})
	return true
}

// ask returns the answers that make sense, or why there are none.
func (c *Clock) ask(ctx context.Context, servers []Server) (samples []Sample, reason string) {
	type answer struct {
		sample Sample
		err    error
	}
	answers := make(chan answer, len(servers))
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for _, s := range servers {
		go func() {
			sample, err := c.Query(ctx, s)
			sample.Server = s
			answers <- answer{sample, err}
		}()
	}
	for range servers {
		a := <-answers
		if a.err == nil && c.Kernel.Now().Add(a.sample.Offset).Before(c.Floor) {
			a.err = fmt.Errorf("%s says that it is %s, which was before the build", a.sample.Server.Name, c.Kernel.Now().Add(a.sample.Offset).UTC().Format(time.DateOnly))
		}
		if a.err != nil {
			reason = a.err.Error()
			continue
		}
		samples = append(samples, a.sample)
	}
	return samples, reason
}

// middle returns the answer in the middle; of two, the one that is less uncertain.
func middle(samples []Sample) Sample {
	if len(samples) == 2 {
		return slices.MinFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Error, b.Error) })
	}
	slices.SortFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Offset, b.Offset) })
	return samples[len(samples)/2]
}

// correct slews the clock, or steps it where that would take too long.
func (c *Clock) correct(s Sample) error {
	if s.Offset.Abs() <= near {
		c.far = 0
		c.pause = min(max(2*c.pause, firstPause), longestPause)
		if s.Offset.Abs() > near/4 {
			c.pause = firstPause
		}
		if err := c.Kernel.Slew(s.Offset, s.Error); err != nil {
			return fmt.Errorf("the clock cannot be corrected: %w", err)
		}
		return nil
	}
	c.far++
	first := c.state.Last.IsZero()
	c.pause = firstPause
	if !first && c.far < patience {
		return fmt.Errorf("the clock is off by %s; it is set if that stays so", s.Offset.Round(time.Millisecond))
	}
	c.far = 0
	slog.Warn("the clock is set", "by", s.Offset, "server", s.Server.Name)
	if err := c.Kernel.Step(s.Offset); err != nil {
		return fmt.Errorf("the clock cannot be set: %w", err)
	}
	return nil
}
