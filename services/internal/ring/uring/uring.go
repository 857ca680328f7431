// Package uring writes the files of package files through io_uring(7).
package uring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"galvo/services/internal/ring/files"
)

// A Ring submits writes and syncs through io_uring(7): no thread waits for them, and the kernel knows the memory that blocks come from, so that it need not
// look for its pages each time. A thread that waits for a disk costs more than itself: Go's scheduler looks 20,000 times a second for a while whether it comes
// back. A Ring serves all rings of a process, for as long as that lives.
//
// It can do nothing but write to open files, and sync them: the kernel is told so before anybody uses it (io_uring_register(2), restrictions). So it can
// be made before a process gives up its rights, and io_uring_setup be denied from then on.
type Ring struct {
	fd     int
	done   *os.File // an eventfd: something was completed
	rings  []byte   // submission and completion queue, shared with the kernel
	sqeMem []byte
	sqes   []sqe

	sqTail, sqMask *uint32 // the thread of serve has them
	sqArray        []uint32

	cqHead, cqTail, cqMask *uint32 // the goroutine of reap has them
	cqes                   []cqe

	refused sync.Once
	report  func(error)

	free    chan uint32            // requests that are not in use
	asked   chan []uint32          // those that are to be submitted
	pending [uringDepth]chan int32 // what came of each: bytes, or less than 0 an error number

	pinning sync.Mutex
	pinned  [uringBuffers][]byte
}

const (
	uringDepth   = 64 // writes under way at once
	uringBuffers = 64 // pieces of memory
	maxBuffer    = 1 << 30

	// linux/io_uring.h
	setupDisabled       = 1 << 6
	featSingleMmap      = 1 << 0
	offSQEs             = 0x10000000
	opFsync             = 3
	opWriteFixed        = 5
	opWrite             = 23
	fsyncData           = 1
	registerEventfd     = 4
	registerRestriction = 11
	registerEnable      = 12
	registerBuffers2    = 15
	registerBuffersUpd  = 16
	restrictRegister    = 0
	restrictSQE         = 1
	sparse              = 1
)

// uringParams is struct io_uring_params.
type uringParams struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, wqFd uint32
	_                                                                  [3]uint32
	sq                                                                 struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// sqe is struct io_uring_sqe.
type sqe struct {
	op, flags uint8
	_         uint16
	fd        int32
	off, addr uint64
	len, how  uint32
	data      uint64
	buffer, _ uint16
	_         [5]uint32
}

// cqe is struct io_uring_cqe.
type cqe struct {
	data uint64
	res  int32
	_    uint32
}

// New makes a Ring. The error says why the kernel, or what confines the process, has none to give. report is told, once, if the kernel later refuses
// what it is asked for: then, too, everything is written in the ordinary way.
func New(report func(error)) (*Ring, error) {
	p := uringParams{flags: setupDisabled}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uringDepth, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	u := &Ring{fd: int(fd), report: report, free: make(chan uint32, uringDepth), asked: make(chan []uint32, uringDepth)}
	for i := range uringDepth {
		u.free <- uint32(i)
		u.pending[i] = make(chan int32, 1)
	}
	unix.CloseOnExec(u.fd)
	if err := errors.Join(u.mapQueues(&p), u.prepare()); err != nil {
		unix.Close(u.fd) //nolint:errcheck // it was never used
		files.Free(u.rings)
		files.Free(u.sqeMem)
		return nil, err
	}
	go u.serve()
	go u.reap()
	return u, nil
}

// mapQueues maps the queues.
func (u *Ring) mapQueues(p *uringParams) (err error) {
	if p.features&featSingleMmap == 0 {
		return errors.New("io_uring: the kernel is too old")
	}
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{})))
	if u.rings, err = unix.Mmap(u.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map the queues of io_uring: %w", err)
	}
	if u.sqeMem, err = unix.Mmap(u.fd, offSQEs, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map the requests of io_uring: %w", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&u.rings[off])) }
	u.sqTail, u.sqMask, u.cqHead, u.cqTail, u.cqMask = at(p.sq.tail), at(p.sq.mask), at(p.cq.head), at(p.cq.tail), at(p.cq.mask)
	u.sqArray = unsafe.Slice(at(p.sq.array), p.sqEntries)
	u.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&u.rings[p.cq.cqes])), p.cqEntries)
	u.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&u.sqeMem[0])), p.sqEntries)
	return nil
}

