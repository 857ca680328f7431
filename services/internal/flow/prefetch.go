//go:build amd64 || arm64

package flow

// prefetch asks for the cache lines at lines and does not wait for them. A load that misses the cache holds up what follows once the processor's window is
// full, which four look-ups fill; and Go's compiler makes no prefetch of its own. It does not fault, not at nil either.
//
//go:noescape
func prefetch(lines *[AheadMax]*uint64)

// prefetchBefore asks for the cache lines before those at lines.
//
//go:noescape
func prefetchBefore(lines *[AheadMax]*uint64)

// prefetchPairs asks for the cache lines at lines and for those before them.
//
//go:noescape
func prefetchPairs(lines *[AheadMax]*uint64)
