package clock

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// System is the clock of this machine (adjtimex(2)).
type System struct{}

// Modes and states of linux/timex.h.
const (
	adjOffset    = 0x0001
	adjMaxError  = 0x0004
	adjEstError  = 0x0008
	adjStatus    = 0x0010
	adjTimeConst = 0x0020
	adjSetOffset = 0x0100
	adjNano      = 0x2000

	staPLL = 0x0001 // and not STA_UNSYNC: the kernel writes the RTC

	// timeConst is how eagerly the kernel follows: a phase is corrected within some minutes, and noise of the network is not.
	timeConst = 4
)

// Now returns the time.
func (System) Now() time.Time { return time.Now().Round(0) } // without the monotonic reading, which does not see steps

// Step sets the clock.
func (System) Step(by time.Duration) error {
	seconds, nanos := int64(by/time.Second), int64(by%time.Second)
	if nanos < 0 { // as the kernel wants it
		seconds, nanos = seconds-1, nanos+int64(time.Second)
	}
	t := unix.Timex{Modes: adjSetOffset | adjNano}
	t.Time.Sec, t.Time.Usec = seconds, nanos
	_, err := unix.Adjtimex(&t)
	return err
}

// Slew gives the kernel's phase-locked loop an offset of half a second at most.
func (System) Slew(by, maxError time.Duration) error {
	by = min(max(by, -500*time.Millisecond), 500*time.Millisecond)
	_, err := unix.Adjtimex(&unix.Timex{
		Modes: adjOffset | adjStatus | adjTimeConst | adjMaxError | adjEstError | adjNano, Status: staPLL, Constant: timeConst,
		Offset: by.Nanoseconds(), Maxerror: maxError.Microseconds(), Esterror: by.Abs().Microseconds(),
	})
	return err
}

// Ask queries a server over the network. Names are resolved by resolver; nil is that of the machine.
func Ask(resolver *net.Resolver) func(context.Context, Server) (Sample, error) {
	return func(ctx context.Context, s Server) (Sample, error) {
		dialer := net.Dialer{Resolver: resolver}
		r, err := ntp.QueryWithOptions(s.Name, ntp.QueryOptions{
			Timeout: queryTimeout,
			Dialer:  func(_, remote string) (net.Conn, error) { return dialer.DialContext(ctx, "udp", remote) },
		})
		if err == nil {
			err = r.Validate()
		}
		if err != nil {
			return Sample{}, fmt.Errorf("ask %s: %w", s.Name, err)
		}
		return Sample{Offset: r.ClockOffset, Error: r.RootDistance}, nil
	}
}
