package flow

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"
	"time"

	"galvo/services/internal/hugepage"
	"galvo/services/internal/packet"
)

// Config sizes a table. Zero values stand for the defaults.
type Config struct {
	Flows     int // records; at least 1024, default 65,536
	Fragments int // datagrams whose first fragment is remembered; default 4096

	// Sparse takes memory as flows come: for work that need not be ready for the worst, such as a savefile. Else New takes all of it and
	// touches it, so that no packet waits for the system.
	Sparse bool

	IdleTCP   time.Duration // a TCP flow without packets for so long has ended; default 600 s
	IdleOther time.Duration // other flows; default 120 s
	IdleDone  time.Duration // TCP flows after FIN or RST; and how long an open flow must be idle before a new SYN opens it anew; default 60 s
	Datagram  time.Duration // how long a first fragment is remembered; default 30 s, as Linux reassembles

	// Only says of a packet that is neither tunnelled nor a fragment whether its flow matters; if not it has none, and is not counted. It must say the same of all
	// such packets of a flow, in both directions. The flows that matter are what they were if all did, because tunnels and fragments, which may belong to them
	// whatever they look like, are always followed; only where the table is full, or times step back, others could have ended one earlier. Nil is all.
	Only func(*packet.Packet) bool

	// OnEnd is called once for each record that leaves the table, before its memory is used again: it expired, was evicted, or its
	// 5-tuple was opened anew. It may read and write the record, and must not call the table. May be nil.
	OnEnd func(*Record)
}

func (c Config) withDefaults() Config {
	c.Flows = max(1024, cmp.Or(c.Flows, 1<<16))
	c.Fragments = cmp.Or(c.Fragments, 4096)
	c.IdleTCP = cmp.Or(c.IdleTCP, 600*time.Second)
	c.IdleOther = cmp.Or(c.IdleOther, 120*time.Second)
	c.IdleDone = cmp.Or(c.IdleDone, 60*time.Second)
	c.Datagram = cmp.Or(c.Datagram, 30*time.Second)
	if c.OnEnd == nil {
		c.OnEnd = func(*Record) {}
	}
	return c
}

// Counters count since New.
type Counters struct {
	Active    int    // records in the table
	Created   uint64 // records made
	Expired   uint64 // ended for want of packets
	Reopened  uint64 // ended by a new SYN
	Evicted   uint64 // ended to make room
	Untracked uint64 // packets that found no room
}

// A Table finds the flow of each packet of one worker. Its memory is bounded by New.
type Table struct {
	cfg     Config
	patient int64 // ns, the shortest of the times after which a flow is idle
	join    Joiner
	index   []bucket
	mask    int // of the buckets in use: their number, a power of 2, minus 1
	records []Record
	free    queue
	hand    int // next record that the sweep looks at
	batch   uint16
	count   Counters
	inner   *packet.Packet // of the last packet that was tunnelled
	runs    [Lead + 1]run
	at      int  // index of found
	found   *run // in which FindAhead finds
}

// maxDepth is how many tunnels inside each other are looked into.
const maxDepth = 4

// A bucket is one cache line. Word 0 holds a tag for each of the other words, the slots: byte 0 that of slot 1 and so on. A slot holds the upper
// half of the hash and the number of the record plus 1. Slots are filled from the front; an empty slot and its tag are 0. A flow is in one of
// the two buckets that its hash names.
type bucket [8]uint64

// What things take, in bytes. A test compares them with the compiler's idea.
const (
	recordBytes = 128
	bucketBytes = 64
	setBytes    = 4 * 40
)

// Size returns the bytes that a table for so many flows takes, with the default number of fragments.
func Size(flows int) (bytes int) {
	c := Config{Flows: flows}.withDefaults()
	return c.Flows*(recordBytes+4) + buckets(c.Flows)*bucketBytes + fragmentSets(c.Fragments)*setBytes
}

// perBucket is how many flows there are for each bucket at most. With 4 of 7 slots in use next to no flow finds both of its buckets full.
const perBucket = 4

// buckets returns the number of buckets for so many flows: a power of 2.
func buckets(flows int) int {
	n := 1
	for n*perBucket < flows {
		n *= 2
	}
	return n
}

// New makes an empty table.
func New(cfg Config) *Table {
	cfg = cfg.withDefaults()
	t := &Table{
		cfg:     cfg,
		patient: int64(min(cfg.IdleTCP, cfg.IdleOther, cfg.IdleDone)),
		join:    newJoiner(cfg),
		index:   hugepage.Make[bucket](buckets(cfg.Flows)),
		records: hugepage.Make[Record](cfg.Flows),
		free:    newQueue(cfg.Flows),
	}
	t.mask = buckets(1024) - 1
	if cfg.Sparse {
		return t
	}
	clear(t.index)
	clear(t.records)
	clear(t.free.ring)
	return t
}

