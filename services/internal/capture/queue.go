package capture

import "sync/atomic"

// chunkSize is the size of the pieces that a capture's queue is made of: room for the largest packet of a savefile with its block.
const chunkSize = maxSnap + 128

// maxSnap is the largest number of bytes that a capture keeps of a packet: the largest one that libpcap reads.
const maxSnap = 262144

// A chunk is a run of encoded packets of one lane. Its writer is the lane's worker, its reader the goroutine that drains the capture:
// bytes up to filled belong to the reader, the others to the writer.
type chunk struct {
	buf    []byte
	filled atomic.Uint64         // a fill; final once next is set
	next   atomic.Pointer[chunk] // of the same lane
	free   atomic.Uint32         // while in the pool: index of the next free chunk + 1
	number uint32                // index in the pool
}

// A fill says how much of a chunk is filled: bytes in the low 24 bits, then 16 bits of packets, then 24 bits of captured bytes, so that
// whoever writes a whole chunk need not read it to count.
type fill uint64

func newFill(bytes, packets, captured int) fill {
	return fill(bytes) | fill(packets)<<24 | fill(captured)<<40
}

func (f fill) bytes() int    { return int(f & (1<<24 - 1)) }
func (f fill) packets() int  { return int(f >> 24 & (1<<16 - 1)) }
func (f fill) captured() int { return int(f >> 40) }

// A pool is the room of one capture: a fixed number of chunks, shared by its lanes. The one put back last is taken first, so that a
// capture whose sink keeps up touches little memory. It has no lock: workers take, the draining goroutine puts back.
type pool struct {
	chunks []chunk
	head   atomic.Uint64 // index of the first free chunk + 1, and in the upper half a count that makes every change a new value
	left   atomic.Int32  // free chunks
}

// newPool makes a pool. The memory of a lazy one is taken piece by piece, as it is needed: by a source that waits anyway. To clear all of it takes longer than a rare
// query of a ring.
func newPool(bytes uint64, lanes int, lazy bool) *pool {
	n := max(int(bytes/chunkSize), 2*lanes)
	p := &pool{chunks: make([]chunk, n)}
	var room []byte
	if !lazy {
		room = make([]byte, n*chunkSize)
	}
	for i := range p.chunks {
		c := &p.chunks[i]
		c.number = uint32(i)
		if !lazy {
			c.buf = room[i*chunkSize : (i+1)*chunkSize : (i+1)*chunkSize]
		}
	}
	for i := n - 1; i >= 0; i-- {
		p.put(&p.chunks[i])
	}
	return p
}

// touch makes the kernel give the memory of the pool now, which costs 2 us for each page: more than the worker has time for, and 170 ns per
// frame of a burst that fills the queue for the first time.
func (p *pool) touch() {
	for i := range p.chunks {
		b := p.chunks[i].buf
		for at := 0; at < len(b); at += pageSize {
			b[at] = 0
		}
	}
}

// pageSize is the smallest that the kernel has.
const pageSize = 4096

// get takes a free chunk, or returns nil.
func (p *pool) get() *chunk {
	for {
		head := p.head.Load()
		i := uint32(head)
		if i == 0 {
			return nil
		}
		c := &p.chunks[i-1]
		if p.head.CompareAndSwap(head, (head>>32+1)<<32|uint64(c.free.Load())) {
			p.left.Add(-1)
			c.filled.Store(0)
			c.next.Store(nil)
			if c.buf == nil {
				c.buf = make([]byte, chunkSize)
			}
			return c
		}
	}
}

// yieldChunks is the number of chunks, a MB, by which a queue may grow before its worker lets others run.
const yieldChunks = 4

// used returns the number of chunks that are not free.
func (p *pool) used() int { return len(p.chunks) - int(p.left.Load()) }

// put gives a chunk back.
func (p *pool) put(c *chunk) {
	for {
		head := p.head.Load()
		c.free.Store(uint32(head))
		if p.head.CompareAndSwap(head, (head>>32+1)<<32|uint64(c.number+1)) {
			p.left.Add(1)
			return
		}
	}
}

// A queue is the lane's part of a capture's queue: a list of chunks from the pool. Appending belongs to the worker, reading to the
// goroutine that drains.
type queue struct {
	pool  *pool
	first atomic.Pointer[chunk] // set once, by the worker

	// of the worker
	last *chunk
	n    int  // bytes written to last
	done fill // of last; published at the end of a batch

	// of the reader
	at    *chunk
	taken fill
}

// A run is packets in a row, encoded, in time order as far as their worker received them so.
type run struct {
	b        []byte
	packets  int
	captured int // bytes of them that were captured
}

// room returns the unwritten rest of a chunk with room for size bytes, or nil.
func (q *queue) room(size int) []byte {
	if q.last != nil && len(q.last.buf)-q.n >= size {
		return q.last.buf[q.n:]
	}
	c := q.pool.get()
	if c == nil {
		return nil
	}
	if q.last == nil {
		q.first.Store(c)
	} else {
		q.publish()
		q.last.next.Store(c)
	}
	q.last, q.n, q.done = c, 0, 0
	return c.buf
}

// wrote says that a packet of size bytes, n of them captured, was written to room.
func (q *queue) wrote(size, n int) {
	q.n += size
	q.done += newFill(size, 1, n)
}

// publish gives the reader what was written.
func (q *queue) publish() {
	if q.last != nil && fill(q.last.filled.Load()) != q.done {
		q.last.filled.Store(uint64(q.done))
	}
}

// peek returns what was published and not yet taken, as far as it lies in one chunk.
func (q *queue) peek() run {
	if q.at == nil {
		if q.at = q.first.Load(); q.at == nil {
			return run{}
		}
	}
	for {
		next := q.at.next.Load() // before filled, which is final if there is a next one
		filled := fill(q.at.filled.Load())
		if filled != q.taken {
			rest := filled - q.taken
			return run{q.at.buf[q.taken.bytes():filled.bytes()], rest.packets(), rest.captured()}
		}
		if next == nil {
			return run{}
		}
		q.pool.put(q.at)
		q.at, q.taken = next, 0
	}
}

// take says that r, from the start of what peek returned, was consumed.
func (q *queue) take(r run) { q.taken += newFill(len(r.b), r.packets, r.captured) }
