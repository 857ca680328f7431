package index

import (
	"slices"
	"testing"

	"galvo/services/internal/ring/block"
)

// TestShelves keeps the keys of many blocks, and then those of others in the same memory.
func TestShelves(t *testing.T) {
	img := &block.Image{Buf: make([]byte, block.Size)}
	var spare Shelves
	for round := range 3 {
		var shelves Shelves
		slots := make([]Slot, 100)
		keep := func(i int) {
			for k := range img.Keys {
				img.Keys[k], img.Chunks[k] = uint64(round<<32|i<<16|k), block.Chunks(i+k+1)
			}
			block.BloomOf(img.Buf)[0] = byte(round + i)
			shelves.Keep(&slots[i], img, &spare)
		}
		for i := range slots {
			n := (i * 997) % (block.MaxKeys + 1)
			img.Keys, img.Chunks = make([]uint64, n), make([]block.Chunks, n)
			keep(i)
		}
		for i := range slots {
			s := &slots[i]
			n := (i * 997) % (block.MaxKeys + 1)
			if len(s.Keys) != n || len(s.Chunks) != n || s.Bloom[0] != byte(round+i) || len(s.Bloom) != block.BloomSize {
				t.Fatalf("round %d: slot %d has %d keys of %d, %d chunks and %d bytes of a bloom filter", round, i, len(s.Keys), n, len(s.Chunks), len(s.Bloom))
			}
			for k := range n {
				if s.Keys[k] != uint64(round<<32|i<<16|k) || s.Chunks[k] != block.Chunks(i+k+1) {
					t.Fatalf("round %d: slot %d: key %d is another one", round, i, k)
				}
			}
		}
		taken := slices.Clone(shelves)
		shelves.GiveBack(&spare)
		if len(shelves) != 0 || len(spare) != len(taken) {
			t.Fatalf("round %d: %d shelves are spare of %d", round, len(spare), len(taken))
		}
	}
}
