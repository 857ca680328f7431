package block

import (
	"galvo/services/internal/filter"
	"galvo/services/internal/ring/opentable"
)

// A keyList is the keys of a block that is being built, as its packets bring them. Each is looked for when the block is complete: then it is known which chunks have the
// packets of an entry, and the tables stay in the nearest cache, where packets come between else.
type keyList struct {
	list  []filter.Key // run by run; a key may come again
	begun int          // where the last run begins
	runs  []run
	table opentable.Table[uint16] // place in Image.Keys + 1; a quarter full at most, so that few keys meet another one first
	sets  keySets
}

// A run is so many keys of all packets of an entry, or, with of = maxEntries + i, of those of set i.
type run struct{ of, n uint16 }

// mostListed is how many keys are kept before they are looked for while the block is not complete yet: a block of real traffic has 10,000.
const mostListed = 1 << 16

func newKeyList() keyList {
	return keyList{list: make([]filter.Key, 0, mostListed+1<<10), runs: make([]run, 0, 1<<14), table: opentable.New[uint16](8 * 8192),
		sets: newKeySets()}
}

// end makes a run of the keys that were appended to the list.
func (l *keyList) end(of uint16) {
	if n := len(l.list) - l.begun; n > 0 {
		l.runs = append(l.runs, run{of, uint16(n)})
		l.begun = len(l.list)
	}
}

// endSet makes a run of the keys that were appended to the list, as a set of its own, unless there is that set. They are those of a packet in chunk c.
func (l *keyList) endSet(c Chunks) {
	if n, found := l.sets.find(l.sets.hash(l.list[l.begun:]), c); !found {
		l.end(maxEntries + n)
	}
	l.list = l.list[:l.begun]
}

func (l *keyList) full() bool { return len(l.list) > mostListed }

// note adds all keys to the bloom filter of a copy.
func (l *keyList) note(b Bloom) {
	for _, k := range l.list {
		b.addHash(Hash(uint64(k)))
	}
}

// collect moves the keys to an image, each once, with the chunks that have them. If there are no entries yet, all may. It reports whether there was room.
func (l *keyList) collect(img *Image, entries []entry) bool {
	list, room := l.list, true
	bloom := BloomOf(img.Buf[:Size])
	for _, r := range l.runs {
		c, common := All, All // chunks of its keys, and of those of most packets, whose places are not worth knowing
		switch {
		case entries == nil: // more of them may come
		case r.of >= maxEntries:
			c = l.sets.list[r.of-maxEntries].chunks
			common = c
		default:
			c = entries[r.of].chunks
		}
		for _, k := range list[:r.n] {
			in := c
			if k.Common() {
				in = common
			}
			h := Hash(uint64(k))
			at := l.table.First(h)
			i := int(l.table.At[at]) - 1
			for i >= 0 && img.Keys[i] != uint64(k) {
				at = (at + 1) & (len(l.table.At) - 1)
				i = int(l.table.At[at]) - 1
			}
			if i >= 0 {
				img.Chunks[i] |= in
				continue
			}
			bloom.addHash(h)
			room = l.add(img, at, k, in) && room
		}
		list = list[r.n:]
	}
	l.list, l.runs, l.begun = l.list[:0], l.runs[:0], 0
	return room
}

// add adds a key at its place in the table, if there is room.
func (l *keyList) add(img *Image, at int, k filter.Key, c Chunks) bool {
	i := len(img.Keys)
	if i == MaxKeys {
		return false
	}
	img.Keys, img.Chunks = append(img.Keys, uint64(k)), append(img.Chunks, c)
	l.table.At[at] = uint16(i + 1)
	if l.table.Full(2 * i) {
		l.table.Grow()
		for i, k := range img.Keys {
			l.table.Put(Hash(k), uint16(i+1))
		}
	}
	return true
}

// reset forgets everything; the next block may have as many keys.
func (l *keyList) reset(keys int) {
	l.table.Reset(4 * keys)
	l.list, l.runs, l.begun = l.list[:0], l.runs[:0], 0
	l.sets.reset()
}
