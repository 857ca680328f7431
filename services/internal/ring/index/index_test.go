package index

import (
	"math"
	"testing"

	"galvo/services/internal/ring/block"
)

// FuzzIndex reads pages of keys that anything may have damaged.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{2, 0, 5, 3, 1, 4, 1, 1})
	f.Add([]byte{1, 0, 5, 3, 0x80 | 43, 32}) // chunks from 43 to 32
	f.Fuzz(func(t *testing.T, page []byte) {
		if len(page) < 2 {
			return
		}
		readKeys(page, math.MaxInt64, 32, func(_ uint64, at int, chunks block.Chunks) { //nolint:errcheck // any error will do
			if at >= maxBlocks || chunks == 0 {
				t.Fatal(at, chunks)
			}
		})
	})
}
