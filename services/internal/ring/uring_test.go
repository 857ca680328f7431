package ring

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
)

// newUring makes a Uring and a directory on a file system that is written past the page cache.
func newUring(t *testing.T, report func(error)) (*Uring, Store) {
	t.Helper()
	u, err := NewUring(report)
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	t.Cleanup(func() { close(u.asked); unix.Close(u.fd); u.done.Close() })
	dir := filepath.Join(t.TempDir(), "ring")
	f, err := OpenDirectory(dir).Create("x", pageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.(*osFile).direct {
		need.Missing(t, "direct", "the file system of temporary files knows no O_DIRECT")
	}
	return u, u.Directory(dir)
}

// What is written through io_uring, by many at once, is in the file, from registered memory and from other memory.
func TestUringWrites(t *testing.T) {
	u, store := newUring(t, func(err error) { t.Error(err) })
	const n = 64
	memory, err := newPages((n + 1) * blockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer freePages(memory)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range memory {
		memory[i] = byte(random.Uint32())
	}
	unpin, err := store.(pinner).Pin(memory[:n*blockSize])
	if err != nil {
		need.Missing(t, "io_uring", err.Error()) // a user who may not lock memory
	}
	again, err := store.(pinner).Pin(memory[:n*blockSize]) // of a second device
	if err != nil {
		t.Fatal(err)
	}
	if f, err := store.Create("data", (n+1)*blockSize); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	f, err := store.Open("data", true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.(*uringFile); !ok {
		t.Fatalf("it is a %T", f)
	}
	if _, ok := u.bufferOf(memory[(n-1)*blockSize:][:2*blockSize]); ok {
		t.Error("memory that is registered in part counts as registered")
	}
	var all sync.WaitGroup
	for i := range n + 1 {
		all.Go(func() {
			b := memory[i*blockSize:][:blockSize]
			if wrote, err := f.WriteAt(b, int64(i)*blockSize); wrote != blockSize || err != nil {
				t.Errorf("block %d: %d, %v", i, wrote, err)
			}
		})
	}
	all.Wait()
	again()
	unpin()
	if _, ok := u.bufferOf(memory[:blockSize]); ok {
		t.Error("the memory is registered still")
	}
	got, err := os.ReadFile(f.(*uringFile).Name())
	if err != nil || !bytes.Equal(got, memory) {
		t.Errorf("the file differs: %v", err)
	}
}

// A disk's error is the one that pwrite gives, and no reason to say that io_uring does not work.
func TestUringError(t *testing.T) {
	_, store := newUring(t, func(err error) { t.Error(err) })
	memory, err := newPages(blockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer freePages(memory)
	unpin, err := store.(pinner).Pin(memory)
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	defer unpin()
	f, err := store.Open("x", true)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := f.WriteAt(memory, 0); err == nil {
		t.Error("a closed file was written")
	}
}

// Where the kernel refuses, everything is written with pwrite, and that is said once.
func TestUringRefused(t *testing.T) {
	var said []error
	u, store := newUring(t, func(err error) { said = append(said, err) })
	memory, err := newPages(blockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer freePages(memory)
	unpin, err := store.(pinner).Pin(memory)
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	defer unpin()
	f, err := store.Open("x", true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := u.fd
	u.fd = -1 // what seccomp does, nearly
	for range 3 {
		if n, err := f.WriteAt(memory[:pageSize], 0); n != pageSize || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	u.fd = fd
	if len(said) != 1 || !errors.Is(said[0], unix.EBADF) {
		t.Errorf("it said %v", said)
	}
}

// It can do nothing but write from registered memory.
func TestUringRestricted(t *testing.T) {
	u, _ := newUring(t, func(error) {})
	const opNop, opOpenat, registerFiles = 0, 18, 2
	for _, op := range []uint8{opNop, opOpenat} {
		if n := u.do(sqe{op: op}); n != -int32(unix.EACCES) {
			t.Errorf("request %d: %d", op, n)
		}
	}
	if err := u.register(registerFiles, nil, 0); !errors.Is(err, unix.EACCES) {
		t.Errorf("registering files: %v", err)
	}
}

// A ring whose device is written through io_uring has all packets, after it wrapped and was opened anew.
func TestUringRing(t *testing.T) {
	u, _ := newUring(t, func(err error) { t.Error(err) })
	c := Config{Name: "uring", Dirs: []string{filepath.Join(t.TempDir(), "ring")}, Bytes: 16 << 20, SegmentBytes: 4 << 20, QueueBytes: 16 << 20, Store: u.Directory}
	if err := Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Stage(0, table)
	frames := mix(77, 80_000)
	p := newPlayer(s)
	for rest := frames; len(rest) > 0; rest = rest[10_000:] {
		p.play(t, rest[:10_000])
		waitIdle(t, r)
	}
	s.Finish()
	closeRing(t, r)
	c.Store = nil
	if r, err = Open(c); err != nil {
		t.Fatal(err)
	}
	defer closeRing(t, r)
	if p := r.State().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	have, _ := collect(t, r, Query{From: math.MinInt64, To: math.MaxInt64})
	if len(have) == 0 || len(have) == len(frames) {
		t.Fatalf("%d of %d packets: it did not wrap", len(have), len(frames))
	}
	// At the old end blocks may be missing between others: they were written at once, and overwritten in the order in which they came to the disk.
	n := len(have) / 2
	sameFrames(t, frames[len(frames)-n:], have[len(have)-n:])
}
