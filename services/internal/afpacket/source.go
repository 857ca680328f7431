package afpacket

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
)

// idle is how long Next waits for a frame.
const idle = 50 * time.Millisecond

// Ports are live ports and the sources, one per worker, that deliver their frames. Ports are added and removed while the workers run.
type Ports struct {
	start   time.Time
	sources []*Source
	table   atomic.Pointer[[]pipeline.Interface]

	mu    sync.Mutex
	ports []*Port // guarded by mu
}

// NewPorts returns an empty set of ports for a number of workers.
func NewPorts(workers int) *Ports {
	ps := &Ports{start: time.Now()}
	ps.table.Store(&[]pipeline.Interface{})
	for range workers {
		s := &Source{ports: ps}
		s.list.Store(&[]*ring{})
		ps.sources = append(ps.sources, s)
	}
	return ps
}

// Source returns the source of a worker. One goroutine at a time may use it.
func (ps *Ports) Source(worker int) *Source { return ps.sources[worker] }

// Add starts a port on sockets from Open, one for each worker in worker order. They belong to the port, also if Add fails. Link type and MAC address
// of iface are filled in from the interface; its place in the interface table is its port id - 1. An interface that is
// down is accepted from Linux 6.13 on; before that Add fails with unix.EINVAL if there are several workers.
func (ps *Ports) Add(iface pipeline.Interface, fds []int, o Options) (*Port, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if iface.Port < 1 || iface.Port > math.MaxUint16 {
		closeAll(fds)
		return nil, fmt.Errorf("add port %d: port ids go from 1 to %d", iface.Port, math.MaxUint16)
	}
	if len(fds) != len(ps.sources) {
		closeAll(fds)
		return nil, fmt.Errorf("add port %d: %d packet sockets for %d workers", iface.Port, len(fds), len(ps.sources))
	}
	p, l, err := newPort(fds, o)
	if err != nil {
		return nil, fmt.Errorf("add port %d: %w", iface.Port, err)
	}
	iface.Link, iface.MAC = l.kind, l.mac
	p.Iface = ps.index(iface)
	ps.ports = append(ps.ports, p)
	for i, s := range ps.sources {
		list := append(slices.Clone(*s.list.Load()), p.rings[i])
		s.list.Store(&list)
	}
	return p, nil
}

// Describe puts a port that is not there into the interface table, for who lists the interfaces before it comes.
func (ps *Ports) Describe(iface pipeline.Interface) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.index(iface)
}

// index puts iface at its place in the table: that of its port id. It needs ps.mu.
func (ps *Ports) index(iface pipeline.Interface) uint16 {
	table := slices.Clone(*ps.table.Load())
	for len(table) < iface.Port {
		table = append(table, pipeline.Interface{Port: len(table) + 1, Link: packet.LinkEthernet})
	}
	table[iface.Port-1] = iface
	ps.table.Store(&table)
	return uint16(iface.Port - 1)
}

