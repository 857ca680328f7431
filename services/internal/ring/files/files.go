// Package files is how a ring has its files on one device: what they are called, how they are read and written, past the page cache where the file system can, and
// memory that begins at a page, as that wants it. What is in the files it does not know.
package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Store is where a ring has its files on one device. Everything that the ring reads and writes goes through it, so that a test can tear writes below
// the ring, and so that another way to submit them can take its place.
type Store interface {
	// Create makes a file of size bytes, allocated and full of zeros, and fails if there is one of that name.
	Create(name string, size int64) (File, error)
	// Open opens a file; the error is os.ErrNotExist if there is none. With write it may be written.
	Open(name string, write bool) (File, error)
	// Segments returns the numbers of the segment files that there are, in order.
	Segments() ([]int, error)
	// Remove removes the files of the ring and what held them.
	Remove() error
}

// A File is written and read in whole pages: offsets and lengths are multiples of 4096, and buffers begin at a page. WriteAt and ReadAt may be called
// from several goroutines. What was written is on the disk for good once a Sync that began later has returned.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Size() (int64, error)
}

// A Gatherer is a File that writes several pieces of memory, one behind the other, in one go.
type Gatherer interface {
	WriteAll(pieces [][]byte, at int64) error
}

// WriteAll writes several pieces of memory to a file, one behind the other.
func WriteAll(f File, pieces [][]byte, at int64) error {
	if g, ok := f.(Gatherer); ok && len(pieces) > 1 {
		return g.WriteAll(pieces, at)
	}
	for _, b := range pieces {
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}

// A Pinner is a Store that writes faster from memory that it was told of before. What is written while unpin runs, or after, must not lie there.
type Pinner interface {
	Pin(b []byte) (unpin func(), err error)
}

// PageSize is the unit of reading and writing.
const PageSize = 4096

// The names of a ring's files in the directory of a device.
const (
	StateName = "state"
	TailsName = "tails"
)

// SegmentName is that of segment n.
func SegmentName(n int) string { return fmt.Sprintf("%06d.pcapng", n) }

// A Directory is a Store in a directory of a file system.
type Directory string

// Open is what Config.Store is by default: files in a directory, read and written past the page cache where the file system can.
func Open(path string) Store { return Directory(path) }

// Create implements Store.
func (d Directory) Create(name string, size int64) (File, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	f, err := openDirect(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err := allocate(f.File, size); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// allocate takes the room on the disk, so that no later write finds it full. A file system without the call is filled by the writes that follow.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = f.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("allocate %d bytes for %s: %w", size, f.Name(), err)
	}
	return nil
}

// Open implements Store. The file is an *OSFile.
func (d Directory) Open(name string, write bool) (File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := openDirect(filepath.Join(string(d), name), mode)
	if err != nil {
		return nil, err // not an osFile that is nil
	}
	return f, nil
}

// openDirect opens past the page cache, or through it on a file system that cannot, such as tmpfs.
func openDirect(path string, mode int) (*OSFile, error) {
	f, err := os.OpenFile(path, mode|unix.O_DIRECT, 0o600)
	direct := !errors.Is(err, unix.EINVAL)
	if !direct {
		f, err = os.OpenFile(path, mode&^os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return &OSFile{File: f, Direct: direct}, nil
}

// Segments implements Store.
func (d Directory) Segments() (numbers []int, err error) {
	entries, err := os.ReadDir(string(d))
	for _, e := range entries {
		if n, ok := segmentNumber(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// Remove implements Store.
func (d Directory) Remove() error {
	entries, err := os.ReadDir(string(d))
	for _, e := range entries {
		if ringFile(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(string(d), e.Name())))
		}
	}
	if left := os.Remove(string(d)); err == nil && !errors.Is(left, unix.ENOTEMPTY) {
		err = left
	}
	return err
}

// ringFile reports whether a file of that name is part of a ring.
func ringFile(name string) bool {
	_, segment := segmentNumber(name)
	return name == StateName || name == TailsName || segment
}

// segmentNumber returns the number of the segment that a file of that name is.
func segmentNumber(name string) (n int, ok bool) {
	_, err := fmt.Sscanf(name, "%06d.pcapng", &n)
	return n, err == nil && n >= 0 && name == SegmentName(n)
}

// An OSFile is a file of a file system.
type OSFile struct {
	*os.File
	Direct bool // past the page cache
	closed atomic.Bool
	locked bool
}

// Descriptor returns what the kernel knows the file by, until it is closed; ok is false if it is, or if it goes through the page cache.
func (f *OSFile) Descriptor() (fd int, ok bool) {
	if f.closed.Load() || !f.Direct {
		return -1, false
	}
	return int(f.Fd()), true
}

// Close implements File. A lock ends here, and not a moment later, when the kernel is through with the last request that had the file (io_uring_enter(2)).
func (f *OSFile) Close() error {
	f.closed.Store(true)
	if f.locked {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // else closing does it
	}
	return f.File.Close()
}

// Sync implements File.
func (f *OSFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

// WriteAll implements Gatherer. What the kernel does not write in one go is written piece by piece.
func (f *OSFile) WriteAll(pieces [][]byte, at int64) error {
	n, err := unix.Pwritev(int(f.Fd()), pieces, at)
	if err != nil {
		n = 0
	}
	for _, b := range pieces {
		if n >= len(b) {
			n -= len(b)
		} else if _, err := f.WriteAt(b[n:], at+int64(n)); err != nil {
			return err
		} else {
			n = 0
		}
		at += int64(len(b))
	}
	return nil
}

// lastRequests is how long a process that was killed may keep its locks: until a disk is through with what it was asked for.
const lastRequests = 2 * time.Second

// Lock keeps other processes, and other openings, from writing the same ring, until the file is closed.
func (f *OSFile) Lock() error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for start := time.Now(); errors.Is(err, unix.EWOULDBLOCK) && time.Since(start) < lastRequests; {
		time.Sleep(10 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("the ring is open for writing already, perhaps in another process")
	}
	f.locked = err == nil
	return err
}

// Intact returns an error if the file was deleted, or has another size; 0 is any.
func (f *OSFile) Intact(size int64) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return err
	}
	switch {
	case s.Nlink == 0:
		return errors.New("somebody has deleted the file")
	case size != 0 && s.Size != size:
		return fmt.Errorf("somebody has changed the size of the file: it has %d bytes, not %d", s.Size, size)
	}
	return nil
}

// Size implements File.
func (f *OSFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Pages returns zeroed memory that begins at a page, outside of Go's heap; it is never given back, so it is for what lives as long as a ring, and
// for Buffers.
func Pages(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("take %d bytes of memory: %w", size, err)
	}
	return b, nil
}

// Touch makes the kernel give memory now and not packet by packet; in large pages where it has them, which are found sooner at each write.
func Touch(b []byte) {
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // not every kernel knows it
	for at := 0; at < len(b); at += PageSize {
		b[at] = 0
	}
}

// Free gives back what Pages took; nil is nothing.
func Free(b []byte) {
	if b != nil {
		unix.Munmap(b) //nolint:errcheck // it was mapped by Pages
	}
}

// Buffers lends buffers of one size that begin at a page. The memory goes back to the system when close is called.
type Buffers struct {
	Size int
	mu   sync.Mutex
	free [][]byte
	all  [][]byte
}

// Get lends a buffer, with anything in it.
func (p *Buffers) Get() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b, nil
	}
	b, err := Pages(p.Size)
	if err != nil {
		return nil, err
	}
	p.all = append(p.all, b)
	return b, nil
}

// Ready makes so many buffers ready for the first who want some: with memory that the kernel has given.
func (p *Buffers) Ready(n int) {
	var list [][]byte
	for range n {
		b, err := p.Get()
		if err != nil {
			break // who wants one says so
		}
		Touch(b)
		list = append(list, b)
	}
	for _, b := range list {
		p.Put(b)
	}
}

// Put takes a buffer back, whole or its beginning.
func (p *Buffers) Put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, b[:p.Size])
}

// Taken returns the bytes of all buffers that there are.
func (p *Buffers) Taken() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint64(len(p.all)) * uint64(p.Size)
}

// Trim gives all but so many of the buffers that nobody has back to the system.
func (p *Buffers) Trim(keep int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.free) > keep {
		b := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		p.all = slices.DeleteFunc(p.all, func(o []byte) bool { return &o[0] == &b[0] })
		Free(b)
	}
}

// Close gives all memory back to the system.
func (p *Buffers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.all {
		Free(b)
	}
	p.all, p.free = nil, nil
}
