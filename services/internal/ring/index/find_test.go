package index

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"galvo/services/internal/filter"
	"galvo/services/internal/ring/block"
	"galvo/services/internal/ring/files"
)

// rough returns what an index knows of the blocks of a key: of many no chunks.
func rough(w Where) Where {
	n, out := 0, slices.Clone(w)
	for _, c := range w {
		n += min(1, c.Len())
	}
	for i, c := range w {
		if c != 0 && n >= (len(w)+7)/8 {
			out[i] = block.All
		}
	}
	return out
}

// memory is a file that counts what is read.
type memory struct {
	b    []byte
	read int
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	m.read += len(b)
	return copy(b, m.b[at:]), nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) { return copy(m.b[at:], b), nil }
func (m *memory) Sync() error                             { return nil }
func (m *memory) Size() (int64, error)                    { return int64(len(m.b)), nil }
func (m *memory) Close() error                            { return nil }

// find makes one search.
func find(x *Index, s *Segment, keys filter.KeyRange) (Found, error) {
	list := []Search{{Index: x, Segment: s, Keys: keys}}
	Find(context.Background(), list)
	return list[0].Found, list[0].Err
}

// An index that was just written, one that was read anew and those that were warmed say the same: which blocks have a key is what went in. Nothing is read where there was
// room for the pages of keys, and with a sketch for a key that no block has, but for one of 20 at most.
func TestFind(t *testing.T) {
	const bytes, blocks = 40 << 20, 39
	random := rand.New(rand.NewPCG(1, 2))
	slots := make([]Slot, blocks)
	has := make(map[uint64]Where)
	for i := range slots {
		if i == 7 {
			continue // nothing was written there
		}
		slots[i].Seq = uint64(i + 1)
		if i == 9 {
			slots[i].Flags = block.FlagPartial // its keys are not known
			continue
		}
		for range 500 {
			key := uint64(1+random.IntN(4))<<56 | uint64(random.IntN(3000))*2
			if has[key] == nil {
				has[key] = make(Where, blocks)
			}
			if has[key][i] == 0 {
				has[key][i] = block.Chunks(1) << random.IntN(block.MaxChunks)
				if random.IntN(3) == 0 {
					has[key][i] |= 1 << random.IntN(block.MaxChunks)
				}
				slots[i].Keys, slots[i].Chunks = append(slots[i].Keys, key), append(slots[i].Chunks, has[key][i])
			}
		}
	}
	file := &memory{b: make([]byte, bytes)}
	buffers := files.Buffers{Size: block.Size}
	defer buffers.Close()
	s := &Segment{File: file, Bytes: bytes, Number: 3, Ring: 77, Buffers: &buffers}
	var written, fresh, sketched, warmed Index
	if err := new(Writer).Write(&written, s, slots); err != nil {
		t.Fatal(err)
	}
	if err := warmed.Warm(s, 1<<20, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := sketched.Warm(s, 1<<20, 100); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Warm(s, 100, 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		x             *Index
		sketch, pages bool
	}{{&written, true, true}, {&warmed, true, true}, {&sketched, true, false}, {&fresh, false, false}} {
		if sketch, pages := c.x.Memory(); sketch > 1<<20 || pages > 1<<20 || sketch > 0 != c.sketch || pages > 0 != c.pages {
			t.Fatalf("a sketch of %d bytes, and %d bytes of pages", sketch, pages)
		}
	}
	absent, read := 0, 0
	var unknown Set
	unknown.add(9)
	for range 20_000 {
		key := uint64(1+random.IntN(4))<<56 | uint64(random.IntN(6000))
		want := Found{Used: blocks - 1, Bytes: files.PageSize}
		want.Unknown = &unknown
		want.With = rough(has[key])
		for name, x := range map[string]*Index{"written": &written, "fresh": &fresh, "sketched": &sketched, "warmed": &warmed} {
			got, err := find(x, s, filter.KeyRange{Lo: filter.Key(key), Hi: filter.Key(key)})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case name == "written" || name == "warmed":
				if got.Bytes != 0 {
					t.Fatalf("%s: %d bytes were read", name, got.Bytes)
				}
				got.Bytes = files.PageSize
			case name == "sketched" && has[key] == nil:
				absent++
				read += int(got.Bytes / files.PageSize)
				got.Bytes = files.PageSize
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: key %#x: %s", name, key, diff)
			}
		}
	}
	if read*20 > absent {
		t.Errorf("%d pages were read for %d keys that are not there", read, absent)
	}
	warmed.Shed(false)
	if sketch, pages := warmed.Memory(); sketch == 0 || pages != 0 {
		t.Errorf("a sketch of %d bytes is left, and %d bytes of pages", sketch, pages)
	}
	warmed.Shed(true)
	written.Drop()
	for _, x := range []*Index{&warmed, &written} {
		before := file.read
		got, err := find(x, s, filter.KeyRange{})
		if sketch, pages := x.Memory(); err != nil || sketch+pages != 0 || got.Bytes != uint64(file.read-before) {
			t.Errorf("it read %d bytes and says %d, %v", file.read-before, got.Bytes, err)
		}
	}
}
