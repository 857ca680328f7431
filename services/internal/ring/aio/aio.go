// Package aio reads pieces of files past the page cache, many at once, through io_submit(2): one call starts all of them, no thread waits for any, and
// a goroutine that waits keeps no processor from the others, which one in pread(2) does for as long as a disk takes. It knows nothing of what is read.
package aio

import (
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"galvo/services/internal/ring/files"
)

// A Reader reads through the kernel's contexts, which it makes as it needs them, and without it where the kernel has none to give. The zero Reader is ready for
// use by several goroutines; Close gives back what it has. A nil one reads without the kernel's contexts.
type Reader struct {
	mu      sync.Mutex
	idle    []*context
	refused bool // the kernel makes none

	submitting sync.RWMutex // held for reading from a file's descriptor to the kernel's having the file
}

// Closing calls f, which closes files that may be read from: no descriptor of theirs is used after it, when it may be that of another file.
func (r *Reader) Closing(f func() error) error {
	r.submitting.Lock()
	defer r.submitting.Unlock()
	return f()
}

// A Piece is to be read from At on, whole pages of a file to memory that begins at a page and is not on Go's heap.
type Piece struct {
	File files.File
	B    []byte
	At   int64
}

const (
	depth = 64 // of a context
	keep  = 16 // contexts that wait for their next use

	// linux/aio_abi.h
	pread     = 0
	flagResFD = 1
)

// iocb is struct iocb, on a little-endian machine.
type iocb struct {
	data     uint64
	_, _     uint32 // key, rw_flags
	op       uint16
	_        int16
	fd       uint32
	buf      uint64
	bytes    uint64
	offset   int64
	_        uint64
	aioFlags uint32
	event    uint32
}

// ioEvent is struct io_event.
type ioEvent struct {
	data, obj uint64
	res, res2 int64
}

// A context belongs to one goroutine at a time.
type context struct {
	id     uintptr
	done   *os.File // an eventfd that counts what is complete
	fd     uint32
	blocks [depth]iocb
	refs   [depth]*iocb
	events [depth]ioEvent
}

// open makes a context; nil if the kernel has none to give.
func open() *context {
	c := &context{}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, depth, uintptr(unsafe.Pointer(&c.id)), 0); errno != 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		c.close()
		return nil
	}
	c.done, c.fd = os.NewFile(uintptr(fd), "aio"), uint32(fd)
	return c
}

func (c *context) close() {
	unix.Syscall(unix.SYS_IO_DESTROY, c.id, 0, 0) //nolint:errcheck // it is idle
	if c.done != nil {
		c.done.Close() //nolint:errcheck // an eventfd
	}
}

// take lends a context; nil if there is none.
func (r *Reader) take() *context {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		return c
	}
	if r.refused {
		return nil
	}
	c := open()
	r.refused = c == nil
	return c
}

func (r *Reader) put(c *context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.idle) == keep {
		c.close()
		return
	}
	r.idle = append(r.idle, c)
}

// Ready makes ready to read n times at once.
func (r *Reader) Ready(n int) {
	var list []*context
	for range min(n, keep) {
		if c := r.take(); c != nil {
			list = append(list, c)
		}
	}
	for _, c := range list {
		r.put(c)
	}
}

// Close gives back what waits for its next use. Nobody reads any more.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.idle {
		c.close()
	}
	r.idle = nil
}

// Read reads pieces, and calls done with each, in any order, when it was read, or could not be. It returns when it has called it for all.
func (r *Reader) Read(pieces []Piece, done func(i int, err error)) {
	for at := 0; at < len(pieces); at += depth {
		some := pieces[at:min(at+depth, len(pieces))]
		tell := func(i int, err error) { done(at+i, err) }
		each(some, r.read(some, tell), tell)
	}
}

// read reads what a context can, and returns a bit for each piece that is not read.
func (r *Reader) read(pieces []Piece, done func(int, error)) (left uint64) {
	left = 1<<len(pieces) - 1
	if len(pieces) == depth {
		left = 1<<64 - 1
	}
	c := r.take()
	if c == nil {
		return left
	}
	r.submitting.RLock()
	sent := c.submit(pieces)
	r.submitting.RUnlock()
	ok, whole := c.wait(sent, pieces, done)
	runtime.KeepAlive(pieces)
	if ok {
		r.put(c)
	} else {
		c.close() // which waits until the kernel writes to no piece any more
	}
	return left &^ whole
}

// submit gives pieces to the kernel, and returns how many it took.
func (c *context) submit(pieces []Piece) (sent int) {
	n := 0
	for i := range pieces {
		n += c.add(n, i, &pieces[i])
	}
	for sent < n {
		more, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, c.id, uintptr(n-sent), uintptr(unsafe.Pointer(&c.refs[sent])))
		if errno != 0 || more == 0 {
			break // the others are read in the ordinary way
		}
		sent += int(more)
	}
	return sent
}

// add makes piece i request n, and returns 1 if it can be one.
func (c *context) add(n, i int, p *Piece) int {
	f, ok := p.File.(interface{ Descriptor() (fd int, ok bool) })
	if !ok || len(p.B) == 0 {
		return 0
	}
	fd, ok := f.Descriptor()
	if !ok {
		return 0
	}
	c.blocks[n] = iocb{data: uint64(i), op: pread, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(&p.B[0]))), bytes: uint64(len(p.B)), offset: p.At, aioFlags: flagResFD, event: c.fd}
	c.refs[n] = &c.blocks[n]
	return 1
}

// wait waits for n requests and returns a bit for each piece that was read. If not ok, the kernel may still be at the others.
func (c *context) wait(n int, pieces []Piece, done func(int, error)) (ok bool, whole uint64) {
	var count [8]byte
	var now unix.Timespec
	for n > 0 {
		if _, err := c.done.Read(count[:]); err != nil {
			return false, whole
		}
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, c.id, 0, depth, uintptr(unsafe.Pointer(&c.events[0])), uintptr(unsafe.Pointer(&now)), 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return false, whole
		}
		for _, e := range c.events[:got] {
			if e.res == int64(len(pieces[e.data].B)) {
				whole |= 1 << e.data
				done(int(e.data), nil)
			}
		}
		n -= int(got)
	}
	return true, whole
}

// each reads the pieces whose bit is set in the ordinary way, which says what is wrong with them.
func each(pieces []Piece, left uint64, done func(int, error)) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	for i := range pieces {
		if left>>i&1 == 0 {
			continue
		}
		read := func() {
			_, err := pieces[i].File.ReadAt(pieces[i].B, pieces[i].At)
			mu.Lock()
			defer mu.Unlock()
			done(i, err)
		}
		if left>>i == 1 { // the last one
			read()
		} else {
			wait.Go(read)
		}
	}
	wait.Wait()
}
