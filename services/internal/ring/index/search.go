package index

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/aio"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// A Search looks for the keys of a range in the index of a segment.
type Search struct {
	Index   *Index
	Segment *Segment
	Keys    filter.KeyRange
	Found   Found
	Err     error // why it is not known

	turn    uint64 // of the index that says where to look
	blocks  int    // of the segment
	from, n int    // pages that may have the keys
	kept    []byte // what is in them, if that is in memory
}

// A Found is what an index says about keys.
type Found struct {
	With    Where  // blocks that have one of them
	Unknown *Set   // blocks that it says nothing about; nil if there are none
	Used    int    // how many blocks hold something
	Packets uint64 // that these have
	Bytes   uint64 // that were read for it
}

const (
	together = 64 // pages are read at once, whatever indexes they are of
	workers  = 8  // read them, or load indexes, at once
)

var (
	errStopped = errors.New("nobody wants to know any more")
	errOther   = errors.New("its index is another one by now")
)

// Find makes searches, until ctx ends: it fills in what they found, or why they did not. What is in memory says which pages are to be read.
func Find(ctx context.Context, list []Search) {
	var cold []*Search
	for i := range list {
		if s := &list[i]; !s.Index.ready() {
			cold = append(cold, s)
		}
	}
	each(ctx, cold, func(s *Search) { s.Found.Bytes, s.Err = s.Index.warmUp(s.Segment) })
	var groups [][]*Search
	room := 0
	for i := range list {
		s := &list[i]
		if s.Err == nil {
			s.Err = s.plan()
		}
		if s.Err != nil || s.n == 0 {
			continue
		}
		if room -= s.n; room < 0 || len(groups) == 0 {
			groups, room = append(groups, nil), together-s.n
		}
		last := &groups[len(groups)-1]
		*last = append(*last, s)
		s.Err = errStopped
	}
	each(ctx, groups, read)
}

// each calls f with each of a list, several at a time, until ctx ends.
func each[T any](ctx context.Context, list []T, f func(T)) {
	if len(list) == 1 {
		f(list[0])
		return
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(workers, len(list)) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				f(list[i])
			}
		})
	}
	wait.Wait()
}

// ready reports whether what every search asks for is in memory.
func (x *Index) ready() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.loaded
}

// warmUp reads what every search asks for, and returns how many bytes that were.
func (x *Index) warmUp(s *Segment) (bytes uint64, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.loaded {
		return 0, nil
	}
	if err := x.load(s); err != nil {
		return 0, err
	}
	return uint64(1+x.head.tablePages+x.head.dirPages) * files.PageSize, nil
}

// plan finds out what memory says, and which pages say the rest.
func (s *Search) plan() error {
	x, f := s.Index, &s.Found
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.loaded {
		return errOther
	}
	s.turn, s.blocks = x.turn, int(x.head.blocks)
	f.Used, f.Packets = x.used.Len(), x.count
	f.Unknown = x.unknown()
	if x.sketch != nil && !x.sketch.hasRange(s.Keys) {
		return nil
	}
	from, exact := slices.BinarySearch(x.dir, uint64(s.Keys.Lo))
	if !exact && from > 0 {
		from--
	}
	to, exact := slices.BinarySearch(x.dir, uint64(s.Keys.Hi))
	if exact {
		to++
	}
	s.from, s.n = 1+int(x.head.tablePages)+int(x.head.dirPages)+from, max(to-from, 0)
	if x.kept != nil {
		s.kept = x.kept[from*pageContent:][:s.n*pageContent]
	}
	return nil
}

// unknown returns the blocks that hold something of which the index does not have the keys; nil if there are none. x.mu is held.
func (x *Index) unknown() *Set {
	var none Set
	for i := range none {
		none[i] = x.used[i] &^ x.head.covered[i]
	}
	if none == (Set{}) {
		return nil
	}
	return &none
}

// read looks into the pages of searches, and reads those that are not in memory: all at once, or those of one search that are too many for that.
func read(list []*Search) {
	var cold []*Search
	for _, s := range list {
		if s.kept == nil {
			cold = append(cold, s)
			continue
		}
		s.Err = nil
		for b := s.kept; len(b) > 0 && s.Err == nil; b = b[pageContent:] {
			s.Err = s.take(0, b[:pageContent])
		}
	}
	if len(cold) == 0 {
		return
	}
	b, err := cold[0].Segment.Buffers.Get()
	if err != nil {
		for _, s := range cold {
			s.Err = err
		}
		return
	}
	defer cold[0].Segment.Buffers.Put(b)
	if len(cold) == 1 {
		cold[0].Err = cold[0].Segment.pages(b, cold[0].from, cold[0].n, cold[0].take)
		cold[0].end()
		return
	}
	readAll(cold, b)
}

// readAll reads the pages of searches into a buffer that has room for them.
func readAll(list []*Search, b []byte) {
	var pieces []aio.Piece
	var of []*Search // that a piece is for
	at := 0
	for _, s := range list {
		pieces, s.Err = s.Segment.pieces(pieces, b[at*files.PageSize:], s.from, s.n)
		for len(of) < len(pieces) {
			of = append(of, s)
		}
		at += s.n
	}
	list[0].Segment.Reader.Read(pieces, func(i int, err error) {
		if err != nil {
			of[i].Err = err
		}
	})
	for _, s := range list {
		if s.Err == nil {
			s.Err = s.Segment.contents(b, s.from, s.n, s.take)
		}
		s.end()
		b = b[s.n*files.PageSize:]
	}
}

// take looks for the keys in a page.
func (s *Search) take(_ int, p []byte) error {
	lo, hi, f := uint64(s.Keys.Lo), uint64(s.Keys.Hi), &s.Found
	return readKeys(p, lo, hi, (s.blocks+7)/8, func(_ uint64, i int, chunks block.Chunks) {
		if i < s.blocks {
			if f.With == nil {
				f.With = make(Where, s.blocks)
			}
			f.With[i] |= chunks
		}
	})
}

// end says that all pages were read.
func (s *Search) end() {
	s.Found.Bytes += uint64(s.n) * files.PageSize
	s.Index.mu.Lock()
	defer s.Index.mu.Unlock()
	if s.Err == nil && s.Index.turn != s.turn {
		s.Err = errOther // that was being written meanwhile
	}
}