// Remove stops a port, waits until the workers have taken what is left in its rings, and gives everything back. It needs workers that run;
// if ctx is done before they are done the port stays stopped, and Remove may be called again.
func (ps *Ports) Remove(ctx context.Context, p *Port) error {
	if err := p.mute(); err != nil {
		return fmt.Errorf("remove port: %w", err)
	}
	p.leaving.CompareAndSwap(0, int64(time.Since(ps.start)+settle))
	for _, r := range p.rings {
		select {
		case <-r.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ps.forget(p)
	p.close()
	return nil
}

func (ps *Ports) forget(p *Port) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ports = slices.DeleteFunc(ps.ports, func(q *Port) bool { return q == p })
	for i, s := range ps.sources {
		list := slices.DeleteFunc(slices.Clone(*s.list.Load()), func(r *ring) bool { return r == p.rings[i] })
		s.list.Store(&list)
	}
}

// Close gives all ports back with what is left in their rings. The workers must have stopped: memory of frames they still hold is gone.
func (ps *Ports) Close() {
	ps.mu.Lock()
	ports := slices.Clone(ps.ports)
	ps.mu.Unlock()
	for _, p := range ports {
		ps.forget(p)
		p.close()
	}
}

// A Source delivers the frames of one worker from all ports. It is a pipeline.Source that never ends.
//
// Frames of one port come in the order of its ring. Frames of several ports are merged by their time: a ring's frames wait until every
// other ring has frames too, or until no earlier ones can be on the way there, which is when they are 25 ms old. So a reply on
// the other port of a link does not overtake its request, and a quiet port delays the others by 25 ms at most. What is
// merged wrongly is: ports whose timestamps come from different clocks.
type Source struct {
	ports *Ports
	list  atomic.Pointer[[]*ring] // what the control side wants the source to read

	seen  *[]*ring // the last list
	rings []*ring  // what it reads: those in the list, and those that still drain
	poll  []unix.PollFd
	wait  unix.Timespec
}

var _ pipeline.Source = (*Source)(nil)

// Interfaces returns the table of all ports up to the highest id that was ever added.
func (s *Source) Interfaces() []pipeline.Interface { return *s.ports.table.Load() }

// Next delivers what is there, or waits up to 50 ms for more. It fails only with the error of ctx.
func (s *Source) Next(ctx context.Context, b *pipeline.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.release()
	packets := batchOf(b)
	s.adopt(packets)
	// The clock is read before the rings: what is said of its time must not depend on how long this thread waits for a processor.
	b.Now = time.Now().UnixNano()
	n, more := s.fill(packets, b.Now)
	if n == 0 {
		s.sleep(more)
		b.Now = time.Now().UnixNano()
		n, _ = s.fill(packets, b.Now)
	}
	for _, r := range s.rings {
		r.publish()
	}
	b.Packets = packets[:n]
	if n == 0 {
		b.Given = s.given(b.Now)
	}
	return nil
}

// given returns up to which time every frame was delivered, when at a time now nothing could be taken: up to the oldest frame that is seen on its way, and not to
// the last moment, of which frames may be on their way unseen.
func (s *Source) given(now int64) int64 {
	t := now - int64(onTheWay)
	for _, r := range s.rings {
		if first, ok := r.filling(); ok {
			t = min(t, first-1)
		}
	}
	return t
}

// batchOf returns the memory of b for a full batch.
func batchOf(b *pipeline.Batch) []packet.Packet {
	if cap(b.Packets) < pipeline.BatchSize {
		b.Packets = make([]packet.Packet, pipeline.BatchSize)
	}
	return b.Packets[:pipeline.BatchSize]
}

// adopt takes over new rings and lets go of drained ones.
func (s *Source) adopt(packets []packet.Packet) {
	if list := s.list.Load(); list != s.seen {
		s.seen = list
		for _, r := range *list {
			if !slices.Contains(s.rings, r) && !r.dropped {
				s.rings = append(s.rings, r)
			}
		}
	}
	for i := 0; i < len(s.rings); i++ {
		r := s.rings[i]
		until := time.Duration(r.port.leaving.Load())
		if until == 0 {
			continue
		}
		now := time.Since(s.ports.start)
		if now < until || r.ready() {
			continue
		}
		clear(packets) // they may still point into the ring's memory, which is about to vanish
		s.rings = slices.Delete(s.rings, i, i+1)
		i--
		r.dropped = true
		close(r.gone)
	}
}

// fill takes frames in the order of their times, at the time now, and returns how many. If it returns none, more is how long to wait at least until
// frames that are there may be taken, or idle.
func (s *Source) fill(packets []packet.Packet, now int64) (n int, more time.Duration) {
	for n < len(packets) {
		r, limit, wait := s.choose(now)
		if r == nil {
			return n, wait
		}
		n += r.take(packets[n:], limit)
	}
	return n, 0
}

// choose returns the ring with the earliest frame and the time up to which its frames come before those of all others. It returns
// no ring if there are no frames, or if all of them have to wait.
//
// While a ring has none, frames wait until they are settle old. They are judged by their own time: were it the time at which their block was found,
// a backlog would wait block by block, and lose the race with the kernel, which ends a block every 20 ms. A frame from the future comes from a clock
// that nothing can be said about, and does not wait.
func (s *Source) choose(now int64) (first *ring, limit int64, wait time.Duration) {
	limit = math.MaxInt64
	earliest := int64(math.MaxInt64)
	quiet := false
	for _, r := range s.rings {
		if !r.ready() {
			quiet = true
			continue
		}
		t := r.nextTime()
		switch {
		case first == nil:
			first, earliest = r, t
		case t < earliest:
			first, earliest, limit = r, t, earliest
		case t < limit:
			limit = t
		}
	}
	if first == nil {
		return nil, 0, idle
	}
	if quiet && earliest <= now {
		settled := now - int64(settle)
		if earliest > settled {
			return nil, 0, time.Duration(earliest - settled)
		}
		limit = min(limit, settled)
	}
	return first, limit, 0
}

// release gives back the blocks whose last frames were in the last batch.
func (s *Source) release() {
	for _, r := range s.rings {
		r.release()
	}
}

// sleep waits until a ring without frames has some, or for a time.
func (s *Source) sleep(d time.Duration) {
	s.poll = s.poll[:0]
	for _, r := range s.rings {
		if !r.pending {
			s.poll = append(s.poll, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
		}
	}
	s.wait = unix.NsecToTimespec(int64(min(d, idle)))
	n, err := unix.Ppoll(s.poll, &s.wait, nil)
	if err != nil || n == 0 {
		return // EINTR, or nothing: both are an empty batch
	}
	for _, p := range s.poll {
		if p.Revents&unix.POLLERR != 0 {
			// ENETDOWN: the interface went down or away. Until the error is read poll would not wait any more.
			_, _ = unix.GetsockoptInt(int(p.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
		}
	}
}
