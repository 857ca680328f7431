//go:build amd64 || arm64

package flow

// prefetch asks for the cache lines at lines and does not wait for them. A load that misses the cache holds up what follows once the processor's window is
// full, which four look-ups fill; and Go's compiler makes no prefetch of its own. It does not fault, not at nil either.
//
//go:noescape
func prefetch(lines *[AheadMax]*uint64)

// prefetchLine asks for one cache line.
//
//go:noescape
func prefetchLine(line *uint64)

// prefetchPair asks for a cache line and the one before it.
//
//go:noescape
func prefetchPair(line *uint64)

// prefetchBefore asks for the cache lines before those at lines.
//
//go:noescape
func prefetchBefore(lines *[AheadMax]*uint64)
