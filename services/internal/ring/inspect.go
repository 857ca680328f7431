package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
	"galvo/services/internal/ring/index"
	"galvo/services/internal/ring/state"
)

// A SegmentInfo is what a segment holds, for people.
type SegmentInfo struct {
	Device  int
	Name    string // of its file
	State   string // empty, open, closed
	Blocks  int
	Packets uint64
	Bytes   uint64 // captured
	First   int64  // ns since the epoch; First > Last if there is no packet
	Last    int64
	SeqLo   uint64
	SeqHi   uint64
	Until   int64 // protected from overwriting until then; in the past or 0 if it is not
}

// Inspect lists the segments, device by device.
func (r *Ring) Inspect() []SegmentInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []SegmentInfo
	for n, d := range r.devices {
		for _, s := range d.segments {
			if s.absent() {
				continue
			}
			i := SegmentInfo{Device: n, Name: files.SegmentName(s.number), State: [...]string{"empty", "open", "closed"}[s.State], First: s.First, Last: s.Last, SeqLo: s.SeqLo, SeqHi: s.SeqHi, Until: s.Pinned}
			if err := r.load(s); err != nil {
				i.State = "unreadable"
			}
			for k := range s.slots {
				if b := &s.slots[k]; b.Seq != 0 {
					i.Blocks++
					i.Packets += uint64(b.Packets)
					i.Bytes += uint64(b.Bytes)
				}
			}
			list = append(list, i)
		}
	}
	return list
}

// Unfinished returns the blocks that are not in their place yet, and their packets: what a power cut would have left of them, if the ring is only read.
func (r *Ring) Unfinished() (blocks int, packets uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, img := range r.waiting {
		packets += uint64(img.Header.Packets)
	}
	return len(r.waiting), packets
}

// absent reports whether nobody knows what is, or was, in a segment.
func (s *segment) absent() bool { return s.dev.rebuilt && s.State == state.Empty && s.broken != nil }

// A Verification is what Verify found.
type Verification struct {
	Segments, Blocks, Packets uint64
	Problems                  []string // the first thousand
	Found                     uint64   // problems in all
}

