package rig

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Frame is what a Player sends and Mix makes: from the Ethernet header on, without FCS, VLAN tags in line.
type Frame struct {
	Data []byte
	Time time.Duration // since the first frame
}

// A Player sends frames into one end of a veth pair, or any other Ethernet interface of a namespace.
type Player struct {
	To      *End
	Rate    float64 // frames per second; 0 means as fast as possible
	Speed   float64 // if above 0, and Rate is 0: the frames' own timing, this many times as fast
	Visible bool    // let captures on the sending end see the frames too, which makes it slower
	CPU     int     // the processor to run on, counted from 1; 0 means any
}

// A Report is what became of the frames.
type Report struct {
	Sent    int           // frames that the kernel took
	Bytes   uint64        // their length
	Errors  int           // frames that the kernel refused: too long, too short
	Err     error         // the first reason
	Dropped uint64        // frames that the kernel took and lost on the way to the other end
	Took    time.Duration // from the first to the last frame
	CPU     time.Duration // processor time of the sender, the receiving sockets' kernel part included
}

func (r Report) String() string {
	s := fmt.Sprintf("sent %d frames, %d bytes, in %s (%.0f/s, %.2f us/frame of CPU), refused %d, dropped %d", r.Sent, r.Bytes,
		r.Took.Round(time.Microsecond), float64(r.Sent)/r.Took.Seconds(), float64(r.CPU.Nanoseconds())/1e3/float64(max(r.Sent, 1)), r.Errors, r.Dropped)
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Play sends all frames in order and returns what became of them. It returns early when ctx is done. Frames that the kernel refuses are
// counted and skipped; any other failure to send is an error.
func (p *Player) Play(ctx context.Context, frames []Frame) (Report, error) {
	before, err := p.To.Dropped()
	if err != nil {
		return Report{}, err
	}
	var r Report
	err = p.To.Netns.Run(func() error { return p.play(ctx, frames, &r) })
	if err != nil {
		return r, fmt.Errorf("play into %s: %w", p.To.Name, err)
	}
	after, err := p.To.Dropped()
	r.Dropped = after - before
	return r, err
}

func (p *Player) play(ctx context.Context, frames []Frame, r *Report) error {
	if p.CPU > 0 {
		var set unix.CPUSet
		set.Set(p.CPU - 1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("run on CPU %d: %w", p.CPU, err)
		}
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // only makes the timing better
	fd, err := p.socket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	cpu, start := threadTime(), time.Now()
	defer func() { r.Took, r.CPU = time.Since(start), threadTime()-cpu }()
	var out sender
	for i := 0; i < len(frames); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n := p.due(frames, i, start)
		sent, err := out.send(fd, frames[i:i+n])
		for _, f := range frames[i : i+sent] {
			r.Bytes += uint64(len(f.Data))
		}
		r.Sent += sent
		i += sent
		switch {
		case err == nil:
		case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.EINVAL):
			if r.Errors++; r.Err == nil {
				r.Err = fmt.Errorf("frame %d of %d bytes: %w", i, len(frames[i].Data), err)
			}
			i++
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			runtime.Gosched()
		default:
			return err
		}
	}
	return nil
}

func (p *Player) socket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if !p.Visible {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: p.To.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// due waits until frame i is due and returns how many frames are due then, up to a batch.
func (p *Player) due(frames []Frame, i int, start time.Time) int {
	if p.Rate == 0 && p.Speed == 0 {
		return min(batch, len(frames)-i)
	}
	now := p.waitUntil(p.at(frames, i), start)
	n := 1
	for n < batch && i+n < len(frames) && p.at(frames, i+n) <= now {
		n++
	}
	return n
}

// at returns when frame i is due. The schedule is absolute: it does not drift.
func (p *Player) at(frames []Frame, i int) time.Duration {
	if p.Rate > 0 {
		return time.Duration(float64(i) / p.Rate * 1e9)
	}
	return time.Duration(float64(frames[i].Time-frames[0].Time) / p.Speed)
}

// waitUntil sleeps until shortly before at, spins for the rest, and returns the time. Sleeping alone is 4 us late at best, and spinning
// alone takes a whole processor.
func (p *Player) waitUntil(at time.Duration, start time.Time) time.Duration {
	const slack = 100 * time.Microsecond
	for {
		now := time.Since(start)
		if now >= at {
			return now
		}
		if left := at - now; left > slack {
			ts := unix.NsecToTimespec(int64(left - slack))
			_ = unix.Nanosleep(&ts, nil) // woken early is as good
		}
	}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// batch is how many frames one system call sends.
const batch = 64

// A sender has the memory for sendmmsg(2), which sends several frames in one call.
type sender struct {
	messages [batch]message
	vectors  [batch]unix.Iovec
}

// A message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// send sends frames, up to a batch, and returns how many were sent before one failed.
func (s *sender) send(fd int, frames []Frame) (int, error) {
	for i, f := range frames {
		v, m := &s.vectors[i], &s.messages[i]
		if len(f.Data) == 0 {
			v.Base = nil
		} else {
			v.Base = &f.Data[0]
		}
		v.SetLen(len(f.Data))
		m.header.Iov = v
		m.header.SetIovlen(1)
	}
	for sent := 0; ; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.messages[sent])), uintptr(len(frames)-sent), 0, 0, 0)
		if errno != 0 {
			return sent, errno
		}
		// A short count hides the reason; the next call gives it.
		if sent += int(n); sent == len(frames) {
			return sent, nil
		}
	}
}
