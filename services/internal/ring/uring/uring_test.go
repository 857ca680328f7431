package uring

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"galvo/ci/need"
	"galvo/services/internal/ring/files"
)

// piece is how much is written at once.
const piece = 1 << 20

// newUring makes a Ring and a directory on a file system that is written past the page cache.
func newUring(t *testing.T, report func(error)) (*Ring, files.Store) {
	t.Helper()
	u, err := New(report)
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	t.Cleanup(func() { close(u.asked); unix.Close(u.fd); u.done.Close() })
	dir := filepath.Join(t.TempDir(), "ring")
	f, err := files.Open(dir).Create("x", files.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.(*files.OSFile).Direct {
		need.Missing(t, "direct", "the file system of temporary files knows no O_DIRECT")
	}
	return u, u.Directory(dir)
}

// What is written through io_uring, by many at once, is in the file, from registered memory and from other memory.
func TestWrites(t *testing.T) {
	u, store := newUring(t, func(err error) { t.Error(err) })
	const n = 64
	memory, err := files.Pages((n + 1) * piece)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(memory)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range memory {
		memory[i] = byte(random.Uint32())
	}
	unpin, err := store.(files.Pinner).Pin(memory[:n*piece])
	if err != nil {
		need.Missing(t, "io_uring", err.Error()) // a user who may not lock memory
	}
	again, err := store.(files.Pinner).Pin(memory[:n*piece]) // of a second device
	if err != nil {
		t.Fatal(err)
	}
	if f, err := store.Create("data", (n+1)*piece); err != nil || f.Close() != nil {
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
	if _, ok := u.bufferOf(memory[(n-1)*piece:][:2*piece]); ok {
		t.Error("memory that is registered in part counts as registered")
	}
	var all sync.WaitGroup
	for i := range n + 1 {
		all.Go(func() {
			b := memory[i*piece:][:piece]
			if wrote, err := f.WriteAt(b, int64(i)*piece); wrote != piece || err != nil {
				t.Errorf("block %d: %d, %v", i, wrote, err)
			}
		})
	}
	all.Wait()
	again()
	unpin()
	if _, ok := u.bufferOf(memory[:piece]); ok {
		t.Error("the memory is registered still")
	}
	got, err := os.ReadFile(f.(*uringFile).Name())
	if err != nil || !bytes.Equal(got, memory) {
		t.Errorf("the file differs: %v", err)
	}
}

// Pieces that are written in one go lie behind one another, also where they are not registered, or the kernel refuses, and are more than there are requests.
func TestPieces(t *testing.T) {
	const n = 2*uringDepth + 3
	memory, err := files.Pages(n * files.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(memory)
	var pieces [][]byte
	var want []byte
	for i := range n {
		b := memory[(n-1-i)*files.PageSize:][:files.PageSize] // against their order in memory
		for j := range b {
			b[j] = byte(i + j/256)
		}
		pieces, want = append(pieces, b), append(want, b...)
	}
	for _, c := range []struct {
		name   string
		begin  func(u *Ring, unpin func()) // before anything was asked of u
		report func(error)
	}{
		{"registered", func(*Ring, func()) {}, func(err error) { t.Error(err) }},
		{"not registered", func(_ *Ring, unpin func()) { unpin() }, func(err error) { t.Error(err) }},
		{"refused", func(u *Ring, _ func()) { refuse(t, u) }, func(error) {}},
	} {
		u, store := newUring(t, c.report)
		unpin, err := store.(files.Pinner).Pin(memory)
		if err != nil {
			need.Missing(t, "io_uring", err.Error())
		}
		c.begin(u, unpin)
		f, err := store.Create(c.name, n*files.PageSize)
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		if f, err = store.Open(c.name, true); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for half := range 2 {
			all.Go(func() {
				from := half * n / 2
				to := (half + 1) * n / 2
				if err := files.WriteAll(f, pieces[from:to], int64(from)*files.PageSize); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		all.Wait()
		got, err := os.ReadFile(f.(*uringFile).Name())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the file differs: %v", c.name, err)
		}
		f.Close()
	}
}

// refuse has the kernel refuse what is asked of u until the end of the test, as seccomp does, nearly. Nothing may have been asked yet: of what the kernel completed
// the goroutine that has asked for it may still look at the descriptor.
func refuse(t *testing.T, u *Ring) {
	fd := u.fd
	t.Cleanup(func() { u.fd = fd }) // for who closes it
	u.fd = -1
}

// A disk's error is the one that pwrite gives, and no reason to say that io_uring does not work.
func TestError(t *testing.T) {
	_, store := newUring(t, func(err error) { t.Error(err) })
	memory, err := files.Pages(piece)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(memory)
	unpin, err := store.(files.Pinner).Pin(memory)
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

// Where the kernel refuses, everything is written with pwrite, and synced with fdatasync, and that is said once.
func TestRefused(t *testing.T) {
	var said []error
	u, store := newUring(t, func(err error) { said = append(said, err) })
	memory, err := files.Pages(piece)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Free(memory)
	unpin, err := store.(files.Pinner).Pin(memory)
	if err != nil {
		need.Missing(t, "io_uring", err.Error())
	}
	defer unpin()
	f, err := store.Open("x", true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	refuse(t, u)
	for range 3 {
		if n, err := f.WriteAt(memory[:files.PageSize], 0); n != files.PageSize || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
	if len(said) != 1 || !errors.Is(said[0], unix.EBADF) {
		t.Errorf("it said %v", said)
	}
}

// It can do nothing but write from registered memory.
func TestRestricted(t *testing.T) {
	u, _ := newUring(t, func(error) {})
	const opNop, opOpenat, registerFiles = 0, 18, 2
	for _, op := range []uint8{opNop, opOpenat} {
		if n := u.do([]sqe{{op: op}})[0]; n != -int32(unix.EACCES) {
			t.Errorf("request %d: %d", op, n)
		}
	}
	if err := u.register(registerFiles, nil, 0); !errors.Is(err, unix.EACCES) {
		t.Errorf("registering files: %v", err)
	}
}
