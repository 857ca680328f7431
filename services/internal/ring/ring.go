// Package ring keeps packets on disk in files of fixed size: the oldest are overwritten.
//
// A ring lies on one or several devices. On each it has segment files, allocated and initialised once and overwritten in place. A segment is a sequence of
// blocks of 1 MiB, and each block is a pcapng section of its own, with an index at its end; the last blocks of a segment hold an index over all of it.
// FORMAT.md has the bytes.
//
// A Stage per worker builds blocks in memory and never waits: when no memory is left whole packets are dropped, and counted by cause. Writers put finished
// blocks to the devices by turns. A block that takes its time is saved twice a second to a tail slot, so that a power cut costs a second at most.
//
// A Query reads the blocks that may hold what its filter asks for and gives their packets in the order of time, with what the flow table and protocol
// recognition knew of them when they were recorded. A Source replays everything.
//
// The package does not choose devices, names or sizes, does not compile filters, and asks no clock but Config.Now.
package ring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"galvo/services/internal/ring/aio"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/rule"
	"galvo/services/internal/ring/state"
)

// Config says what a ring is and how it works. A new ring takes all of it; of one that exists Open takes name, sizes and copies from its files.
type Config struct {
	Name         string
	Dirs         []string // a directory of the ring's own on each device
	DeviceNames  []string // what errors and problems call the devices, in the order of Dirs; nil = by number and directory
	Bytes        int64    // on each device
	SegmentBytes int64    // 0 = a 64th of Bytes, in bounds
	Replicas     int      // copies of each block beside the first, on other devices: 0 or 1

	Memory       []byte // what Release returned, for Open, which takes it over also when it fails; nil = new memory, which takes the kernel up to seconds
	QueueBytes   int64  // memory for blocks on their way to the disk; 0 = 256 MB
	ReorderBytes int64  // memory that a query may put packets in order with; 0 = 512 MB
	Rules        []rule.Rule
	Workers      int          // stages that may record at once; 0 = 1
	ReadOnly     bool         // for tools: nothing is written, and nothing recovered
	Now          func() int64 // ns since the epoch; nil = the system's clock
	Report       func(error)  // told of what goes wrong while nobody waits for an answer: a device fails, a block is damaged; may be nil

	patience time.Duration // how long a query waits for a worker to show its unfinished block; 0 = patience

	// Store opens the directory of a device; nil = files.Open.
	Store func(dir string) files.Store
	// Progress is told by Create how far it is; may be nil.
	Progress func(done, total int64)
}

// Bounds of sizes.
const (
	defaultQueue   = 256_000_000
	defaultReorder = 512_000_000
)

func (c Config) withDefaults() (Config, error) {
	c.QueueBytes = cmp.Or(c.QueueBytes, defaultQueue)
	c.ReorderBytes = cmp.Or(c.ReorderBytes, defaultReorder)
	c.Workers = cmp.Or(c.Workers, 1)
	c.patience = cmp.Or(c.patience, patience)
	if c.Now == nil {
		c.Now = func() int64 { return time.Now().UnixNano() }
	}
	if c.Report == nil {
		c.Report = func(error) {}
	}
	if c.Store == nil {
		c.Store = files.Open
	}
	if c.Progress == nil {
		c.Progress = func(int64, int64) {}
	}
	if c.DeviceNames == nil {
		for i, dir := range c.Dirs {
			c.DeviceNames = append(c.DeviceNames, fmt.Sprintf("device %d (%s)", i, dir))
		}
	}
	switch {
	case len(c.Dirs) == 0:
		return c, errors.New("a ring needs a directory on one device at least")
	case len(c.DeviceNames) != len(c.Dirs):
		return c, fmt.Errorf("%d names for %d devices", len(c.DeviceNames), len(c.Dirs))
	case c.Replicas < 0 || c.Replicas > 1:
		return c, fmt.Errorf("%d copies of each block beside the first; it is 0 or 1", c.Replicas)
	case c.Replicas >= len(c.Dirs):
		return c, errors.New("a copy of each block needs a second device")
	case len(c.Name) > state.MaxName:
		return c, fmt.Errorf("the name of a ring has %d bytes at most", state.MaxName)
	case c.Workers < 1 || c.Workers > 256:
		return c, fmt.Errorf("%d workers; a ring takes 1 to 256", c.Workers)
	}
	return c, rule.Check(c.Rules)
}