func (v *Verification) problem(format string, args ...any) {
	v.Found++
	if len(v.Problems) < 1000 {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// Verify reads the whole ring and checks it: checksums, that what the indexes say of a block is what is in it, that every key of every packet is in bloom
// filter and exact index, and that no block is there more often than it should be. progress is told the blocks looked at; it may be nil.
func (r *Ring) Verify(ctx context.Context, progress func(done, total int)) (Verification, error) {
	var out Verification
	seen := make(map[uint64]int)
	res, err := r.newResults(ctx, Query{From: -never, To: never})
	if err != nil {
		return out, err
	}
	defer res.release()
	done, total := 0, 0
	for _, d := range r.devices {
		total += len(d.segments) * index.DataBlocks(r.d.SegmentBytes)
	}
	for _, d := range r.devices {
		for _, s := range d.segments {
			if s.absent() { // that the ring says itself
				continue
			}
			r.mu.Lock()
			err := r.load(s)
			slots, torn, closed := slices.Clone(s.slots), slices.Clone(s.torn), s.State == state.Closed
			r.mu.Unlock()
			if err == nil {
				err = s.broken
			}
			if err != nil {
				out.problem("%s: %s: %v", d.name, files.SegmentName(s.number), err)
				continue
			}
			for _, i := range torn {
				out.problem("%v", place{s, i}.fault(errors.New("it is damaged, or another one than was written")))
			}
			out.Segments++
			var exact map[uint64][]index.Spot
			var none index.Set
			if closed {
				if exact, none, err = s.index.All(r.indexed(s)); err != nil {
					out.problem("%s: %s: %v", d.name, files.SegmentName(s.number), err)
					exact = nil
				}
			}
			for i := range slots {
				if err := ctx.Err(); err != nil {
					return out, err
				}
				if slots[i].Seq != 0 {
					seen[slots[i].Seq]++
					res.verify(&out, s, i, &slots[i], exact, &none)
				}
				done++
				if progress != nil {
					progress(done, total)
				}
			}
		}
	}
	for seq, n := range seen {
		if n > int(r.d.Copies)+1 {
			out.problem("block %d is there %d times", seq, n)
		}
	}
	return out, nil
}

// verify checks one block.
func (q *Results) verify(out *Verification, s *segment, i int, b *index.Slot, exact map[uint64][]index.Spot, none *index.Set) {
	r := q.ring
	where := fmt.Sprintf("%s: block %d of %s", s.dev.name, i, files.SegmentName(s.number))
	buf, err := r.buffers.Get()
	if err != nil {
		out.problem("%v", err)
		return
	}
	defer r.buffers.Put(buf)
	h, err := r.readBlock(s, i, buf)
	if err != nil {
		out.problem("%v", err)
		return
	}
	out.Blocks++
	if h.Seq != b.Seq || h.First != b.First || h.Last != b.Last || h.Packets != b.Packets || h.Bytes != b.Bytes || h.Generation != b.Generation || h.Worker != b.Worker {
		out.problem("%s: the index of the segment says that it is block %d with %d packets, and it is block %d with %d", where, b.Seq, b.Packets, h.Seq, h.Packets)
	}
	if err := block.CheckPadding(buf, &h); err != nil {
		out.problem("%s: %v", where, err)
	}
	v := &block.Reader{Buf: buf, Header: h, Chunks: block.All}
	w, err := v.Walk(&q.Tables)
	if err != nil {
		out.problem("%s: %v", where, err)
		return
	}
	keys, err := w.Keys(&h)
	if err != nil {
		out.problem("%s: %v", where, err)
		return
	}
	out.Packets += uint64(h.Packets)
	in := block.BloomOf(buf)
	for k := range keys {
		if !in.Has(uint64(k)) {
			out.problem("%s: a packet has the key %#x, and the bloom filter has not", where, uint64(k))
			return
		}
	}
	if exact == nil || none.Has(i) {
		return
	}
	for k, chunks := range keys {
		spots := exact[uint64(k)]
		at, found := slices.BinarySearchFunc(spots, i, func(s index.Spot, i int) int { return int(s.Block) - i })
		if !found || chunks&^spots[at].Chunks != 0 {
			out.problem("%s: packets have the key %#x in the chunks %#x, and the index of the segment does not say so", where, uint64(k), uint64(chunks))
			return
		}
	}
}

// Export copies the blocks of an interval to w as they are, in the order of their first packet: a savefile of many sections, in which the packets of several
// workers are in order within a block only. It returns how many blocks and bytes that were, and which parts of the interval are missing.
func (r *Ring) Export(ctx context.Context, from, to int64, w io.Writer) (blocks int, gaps []Gap, err error) {
	res, err := r.newResults(ctx, Query{From: from, To: to})
	if err != nil {
		return 0, nil, fmt.Errorf("export: %w", err)
	}
	defer res.release()
	f := newFollower(res)
	tasks, _, _ := f.round()
	for _, t := range tasks {
		if err := ctx.Err(); err != nil {
			return blocks, res.Scan().Gaps, err
		}
		v := view{}
		t.chunks = block.All
		err := res.fetch(t, &v)
		if err == nil && v.Chunks != block.All {
			err = errors.New("damaged")
		}
		if err != nil {
			res.gap(t.First, t.Last, err.Error())
			if v.owned {
				r.buffers.Put(v.Buf)
			}
			continue
		}
		if !v.owned {
			v.Buf = slices.Clone(v.Buf) // a query may be looking at it
		}
		block.Seal(v.Buf, &v.Header) // of a short one the padding was not read, of one that waits there is none
		_, err = w.Write(v.Buf[:block.Size])
		if v.owned {
			r.buffers.Put(v.Buf)
		}
		if err != nil {
			return blocks, res.Scan().Gaps, fmt.Errorf("export: %w", err)
		}
		blocks++
	}
	return blocks, res.Scan().Gaps, nil
}

// never is a time that no packet has.
const never = math.MaxInt64
