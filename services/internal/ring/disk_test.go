package ring

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"galvo/services/internal/ring/files"
)

// A testDisk is a Store in memory whose power can be cut: what was not synced may be there, or not, or in part.
type testDisk struct {
	mu      sync.Mutex
	files   map[string]*diskFile
	fail    func(name string, write bool, off int64) error // may refuse a read or a write
	off     bool                                           // the power is cut: nothing works any more
	writes  int
	written int64
	cutAt   int // the power is cut at this write; 0 = never
	rng     *rand.Rand
}

type diskFile struct {
	disk    *testDisk
	name    string
	b       []byte
	pending []pendingWrite // since the last sync
}

type pendingWrite struct {
	at  int64
	old []byte
}

func newDisk(seed uint64) *testDisk {
	return &testDisk{files: make(map[string]*diskFile), rng: rand.New(rand.NewPCG(seed, 1))}
}

var errPower = errors.New("the power is off")

func (d *testDisk) Create(name string, size int64) (files.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] != nil {
		return nil, fmt.Errorf("%s: %w", name, os.ErrExist)
	}
	if err := d.refuse(name, true, 0); err != nil {
		return nil, err
	}
	f := &diskFile{disk: d, name: name, b: make([]byte, size)}
	d.files[name] = f
	return f, nil
}

func (d *testDisk) refuse(name string, write bool, off int64) error {
	if d.off {
		return errPower
	}
	if d.fail != nil {
		return d.fail(name, write, off)
	}
	return nil
}

func (d *testDisk) Open(name string, write bool) (files.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	return f, d.refuse(name, write, -1)
}

func (d *testDisk) Segments() (numbers []int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range 1000 {
		if d.files[files.SegmentName(n)] != nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, d.refuse("", false, 0)
}

func (d *testDisk) Remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.files)
	return nil
}

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.refuse(f.name, false, off); err != nil {
		return 0, err
	}
	if off%files.PageSize != 0 || len(b)%files.PageSize != 0 {
		return 0, errors.New("not whole pages")
	}
	n := copy(b, f.b[min(off, int64(len(f.b))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.refuse(f.name, true, off); err != nil {
		return 0, err
	}
	if off%files.PageSize != 0 || len(b)%files.PageSize != 0 {
		return 0, errors.New("not whole pages")
	}
	if grow := off + int64(len(b)) - int64(len(f.b)); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	f.pending = append(f.pending, pendingWrite{off, append([]byte(nil), f.b[off:off+int64(len(b))]...)})
	copy(f.b[off:], b)
	f.disk.writes++
	f.disk.written += int64(len(b))
	if f.disk.writes == f.disk.cutAt {
		f.disk.off = true
		return 0, errPower
	}
	return len(b), nil
}

func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.off {
		return errPower
	}
	f.pending = nil
	return nil
}

func (f *diskFile) Size() (int64, error) { return int64(len(f.b)), nil }
func (f *diskFile) Close() error         { return nil }

// powerOn cuts the power if it is on, loses what was not synced, page by page as luck has it, and turns it on again.
func (d *testDisk) powerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		for i := len(f.pending) - 1; i >= 0; i-- {
			p := f.pending[i]
			fate := d.rng.IntN(3) // all of it is there, nothing, or some pages
			for at := 0; at < len(p.old); at += files.PageSize {
				if fate == 1 || fate == 2 && d.rng.IntN(2) == 0 {
					copy(f.b[p.at+int64(at):], p.old[at:at+files.PageSize])
				}
			}
		}
		f.pending = nil
	}
	d.off, d.cutAt = false, 0
}

// bytes returns how many bytes were written.
func (d *testDisk) bytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written
}

// A watched is a Store whose files call read before so many bytes are read at a place of theirs.
type watched struct {
	files.Store
	read func(n int, at int64)
}

func (w *watched) Open(name string, write bool) (files.File, error) {
	f, err := w.Store.Open(name, write)
	if err != nil {
		return nil, err
	}
	return watchedFile{f, w}, nil
}

type watchedFile struct {
	files.File
	by *watched // files are compared, and a function cannot be
}

func (f watchedFile) ReadAt(b []byte, at int64) (int, error) {
	f.by.read(len(b), at)
	return f.File.ReadAt(b, at)
}