// geometry returns size and number of the segments of a new ring.
func (c *Config) geometry() (segment int64, segments int, err error) {
	segment = c.SegmentBytes
	if segment == 0 {
		segment = min(max(c.Bytes/64, 16<<20), 1<<30, max(c.Bytes/state.MinSegments, index.MinSegment))
	}
	segment = segment / block.Size * block.Size
	if segment < index.MinSegment || segment > index.MaxSegment {
		return 0, 0, fmt.Errorf("segments of %d bytes; they have %d to %d", c.SegmentBytes, index.MinSegment, index.MaxSegment)
	}
	n := c.Bytes / segment
	if n < state.MinSegments {
		return 0, 0, fmt.Errorf("%d bytes on a device are too little for a ring: it takes %d segments of %d bytes at least", c.Bytes, state.MinSegments, segment)
	}
	return segment, int(min(n, 1<<20)), nil
}

// SizeOnDisk returns how many bytes Create takes on each device.
func (c Config) SizeOnDisk() (int64, error) {
	segment, segments, err := c.geometry()
	return segment*int64(segments) + state.Size(segments) + int64(cmp.Or(c.Workers, 1))*2*block.Size, err
}

// Create makes a new, empty ring: it allocates and initialises all of it, which takes as long as writing it once. If it fails, or ctx ends, nothing is left
// of it. Open opens it.
func Create(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return fmt.Errorf("create ring %q: %w", c.Name, err)
	}
	segment, segments, err := c.geometry()
	if err != nil {
		return fmt.Errorf("create ring %q: %w", c.Name, err)
	}
	d := state.Descriptor{
		Name: c.Name, Ring: rand.Uint64() | 1, Devices: uint16(len(c.Dirs)), Copies: uint16(c.Replicas), SegmentBytes: segment, Segments: uint32(segments),
		Created: c.Now(), Clean: true,
	}
	var done atomic.Int64
	total := segment * int64(segments) * int64(len(c.Dirs))
	progress := func(n int64) { c.Progress(done.Add(n), total) }
	errs := make([]error, len(c.Dirs))
	var all sync.WaitGroup
	for i, dir := range c.Dirs {
		all.Go(func() {
			d := d
			d.Device = uint16(i)
			if err := createDevice(ctx, c.Store(dir), d, c.Workers, progress); err != nil {
				errs[i] = fmt.Errorf("%s: %w", c.DeviceNames[i], err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		for i, dir := range c.Dirs {
			if !errors.Is(errs[i], os.ErrExist) {
				err = errors.Join(err, ignoreMissing(c.Store(dir).Remove()))
			}
		}
		return fmt.Errorf("create ring %q: %w", c.Name, err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// createDevice makes the files of one device. The state comes last: without it there is no ring.
func createDevice(ctx context.Context, s files.Store, d state.Descriptor, workers int, progress func(int64)) error {
	if f, err := s.Open(files.StateName, false); err == nil {
		return errors.Join(fmt.Errorf("%w: there is a ring already", os.ErrExist), f.Close())
	}
	// Many blocks at once: the devices are asked for as few and as large writes as they take.
	const burst = 4
	b, err := files.Pages(burst * block.Size)
	if err != nil {
		return err
	}
	defer files.Free(b)
	for i := range burst {
		block.Empty(b[i*block.Size:(i+1)*block.Size], d.Ring)
	}
	for n := range int(d.Segments) {
		f, err := s.Create(files.SegmentName(n), d.SegmentBytes)
		if err != nil {
			return err
		}
		for at := int64(0); at < d.SegmentBytes && err == nil; at += burst * block.Size {
			if err = ctx.Err(); err == nil {
				size := min(burst*block.Size, d.SegmentBytes-at)
				_, err = f.WriteAt(b[:size], at)
				progress(size)
			}
		}
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", files.SegmentName(n), err)
		}
	}
	if err := createTails(s, workers, b); err != nil {
		return err
	}
	f, err := s.Create(files.StateName, state.Size(int(d.Segments)))
	if err != nil {
		return err
	}
	err = state.WriteEmpty(f, &d, b[:files.PageSize])
	return errors.Join(err, f.Sync(), f.Close())
}

func createTails(s files.Store, workers int, zero []byte) error {
	clear(zero[:block.Size])
	f, err := s.Create(files.TailsName, int64(workers)*2*block.Size)
	if err != nil {
		return err
	}
	for i := range int64(workers) * 2 {
		if _, werr := f.WriteAt(zero[:block.Size], i*block.Size); err == nil {
			err = werr
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Remove deletes the files of a ring that is not open, also of one that cannot be opened.
func Remove(c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	for _, dir := range c.Dirs {
		err = errors.Join(err, ignoreMissing(c.Store(dir).Remove()))
	}
	return err
}

// A Ring is an open ring. Its methods may be called from any goroutine; those of a Stage belong to a worker.
type Ring struct {
	cfg     Config
	d       state.Descriptor
	devices []*device

	seq       atomic.Uint64 // of the block begun last
	synced    atomic.Uint64 // every block whose Header.Total is at most this is on the disk for good
	total     atomic.Uint64 // captured bytes since the ring was created
	packets   atomic.Uint64 // packets since the ring was opened
	dropped   [state.Causes]atomic.Uint64
	losses    losses
	discarded atomic.Uint64
	reorder   atomic.Int64 // Config.ReorderBytes now

	memory []byte            // of the images
	unpin  []func()          // what ends that devices know memory
	queue  chan *block.Image // finished ones
	tails  chan *block.Image
	stages []*stage

	buffers files.Buffers // of queries
	reader  aio.Reader    // of queries
	heads   block.Heads
	sorter  index.Writer

	taking sync.Mutex // held by who takes blocks from the queue, or waits for some, until they have slots; locked before mu

	// handing guards what stages give and take. Who holds it waits for nobody, as stages do not: mu may be held during a read, and until the state is on the disk. It is
	// locked after mu.
	handing sync.Mutex
	free    []*block.Image          // the one put back last is taken first: while the disk keeps up a few of them do, and stay in the cache
	waiting map[uint64]*block.Image // finished blocks on their way to the disk, by number
	flights map[uint64]uint64       // Header.Total of finished blocks that are not written yet, by number
	changed chan struct{}           // closed and made anew when a block is finished

	mu       sync.Mutex
	turn     int
	closed   bool
	shut     bool // the files are closed too, or about to be
	problems []string

	began       int64 // when it began to record; no block that is begun then, or later, lies on a device that is missing. math.MaxInt64 if it does not record. Guarded by mu
	paused      bool  // the last pause of the descriptor ended when the ring was opened. Guarded by mu
	overwritten int64 // time of the last packet that was overwritten; math.MinInt64 if none was. Guarded by mu
	remembers   bool  // overwritten and ahead are what was overwritten before the ring was opened, too. Guarded by mu
	ahead       Gap   // the same of what was recorded when the clock was ahead; Why is empty if there is nothing. Guarded by mu

	stock stock // what its blocks say of what is missing

	rebuilt []string // what is not known because a device has no state. Guarded by mu, as absent
	absent  []Gap    // in which blocks were finished that are not there, if that is known; the state says what is overwritten else

	rate    rate
	stop    chan struct{}
	stopped sync.WaitGroup
	readers sync.WaitGroup        // queries that may still use buffers
	queries map[*Results]struct{} // that run; guarded by mu
	spare   index.Shelves         // guarded by mu
}

// report tells of a problem, and waits for nobody.
func (r *Ring) report(err error) {
	go r.cfg.Report(fmt.Errorf("ring %q: %w", cmp.Or(r.d.Name, r.cfg.Name), err))
}

// now asks the clock.
func (r *Ring) now() int64 { return r.cfg.Now() }
