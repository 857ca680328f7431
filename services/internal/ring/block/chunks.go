package block

import (
	"math/bits"
)

// A block is divided into chunks, so that who looks for a few packets need not read all of it. A packet is in the chunk in which its first byte lies.
const (
	ChunkSize = 16 << 10
	MaxChunks = Size / ChunkSize

	chunkShift = 14
)

// Chunks is a set of chunks of a block: chunk i is bit i.
type Chunks uint64

// All are all chunks.
const All = ^Chunks(0)

// chunkOf is the chunk of a packet that begins at a byte.
func chunkOf(at int) Chunks { return 1 << (at >> chunkShift) }

// Has reports whether chunk i is in the set.
func (c Chunks) Has(i int) bool { return c>>i&1 != 0 }

// Len returns how many chunks are in the set.
func (c Chunks) Len() int { return bits.OnesCount64(uint64(c)) }

// First returns the lowest chunk of a set that is not empty.
func (c Chunks) First() int { return bits.TrailingZeros64(uint64(c)) }

// end returns the first chunk behind all of a set.
func (c Chunks) end() int { return bits.Len64(uint64(c)) }

// Run returns the lowest chunk of a set that is not empty, and the first one after it that is not in the set.
func (c Chunks) Run() (from, to int) {
	from = c.First()
	return from, from + bits.TrailingZeros64(^uint64(c>>from))
}

// Between returns chunks from <= i < to.
func Between(from, to int) Chunks { return All << from &^ (All << to) }

// A chunk is where the first packet of a chunk, or, if it has none, of a later one, begins; and what is known by then.
type chunk struct {
	at     uint32 // byte in the block
	before uint32 // packets in the chunk before
	sum    uint32 // CRC-32C of everything before at
}

// Each chunk's place in the trailer has its sum (4 bytes), and of the other 32 bits 18 for at / 4, and before above them.
const atBits = 18

func (c chunk) put(trailer []byte, i int) {
	b := trailer[chunksAt+i*chunkEntry:]
	le.PutUint32(b, c.sum)
	le.PutUint32(b[4:], c.at/4|c.before<<atBits)
}

// getChunk reads the place of chunk i.
func getChunk(trailer []byte, i int) chunk {
	b := trailer[chunksAt+i*chunkEntry:]
	v := le.Uint32(b[4:])
	return chunk{at: v & (1<<atBits - 1) * 4, before: v >> atBits, sum: le.Uint32(b)}
}

// endChunks fills the places of the chunks from i on, in which no packet begins. before is how many begin in chunk i - 1.
func endChunks(block []byte, i int, before uint32, h *Header) {
	for ; i < MaxChunks; i++ {
		chunk{at: h.DataEnd, before: before, sum: h.DataSum}.put(block[trailerAt:], i)
		before = 0
	}
}

// A chunkTable says where the chunks of a block are.
type chunkTable struct {
	at   [MaxChunks + 1]uint32 // chunk i has the bytes at[i] to at[i+1]
	nth  [MaxChunks + 1]uint32 // and packets nth[i] to nth[i+1]
	sums [MaxChunks + 1]uint32 // sums[i] is the checksum of everything before at[i]
}

// read reads the table of a block whose trailer is there. It makes sense if ok.
func (t *chunkTable) read(block []byte, h *Header) (ok bool) {
	trailer, nth := block[trailerAt:Size], uint32(0)
	last := h.DataStart
	for i := range MaxChunks {
		c := getChunk(trailer, i)
		nth += c.before
		if c.at < last || c.at > h.DataEnd || i == 0 && c.before != 0 {
			return false
		}
		last = c.at
		t.at[i], t.nth[i], t.sums[i] = c.at, nth, c.sum
	}
	t.at[MaxChunks], t.nth[MaxChunks], t.sums[MaxChunks] = h.DataEnd, h.Packets, h.DataSum
	return t.at[0] == h.DataStart && nth <= h.Packets
}

// An index says in a few bytes in which chunks the packets with a key are: in these, and where that takes many bytes, in chunks between them.
const (
	mostCodes = 4

	codeMore = 1 << 6 // another code follows
	codeFrom = 1 << 7 // all chunks up to that of the next code
	codeAll  = 0xff   // all chunks, or it is not known in which
	codeOf   = 1<<6 - 1

	// mostNarrow is how many chunks are told from all: of more a block is read as a whole.
	mostNarrow = MaxChunks / 3
)

// AppendCodes appends the codes of a set.
func (c Chunks) AppendCodes(dst []byte) []byte {
	if c != 0 && c&(c-1) == 0 { // as most are
		return append(dst, byte(c.First()))
	}
	if c = c.rough(); c == All {
		return append(dst, codeAll)
	}
	for c != 0 {
		from, to := c.Run()
		c &^= Between(from, to)
		if to-from > 1 {
			dst = append(dst, codeFrom|byte(from))
		}
		last := byte(to - 1)
		if c != 0 {
			last |= codeMore
		}
		dst = append(dst, last)
	}
	return dst
}

// codes is how many bytes a set takes: one for a run of one chunk, two for a longer one.
func (c Chunks) codes() int {
	first, alone := c&^(c<<1), c&^(c<<1)&^(c>>1)
	return 2*first.Len() - alone.Len()
}

// rough returns a set that takes a few codes: if c takes more, all chunks from its first to its last one but for the widest gap.
func (c Chunks) rough() Chunks {
	if c == 0 || c.Len() > mostNarrow {
		return All
	}
	if c.codes() <= mostCodes {
		return c
	}
	hull := Between(c.First(), c.end())
	if c = hull &^ (hull &^ c).widest(); c.Len() > mostNarrow {
		return All
	}
	return c
}

// widest returns the longest run of a set, the lowest of those.
func (c Chunks) widest() Chunks {
	at, n := c, 1 // where runs of n or more begin
	for more := at & (at >> n); more != 0; more = at & (at >> n) {
		at, n = more, 2*n
	}
	for i := n / 2; i > 0; i /= 2 {
		if more := at & (at >> i); more != 0 {
			at, n = more, n+i
		}
	}
	return Between(at.First(), at.First()+n)
}

// Codes takes the codes of a set.
func (d *Decoder) Codes() (c Chunks) {
	from := -1
	for {
		b := d.byte()
		switch i := int(b & codeOf); {
		case b == codeAll && from < 0:
			return All
		case b&codeFrom != 0 && (b&codeMore != 0 || from >= 0), i < from, d.Bad:
			d.Bad = true
			return All
		case b&codeFrom != 0:
			from = i
		default:
			if from < 0 {
				from = i
			}
			c |= Between(from, i+1)
			from = -1
			if b&codeMore == 0 {
				return c
			}
		}
	}
}
