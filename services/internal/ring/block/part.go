package block

import (
	"errors"
	"iter"
	"math/bits"
	"sync"

	"galvo/services/internal/ring/sum"
)

// page is the unit in which files are read.
const page = 4096

// Pages is a set of the pages of a block.
type Pages [Size / page / 64]uint64

// AllPages are those of a whole block.
var AllPages = Pages{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}

// add adds the pages with the bytes from <= at < to.
func (p *Pages) add(from, to int) {
	for i := from / page; i < (to+page-1)/page; i++ {
		p[i/64] |= 1 << (i % 64)
	}
}

func (p *Pages) has(i int) bool { return p[i/64]>>(i%64)&1 != 0 }

// Len returns how many pages are in the set.
func (p *Pages) Len() (n int) {
	for _, w := range p {
		n += bits.OnesCount64(w)
	}
	return n
}

// Join adds another set.
func (p *Pages) Join(o Pages) {
	for i := range p {
		p[i] |= o[i]
	}
}

// without returns the pages that are not in another set.
func (p Pages) without(o *Pages) Pages {
	for i := range p {
		p[i] &^= o[i]
	}
	return p
}

// near is how many pages between two pieces are read with them: they take less time than another request.
const near = 6

// Pieces yields the bytes of the pages, in as few pieces as is sensible: from <= at < to.
func (p *Pages) Pieces() iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		from, to := -1, 0
		for i := range len(p) * 64 {
			switch {
			case !p.has(i):
			case from >= 0 && i-to <= near:
				to = i + 1
			case from >= 0 && !yield(from*page, to*page):
				return
			default:
				from, to = i, i+1
			}
		}
		if from >= 0 {
			yield(from*page, to*page)
		}
	}
}

// spill is how far the last packet of a chunk mostly reaches into the next one, at most.
const spill = page

// Plan returns the pages that have, if packets are as long as most, some chunks of a block, its flow table from dataEnd to flowsEnd, and its trailer. Without a flow
// table these are the same.
func Plan(c Chunks, dataEnd, flowsEnd uint32) (p Pages) {
	end := min(int(dataEnd), trailerAt)
	for c &= Between(0, end>>chunkShift+1); c != 0; {
		from, to := c.Run()
		c &^= Between(from, to)
		p.add(from<<chunkShift, min(to<<chunkShift+spill, end))
	}
	if flowsEnd := min(int(flowsEnd), trailerAt); flowsEnd > end {
		p.add(end, flowsEnd)
	}
	p.add(Size-TrailerPages, Size)
	return p
}

// ErrHead is the error of a block that does not begin as it did when it was written: with Heads that know another one which begins so it can be read.
var ErrHead = errors.New("how it begins is damaged")

var errTable = errors.New("its table of chunks makes no sense")

// Part makes ready to read some chunks of the block of which v.Buf has some pages, its last two among them. It returns pages that are needed beside: with
// these it is to be called again.
func (v *Reader) Part(c Chunks, have *Pages, heads *Heads) (missing Pages, err error) {
	if v.Header, err = ParseHeader(v.Buf[:Size]); err != nil {
		return missing, err
	}
	h := &v.Header
	if !v.table.read(v.Buf, h) {
		return missing, errTable
	}
	var need Pages
	if v.Bare = v.NoFlows; !v.Bare {
		need.add(int(h.DataEnd), int(h.FlowsEnd))
	}
	if !heads.fill(v) {
		need.add(0, int(h.DataStart))
	}
	for rest := c; rest != 0; {
		from, to := rest.Run()
		rest &^= Between(from, to)
		if v.table.at[from] < v.table.at[to] {
			need.add(int(v.table.at[from]), int(v.table.at[to]))
		}
	}
	return need.without(have), nil
}

// Packets returns the ordinals of the packets of some chunks, from and to, of a block that Part has made ready.
func (v *Reader) Packets(from, to int) [2]int {
	return [2]int{int(v.table.nth[from]), int(v.table.nth[to])}
}