// grow doubles the number of buckets in use. Flows that lie close together are found faster: with 4400 flows in an index for a million a look-up
// took twice as long, because nearly each one needed a page of its own.
func (t *Table) grow() {
	n := t.mask + 1
	t.mask += n
	for i := range n {
		var stay, move bucket
		old := t.index[i]
		for at, slot := range old[1:] {
			if slot == 0 {
				break
			}
			to := t.first(slot)
			if to&(n-1) != i {
				to = t.second(slot)
			}
			if to == i {
				stay.add(slot, old.tag(at+1))
			} else {
				move.add(slot, old.tag(at+1))
			}
		}
		t.index[i], t.index[i+n] = stay, move
	}
}

// Begin starts a batch: records handed out before it may be used again.
func (t *Table) Begin() {
	t.batch++
	t.forget()
	t.free.release()
}

// Counters returns what happened so far.
func (t *Table) Counters() Counters { return t.count }

// All yields the records in the table, oldest first. The table must not be used meanwhile.
func (t *Table) All() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		live := make([]*Record, 0, t.count.Active)
		for i := range t.free.fresh {
			if r := &t.records[i]; r.Flags&Ended == 0 {
				live = append(live, r)
			}
		}
		slices.SortFunc(live, func(a, b *Record) int { return cmp.Compare(a.ID, b.ID) })
		for _, r := range live {
			if !yield(r) {
				return
			}
		}
	}
}

// Expire looks at budget records in turn and ends those that are idle at now (ns since the epoch). Find does the same as it makes records, so
// only a worker without traffic needs it, to give back what ended flows hold.
func (t *Table) Expire(now int64, budget int) {
	for range min(budget, len(t.records)) {
		i := t.hand
		t.hand++
		if t.hand == len(t.records) {
			t.hand = 0
		}
		if i >= t.free.fresh {
			continue
		}
		if r := &t.records[i]; r.Flags&Ended == 0 && t.idle(r, now) {
			t.count.Expired++
			t.end(uint32(i))
			t.free.put(uint32(i))
		}
	}
}

func (t *Table) idle(r *Record, now int64) bool {
	limit := t.cfg.IdleOther
	switch {
	case r.Flags&Finished != 0:
		limit = t.cfg.IdleDone
	case r.Proto == protoTCP:
		limit = t.cfg.IdleTCP
	}
	return now-r.Last > int64(limit)
}

// end takes record i out of the index. Its content stays as it is until it is used again.
func (t *Table) end(i uint32) {
	r := &t.records[i]
	var k key
	k.load(r)
	h := t.join.seed.hash(&k)
	if !t.index[t.first(h)].remove(i) {
		t.index[t.second(h)].remove(i)
	}
	r.Flags |= Ended
	t.count.Active--
	t.cfg.OnEnd(r)
}

// first and second name the buckets of a hash, or of a slot, which has its upper half.
func (t *Table) first(h uint64) int  { return int(h>>32) & t.mask }
func (t *Table) second(h uint64) int { return int(h>>32*0x9e3779b1>>7) & t.mask }

// tagOf returns the tag of a hash. The upper bit makes it so different from that of an empty slot that candidates never takes one for the other.
func tagOf(h uint64) uint64 { return h&0x7f | 0x80 }

// tag returns the tag of slot at.
func (b *bucket) tag(at int) uint64 { return b[0] >> (8 * (at - 1)) & 0xff }

// candidates returns a word in which bit 7 of byte i is set if the tag of slot i+1 is tag; rarely also if it is another one.
func (b *bucket) candidates(tag uint64) uint64 {
	const ones = 0x0001010101010101
	x := b[0] ^ tag*ones
	return (x - ones) &^ x & (ones << 7)
}

// record returns the number of the record of the first candidate, plus 1.
func (b *bucket) record(candidates uint64) uint32 {
	return uint32(b[(bits.TrailingZeros64(candidates)>>3+1)&7])
}

func (b *bucket) remove(i uint32) bool {
	for at := 1; at < len(b); at++ {
		if uint32(b[at]) != i+1 {
			continue
		}
		last := at
		for last+1 < len(b) && b[last+1] != 0 {
			last++
		}
		b.set(at, b[last], b.tag(last))
		b.set(last, 0, 0)
		return true
	}
	return false
}

func (b *bucket) add(slot, tag uint64) bool {
	for at := 1; at < len(b); at++ {
		if b[at] == 0 {
			b.set(at, slot, tag)
			return true
		}
	}
	return false
}

func (b *bucket) set(at int, slot, tag uint64) {
	shift := 8 * (at - 1)
	b[0] = b[0]&^(0xff<<shift) | tag<<shift
	b[at] = slot
}

// A queue hands out the free records: those that were used before, longest free first, then new ones. What was put since the last release
// stays back.
type queue struct {
	ring              []uint32
	head, tail, ready int // positions without bound
	fresh             int // records from here on were never used
}

func newQueue(n int) queue { return queue{ring: make([]uint32, n)} }

func (q *queue) put(i uint32) {
	q.ring[q.tail%len(q.ring)] = i
	q.tail++
}

func (q *queue) release() { q.ready = q.tail }

func (q *queue) take() (i uint32, ok bool) {
	switch {
	case q.head != q.ready:
		i = q.ring[q.head%len(q.ring)]
		q.head++
	case q.fresh != len(q.ring):
		i = uint32(q.fresh)
		q.fresh++
	default:
		return 0, false
	}
	return i, true
}
