//go:build !amd64 && !arm64

package flow

const firstHalf, secondHalf = 0, 64

func prefetchBuckets(*bucket, int, *[AheadMax]uint64) {}
func prefetchRecords(*Record, int, *[AheadMax]uint32) {}
func prefetchLine(*uint64)                            {}
func prefetchPair(*uint64)                            {}
