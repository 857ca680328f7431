package aio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"galvo/services/internal/ring/files"
)

const size = 4 << 20

// pattern makes a file in which each page says where it is.
func pattern(t *testing.T) (files.File, []byte) {
	t.Helper()
	f, err := files.Directory(t.TempDir()).Create("x", size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	want := pages(t, size)
	for i := range want {
		want[i] = byte(i/files.PageSize) ^ byte(i/files.PageSize>>8) ^ byte(i)
	}
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	return f, want
}

func pages(t *testing.T, n int) []byte {
	t.Helper()
	b, err := files.Pages(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Free(b) })
	return b
}

// TestRead has several goroutines read pieces of a file, more than go into a context, with contexts and without; each is read once, and those behind the end of the file
// have an error.
func TestRead(t *testing.T) {
	f, want := pattern(t)
	for name, r := range map[string]*Reader{"contexts": {}, "refused": {refused: true}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			r.Ready(3)
			var wait sync.WaitGroup
			for g := range 4 {
				random := rand.New(rand.NewPCG(uint64(g), 1))
				b := pages(t, 150*8*files.PageSize)
				wait.Go(func() {
					for _, n := range []int{0, 1, depth, 150} {
						var pieces []Piece
						for i := range n {
							pieces = append(pieces, Piece{f, b[i*8*files.PageSize:][:(1+random.IntN(8))*files.PageSize], int64(random.IntN(size/files.PageSize-8)) * files.PageSize})
						}
						if n > 1 {
							pieces[n/2].At = size
						}
						done := make([]int, n)
						r.Read(pieces, func(i int, err error) {
							done[i]++
							p := &pieces[i]
							switch {
							case p.At == size && !errors.Is(err, io.EOF), p.At != size && err != nil:
								t.Errorf("%d bytes from %d on: %v", len(p.B), p.At, err)
							case err == nil && !bytes.Equal(p.B, want[p.At:][:len(p.B)]):
								t.Errorf("%d bytes from %d on are others", len(p.B), p.At)
							}
						})
						if slices.ContainsFunc(done, func(n int) bool { return n != 1 }) {
							t.Errorf("of %d pieces some were not told of once: %v", n, done)
						}
					}
				})
			}
			wait.Wait()
			if r != nil {
				r.Close()
			}
		})
	}
}

// A file that was closed has the error of that.
func TestClosed(t *testing.T) {
	f, _ := pattern(t)
	f.Close()
	var r Reader
	defer r.Close()
	r.Read([]Piece{{f, pages(t, files.PageSize), 0}}, func(_ int, err error) {
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

// A file that is closed while it is read has its own bytes or the error of that, and never those of the file that has its descriptor next.
func TestClosing(t *testing.T) {
	dir := files.Directory(t.TempDir())
	var r Reader
	defer r.Close()
	page := pages(t, files.PageSize)
	buffers := pages(t, 4*files.PageSize)
	for round := range 50 {
		f, err := dir.Create(fmt.Sprint("x", round), files.PageSize)
		if err != nil {
			t.Fatal(err)
		}
		page[0] = byte(round + 1)
		if _, err := f.WriteAt(page, 0); err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for g := range 4 {
			b := buffers[g*files.PageSize:][:files.PageSize]
			wait.Go(func() {
				for closed := false; !closed; {
					r.Read([]Piece{{f, b, 0}}, func(_ int, err error) {
						if closed = errors.Is(err, os.ErrClosed); !closed && (err != nil || b[0] != byte(round+1)) {
							t.Errorf("%d, want %d, %v", b[0], round+1, err)
							closed = true
						}
					})
				}
			})
		}
		if err := r.Closing(f.Close); err != nil {
			t.Error(err)
		}
		next, err := dir.Create(fmt.Sprint("y", round), files.PageSize)
		if err != nil {
			t.Fatal(err)
		}
		wait.Wait()
		next.Close()
	}
}