// prepare makes room for registered memory, and forbids everything but to write and to sync.
func (u *Ring) prepare() error {
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	u.done = os.NewFile(uintptr(event), "io_uring")
	fd := int32(event)
	buffers := struct {
		nr, flags        uint32
		_, data, tagsPtr uint64
	}{nr: uringBuffers, flags: sparse}
	restrictions := [...]struct {
		kind    uint16
		what, _ uint8
		_       [3]uint32
	}{{kind: restrictSQE, what: opWriteFixed}, {kind: restrictSQE, what: opWrite}, {kind: restrictSQE, what: opFsync}, {kind: restrictRegister, what: registerBuffersUpd}}
	for _, step := range []struct {
		name string
		op   uintptr
		arg  unsafe.Pointer
		n    uintptr
	}{
		{"completions", registerEventfd, unsafe.Pointer(&fd), 1},
		{"room for memory", registerBuffers2, unsafe.Pointer(&buffers), unsafe.Sizeof(buffers)},
		{"restrictions", registerRestriction, unsafe.Pointer(&restrictions), uintptr(len(restrictions))},
		{"the start", registerEnable, nil, 0},
	} {
		if err := u.register(step.op, step.arg, step.n); err != nil {
			u.done.Close()
			return fmt.Errorf("register %s with io_uring: %w", step.name, err)
		}
	}
	return nil
}

func (u *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(u.fd), op, uintptr(arg), n, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// Directory is a Store like that of files.Open whose files are written through u.
func (u *Ring) Directory(path string) files.Store { return uringDirectory{files.Directory(path), u} }

type uringDirectory struct {
	files.Directory
	u *Ring
}

func (d uringDirectory) Open(name string, write bool) (files.File, error) {
	f, err := d.Directory.Open(name, write)
	if f, ok := f.(*files.OSFile); ok && err == nil && write && f.Direct {
		return &uringFile{f, d.u}, nil
	}
	return f, err
}

// Pin implements files.Pinner.
func (d uringDirectory) Pin(b []byte) (unpin func(), err error) { return d.u.pin(b) }

// pin registers memory in pieces, unless it is. What finds no place is written in the ordinary way.
func (u *Ring) pin(b []byte) (unpin func(), err error) {
	if _, is := u.bufferOf(b[:min(len(b), maxBuffer)]); is { // several devices share it
		return func() {}, nil
	}
	u.pinning.Lock()
	defer u.pinning.Unlock()
	var mine []int
	for i := range u.pinned {
		if u.pinned[i] == nil && len(b) > 0 && err == nil {
			piece := b[:min(len(b), maxBuffer)]
			if err = u.setBuffer(i, piece); err == nil {
				u.pinned[i] = piece
				mine = append(mine, i)
				b = b[len(piece):]
			}
		}
	}
	return func() {
		u.pinning.Lock()
		defer u.pinning.Unlock()
		for _, i := range mine {
			u.pinned[i] = nil
			_ = u.setBuffer(i, nil) // the kernel lets the pages go when they are unmapped, if not now
		}
	}, err
}

// setBuffer makes b the registered buffer i; nil takes that away.
func (u *Ring) setBuffer(i int, b []byte) error {
	vector := unix.Iovec{}
	if b != nil {
		vector.Base = &b[0]
		vector.SetLen(len(b))
	}
	update := struct {
		offset, _  uint32
		data, tags uint64
		nr, _      uint32
	}{offset: uint32(i), data: uint64(uintptr(unsafe.Pointer(&vector))), nr: 1}
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(u.fd), registerBuffersUpd, uintptr(unsafe.Pointer(&update)), unsafe.Sizeof(update), 0, 0)
	if errno != 0 || n != 1 {
		return fmt.Errorf("register %d bytes of memory with io_uring: %w", len(b), errno)
	}
	return nil
}

// bufferOf returns the registered buffer that has all of b.
func (u *Ring) bufferOf(b []byte) (int, bool) {
	at := uintptr(unsafe.Pointer(&b[0]))
	u.pinning.Lock()
	defer u.pinning.Unlock()
	for i, p := range u.pinned {
		if p == nil {
			continue
		}
		if from := uintptr(unsafe.Pointer(&p[0])); at >= from && at+uintptr(len(b)) <= from+uintptr(len(p)) {
			return i, true
		}
	}
	return 0, false
}

// A uringFile is a file that is written through a Uring.
type uringFile struct {
	*files.OSFile
	u *Ring
}

