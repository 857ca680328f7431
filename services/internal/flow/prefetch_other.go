//go:build !amd64 && !arm64

package flow

func prefetch(*[AheadMax]*uint64)       {}
func prefetchBefore(*[AheadMax]*uint64) {}
func prefetchLine(*uint64)              {}
func prefetchPair(*uint64)              {}