// Verify verifies what Part has made ready and returns those of the chunks that are whole: v.Chunks. The error says what all of them need is not.
func (v *Reader) Verify(c Chunks, heads *Heads) error {
	h, t := &v.Header, &v.table
	head := v.Buf[:h.DataStart]
	if sum.Of(head) != t.sums[0] {
		return ErrHead
	}
	if !v.Bare && sum.On(h.DataSum, v.Buf[h.DataEnd:h.FlowsEnd]) != h.Sum {
		return ErrSum
	}
	heads.Know(head)
	v.Chunks = 0
	for i := range MaxChunks {
		if c.Has(i) && sum.On(t.sums[i], v.Buf[t.at[i]:t.at[i+1]]) == t.sums[i+1] {
			v.Chunks |= 1 << i
		}
	}
	return nil
}

// Heads knows what blocks begin with: nearly all of a ring begin with the same bytes, which therefore need not be read.
type Heads struct {
	mu sync.Mutex
	of map[headID][]byte
}

type headID struct{ size, sum uint32 }

// mostHeads is how many are kept; of more the ring's interfaces are described all the time.
const mostHeads = 64

// Know keeps a head.
func (k *Heads) Know(head []byte) {
	id := headID{uint32(len(head)), sum.Of(head)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of[id] != nil {
		return
	}
	if k.of == nil || len(k.of) == mostHeads {
		k.of = make(map[headID][]byte)
	}
	k.of[id] = append([]byte(nil), head...)
}

// fill puts the head of a block, whose table is read, into its place, if it is known.
func (k *Heads) fill(v *Reader) bool {
	k.mu.Lock()
	head := k.of[headID{v.Header.DataStart, v.table.sums[0]}]
	k.mu.Unlock()
	return head != nil && copy(v.Buf, head) > 0
}

// Around returns the chunks of a block with so many bytes of packets, from first to last in time, around the one in which the first packet that is not earlier than a
// time is if they came evenly.
func Around(time, first, last int64, dataEnd uint32) Chunks {
	at := int(float64(dataEnd) * float64(time-first) / float64(max(last-first, 1)))
	at = max(0, min(at, int(dataEnd))) >> chunkShift
	return Between(max(at-1, 0), min(at+2, MaxChunks))
}

// Thin returns some of the chunks of a run, with no more than stride - 1 of the others in a row, or all of a short run.
func (c Chunks) Thin() Chunks {
	if c.Len() <= stride {
		return c
	}
	return c & (0x0101010101010101 << ((c.First() + stride/2) % stride))
}

// stride is how far what Thin returns is apart.
const stride = 8

// Before looks for the first packet that is not earlier than a time, in a block whose packets are in the order of time and of which Verify has v.Chunks. It is in one
// of some chunks, or behind the last packet of these. If v.Chunks say where, left is empty, and n packets of the block are earlier; else it is in those of left.
func (v *Reader) Before(time int64, among Chunks) (n int, left Chunks, err error) {
	t := &v.table
	lo, hi := among.First(), among.end()
	for c := v.Chunks & among; c != 0; c &= c - 1 {
		i := c.First()
		earlier, all := 0, int(t.nth[i+1]-t.nth[i])
		for b := v.Buf[t.at[i]:t.at[i+1]]; len(b) > 0; {
			size := 0
			if len(b) >= packetHead {
				size = int(le.Uint32(b[4:]))
			}
			if size < 12 || size > len(b) {
				return 0, 0, errData
			}
			if le.Uint32(b) == 6 && int64(uint64(le.Uint32(b[12:]))<<32|uint64(le.Uint32(b[16:]))) < time {
				earlier++
			}
			b = b[size:]
		}
		switch {
		case earlier > all:
			return 0, 0, errData
		case all == 0:
		case earlier == all:
			lo = max(lo, i+1)
		case earlier == 0:
			hi = min(hi, i)
		default:
			return int(t.nth[i]) + earlier, 0, nil
		}
	}
	if lo >= hi || Between(lo, hi)&^v.Chunks == 0 { // none of them, or only chunks in which no packet begins
		return int(t.nth[lo]), 0, nil
	}
	return 0, Between(lo, hi), nil
}
