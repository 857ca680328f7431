package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"galvo/services/internal/filter"
	"galvo/services/internal/l7"
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
	for _, d := range r.devices {
		for _, s := range d.segments {
			i := SegmentInfo{Device: d.number, Name: segmentName(s.number), State: [...]string{"empty", "open", "closed"}[s.state], First: s.first, Last: s.last, SeqLo: s.seqLo, SeqHi: s.seqHi, Until: s.pinned}
			if err := r.load(s); err != nil {
				i.State = "unreadable"
			}
			for k := range s.slots {
				if b := &s.slots[k]; b.seq != 0 {
					i.Blocks++
					i.Packets += uint64(b.packets)
					i.Bytes += uint64(b.bytes)
				}
			}
			list = append(list, i)
		}
	}
	return list
}

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
		total += len(d.segments) * dataBlocks(r.d.segment)
	}
	for _, d := range r.devices {
		for _, s := range d.segments {
			r.mu.Lock()
			err := r.load(s)
			slots, closed := slices.Clone(s.slots), s.state == segmentClosed
			r.mu.Unlock()
			if err != nil {
				out.problem("device %d: %s: %v", d.number, segmentName(s.number), err)
				continue
			}
			out.Segments++
			var exact map[uint64]*blockSet
			var none blockSet
			if closed {
				if exact, none, err = s.index.all(r, s); err != nil {
					out.problem("device %d: %s: %v", d.number, segmentName(s.number), err)
					exact = nil
				}
			}
			for i := range slots {
				if err := ctx.Err(); err != nil {
					return out, err
				}
				if slots[i].seq != 0 {
					seen[slots[i].seq]++
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
		if n > int(r.d.copies)+1 {
			out.problem("block %d is there %d times", seq, n)
		}
	}
	return out, nil
}

// verify checks one block.
func (q *Results) verify(out *Verification, s *segment, i int, b *slot, exact map[uint64]*blockSet, none *blockSet) {
	r := q.ring
	where := fmt.Sprintf("device %d: block %d of %s", s.dev.number, i, segmentName(s.number))
	buf, err := r.buffers.get()
	if err != nil {
		out.problem("%v", err)
		return
	}
	defer r.buffers.put(buf)
	h, err := r.readBlock(s, i, buf)
	if err != nil {
		out.problem("%v", err)
		return
	}
	out.Blocks++
	if h.seq != b.seq || h.first != b.first || h.last != b.last || h.packets != b.packets || h.bytes != b.bytes || h.generation != b.generation || h.worker != b.worker {
		out.problem("%s: the index of the segment says that it is block %d with %d packets, and it is block %d with %d", where, b.seq, b.packets, h.seq, h.packets)
	}
	if err := checkPadding(buf, &h); err != nil {
		out.problem("%s: %v", where, err)
	}
	v := &view{buf: buf, h: h}
	w, err := v.walk(&q.tables)
	if err != nil {
		out.problem("%s: %v", where, err)
		return
	}
	keys, err := w.verify(&h)
	if err != nil {
		out.problem("%s: %v", where, err)
		return
	}
	out.Packets += uint64(h.packets)
	in := bloom(buf[trailerAt+bloomAt:][:bloomSize])
	for k := range keys {
		if !in.has(uint64(k)) {
			out.problem("%s: a packet has the key %#x, and the bloom filter has not", where, uint64(k))
			return
		}
	}
	if exact == nil || none.has(i) {
		return
	}
	for k := range keys {
		if set := exact[uint64(k)]; set == nil || !set.has(i) {
			out.problem("%s: a packet has the key %#x, and the index of the segment does not say so", where, uint64(k))
			return
		}
	}
}

// verify goes through the packets of a block and returns their keys.
func (w *walker) verify(h *header) (map[filter.Key]bool, error) {
	keys := make(map[filter.Key]bool)
	var list []filter.Key
	first, last, bytes := int64(never), int64(-never), uint32(0)
	for {
		more, err := w.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		first, last, bytes = min(first, w.p.Time), max(last, w.p.Time), bytes+uint32(len(w.p.Data))
		list = filter.AppendKeys(list[:0], w.p, l7.Verdict{})
		for _, ev := range w.entry.events {
			list = filter.AppendVerdictKeys(list, ev.verdict)
		}
		for _, e := range []*tableEntry{w.entry, &w.v.flows.entries[w.entry.outer]} {
			if e.flags&entryKey != 0 {
				list = filter.AppendFlowKeys(list, &e.record)
			}
		}
		for _, k := range list {
			keys[k] = true
		}
	}
	if h.packets > 0 && (first != h.first || last != h.last || bytes != h.bytes) {
		return nil, errors.New("its header does not say what is in it")
	}
	return keys, nil
}

// checkPadding checks what the checksum leaves out.
func checkPadding(b []byte, h *header) error {
	for at := int(h.flowsEnd); at < trailerAt; {
		size := int(le.Uint32(b[at+4:]))
		if trailerAt-at < localHead || le.Uint32(b[at:]) != typePadding || size < localHead || size > maxLocal || size > trailerAt-at || le.Uint32(b[at+size-4:]) != uint32(size) {
			return errors.New("its padding is damaged: other programs may stop there")
		}
		at += size
	}
	return nil
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
		if err := res.fetch(t, &v); err != nil {
			res.gap(t.first, t.last, err.Error())
			if v.owned {
				r.buffers.put(v.buf)
			}
			continue
		}
		if !v.owned {
			v.buf = slices.Clone(v.buf) // a query may be looking at it
		}
		if !v.owned || t.waits {
			pad(v.buf[v.h.flowsEnd:trailerAt])
			finishBlock(v.buf, &v.h, begun{})
		}
		_, err := w.Write(v.buf[:blockSize])
		if v.owned {
			r.buffers.put(v.buf)
		}
		if err != nil {
			return blocks, res.Scan().Gaps, fmt.Errorf("export: %w", err)
		}
		blocks++
	}
	return blocks, res.Scan().Gaps, nil
}
