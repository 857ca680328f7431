//go:build amd64 || arm64

package flow

// The functions ask for cache lines and do not wait for them. A load that misses the cache holds up what follows once the processor's window is full, which four
// look-ups fill; and Go's compiler makes no prefetch of its own. A prefetch does not fault, wherever it points.

// The halves of a record, by their offsets.
const (
	firstHalf  = 0
	secondHalf = 64
)

// prefetchBuckets asks for the first buckets of hashes, in an index of mask+1 buckets.
//
//go:noescape
func prefetchBuckets(index *bucket, mask int, hashes *[AheadMax]uint64)

// prefetchRecords asks for one half of the records with the numbers guesses-1.
//
//go:noescape
func prefetchRecords(records *Record, half int, guesses *[AheadMax]uint32)

// prefetchLine asks for one cache line.
//
//go:noescape
func prefetchLine(line *uint64)

// prefetchPair asks for a cache line and the one before it.
//
//go:noescape
func prefetchPair(line *uint64)
