package flow

import (
	"cmp"
	"iter"
	"slices"
	"time"
	"unsafe"

	"galvo/services/internal/packet"
)

// Config sizes a table. Zero values stand for the defaults.
type Config struct {
	Flows     int // records; at least 1024, default 65,536
	Fragments int // datagrams whose first fragment is remembered; default 4096

	IdleTCP   time.Duration // a TCP flow without packets for so long has ended; default 600 s
	IdleOther time.Duration // other flows; default 120 s
	IdleDone  time.Duration // TCP flows after FIN or RST; and how long an open flow must be idle before a new SYN opens it anew; default 60 s
	Datagram  time.Duration // how long a first fragment is remembered; default 30 s, as Linux reassembles

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

// A Table finds the flow of each packet of one worker. Its memory is taken and touched by New and never grows.
type Table struct {
	cfg     Config
	seed    seed
	index   []bucket
	records []Record
	free    queue
	hand    int // next record that the sweep looks at
	batch   uint32
	count   Counters
	frags   fragments
	inner   *packet.Packet
	levels  [maxDepth]packet.Packet // what is inside inner's frame, outermost first
	depth   int                     // how many of them were decoded
}

// maxDepth is how many tunnels inside each other are looked into.
const maxDepth = 4

// A bucket is one cache line of slots, filled from the front. A slot holds the upper half of the hash and the number of the record plus 1;
// 0 is empty. A flow is in one of the two buckets that its hash names.
type bucket [8]uint64

// Size returns the bytes that a table for so many flows takes, with the default number of fragments.
func Size(flows int) (bytes int) {
	c := Config{Flows: flows}.withDefaults()
	return c.Flows*int(unsafe.Sizeof(Record{})+4) + buckets(c.Flows)*int(unsafe.Sizeof(bucket{})) + sizeFragments(c.Fragments)
}

// buckets keeps the index between a quarter and a half full.
func buckets(flows int) int {
	n := 1
	for n*len(bucket{}) < 2*flows {
		n *= 2
	}
	return n
}

// New makes an empty table.
func New(cfg Config) *Table {
	cfg = cfg.withDefaults()
	t := &Table{
		cfg:     cfg,
		seed:    newSeed(),
		index:   make([]bucket, buckets(cfg.Flows)),
		records: make([]Record, cfg.Flows),
		free:    newQueue(cfg.Flows),
		frags:   newFragments(cfg.Fragments),
	}
	for i := range t.index {
		t.index[i][0] = 0
	}
	for i := range t.records {
		t.records[i].Flags = Ended
		t.free.put(uint32(i))
	}
	t.free.release()
	return t
}

// Begin starts a batch: records handed out before it may be used again.
func (t *Table) Begin() {
	t.batch++
	t.free.release()
}

// Counters returns what happened so far.
func (t *Table) Counters() Counters { return t.count }

// All yields the records in the table, oldest first. The table must not be used meanwhile.
func (t *Table) All() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		live := make([]*Record, 0, t.count.Active)
		for i := range t.records {
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
	h := t.seed.hash(&k)
	if !t.index[t.first(h)].remove(i) {
		t.index[t.second(h)].remove(i)
	}
	r.Flags |= Ended
	t.count.Active--
	t.cfg.OnEnd(r)
}

func (t *Table) first(h uint64) int  { return int(h) & (len(t.index) - 1) }
func (t *Table) second(h uint64) int { return int(h>>32*0x9e3779b1>>7) & (len(t.index) - 1) }

func (b *bucket) remove(i uint32) bool {
	for at := range b {
		if uint32(b[at]) != i+1 {
			continue
		}
		last := at
		for last+1 < len(b) && b[last+1] != 0 {
			last++
		}
		b[at], b[last] = b[last], 0
		return true
	}
	return false
}

func (b *bucket) add(slot uint64) bool {
	for at := range b {
		if b[at] == 0 {
			b[at] = slot
			return true
		}
	}
	return false
}

// lookup returns the record of k in bucket b.
func (t *Table) lookup(b *bucket, tag uint64, k *key) (i uint32, from Endpoint, ok bool) {
	for _, slot := range b {
		if slot == 0 {
			return 0, 0, false
		}
		if slot>>32 != tag {
			continue
		}
		i := uint32(slot) - 1
		if from, ok := k.match(&t.records[i]); ok {
			return i, from, true
		}
	}
	return 0, 0, false
}

// A queue hands out the free records, longest free first. What was put since the last release stays back.
type queue struct {
	ring              []uint32
	head, tail, ready int // positions without bound
}

func newQueue(n int) queue { return queue{ring: make([]uint32, n)} }

func (q *queue) put(i uint32) {
	q.ring[q.tail%len(q.ring)] = i
	q.tail++
}

func (q *queue) release() { q.ready = q.tail }

func (q *queue) take() (i uint32, ok bool) {
	if q.head == q.ready {
		return 0, false
	}
	i = q.ring[q.head%len(q.ring)]
	q.head++
	return i, true
}