// WriteAt implements io.WriterAt.
func (f *uringFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.WriteAll([][]byte{b}, at); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteAll implements files.Gatherer: of pieces that it is given together the kernel makes one request to the disk. What it has not written in one go is written
// in the ordinary way.
func (f *uringFile) WriteAll(pieces [][]byte, at int64) error {
	requests, off := make([]sqe, len(pieces)), at
	for i, b := range pieces {
		requests[i] = sqe{op: opWrite, fd: int32(f.Fd()), off: uint64(off), addr: uint64(uintptr(unsafe.Pointer(&b[0]))), len: uint32(len(b))}
		if buffer, ok := f.u.bufferOf(b); ok {
			requests[i].op, requests[i].buffer = opWriteFixed, uint16(buffer)
		}
		off += int64(len(b))
	}
	results := f.u.do(requests)
	runtime.KeepAlive(pieces)
	for i, n := range results {
		b, done := pieces[i], int(max(n, 0))
		if done < len(b) {
			if _, err := f.OSFile.WriteAt(b[done:], at+int64(done)); err != nil { // it has the disk's error, if there is one
				return err
			}
			if n < 0 {
				f.u.refuse(fmt.Errorf("io_uring does not write what pwrite does: %w", syscall.Errno(-n)))
			}
		}
		at += int64(len(b))
	}
	return nil
}

// Sync implements files.File. What the disk says is said once, so only who was not let ask it asks again.
func (f *uringFile) Sync() error {
	n := f.u.do([]sqe{{op: opFsync, fd: int32(f.Fd()), how: fsyncData}})[0]
	if n >= 0 {
		return nil
	}
	errno := syscall.Errno(-n)
	if !slices.Contains(refusals, errno) {
		return errno
	}
	if err := f.OSFile.Sync(); err != nil {
		return err
	}
	f.u.refuse(fmt.Errorf("io_uring does not sync what fdatasync does: %w", errno))
	return nil
}

// refusals are the errors of io_uring itself, or of what confines the process: the file was not asked (io_uring_enter(2)).
var refusals = []syscall.Errno{
	unix.EACCES, unix.EAGAIN, unix.EBADF, unix.EBADFD, unix.EBUSY, unix.ECANCELED, unix.EINTR, unix.EINVAL, unix.ENOMEM, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM,
}

// refuse tells that the kernel refuses what it is asked for, once.
func (u *Ring) refuse(err error) { u.refused.Do(func() { u.report(err) }) }

// do has requests done, and returns what came of each.
func (u *Ring) do(requests []sqe) []int32 {
	results := make([]int32, 0, len(requests))
	for len(results) < len(requests) {
		batch := u.take(len(requests) - len(results))
		for k, i := range batch {
			request := requests[len(results)+k]
			request.data = uint64(i)
			u.sqes[i] = request
		}
		u.asked <- batch
		for _, i := range batch {
			results = append(results, <-u.pending[i])
		}
		for _, i := range batch {
			u.free <- i
		}
	}
	return results
}

// take returns requests that are not in use: so many, or as many as there are. It waits for one only, because others may wait, too.
func (u *Ring) take(n int) []uint32 {
	batch := append(make([]uint32, 0, n), <-u.free)
	for len(batch) < n {
		select {
		case i := <-u.free:
			batch = append(batch, i)
		default:
			return batch
		}
	}
	return batch
}

// serve hands requests to the kernel, those that wait together. The kernel completes them on the thread that has submitted them, so that thread must not
// wait for a disk: it does nothing else.
func (u *Ring) serve() {
	runtime.LockOSThread()
	batch := make([]uint32, 0, uringDepth)
	for asked := range u.asked {
		batch = append(batch[:0], asked...)
		for len(u.asked) > 0 {
			batch = append(batch, <-u.asked...)
		}
		done, errno := u.submit(batch)
		for _, i := range batch[done:] {
			u.pending[i] <- -int32(errno)
		}
	}
}

// submit hands requests to the kernel, and returns how many it took. There are as many requests as places in the queue, so it has room.
func (u *Ring) submit(batch []uint32) (done int, errno syscall.Errno) {
	tail := *u.sqTail
	for n, i := range batch {
		u.sqArray[(tail+uint32(n))&*u.sqMask] = i
	}
	atomic.StoreUint32(u.sqTail, tail+uint32(len(batch)))
	for done < len(batch) {
		// It waits for nothing, so the scheduler need not know: where it did, it would look 20,000 times a second whether the call takes long, and do so for a while after it.
		n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), uintptr(len(batch)-done), 0, 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			atomic.StoreUint32(u.sqTail, tail+uint32(done)) // the kernel has not looked at the others
			return done, errno
		}
		done += int(n)
	}
	return done, 0
}

// reap tells who waits that his request was completed.
func (u *Ring) reap() {
	var count [8]byte
	for {
		if _, err := u.done.Read(count[:]); err != nil {
			return
		}
		head := *u.cqHead
		for ; head != atomic.LoadUint32(u.cqTail); head++ {
			c := u.cqes[head&*u.cqMask]
			u.pending[c.data] <- c.res
		}
		atomic.StoreUint32(u.cqHead, head)
	}
}
