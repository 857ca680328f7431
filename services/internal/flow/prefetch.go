//go:build amd64 || arm64

package flow

import "unsafe"

// prefetch asks for the cache lines at lines and does not wait for them. A load that misses the cache holds up what follows once the processor's window is
// full, which four look-ups fill; and Go's compiler makes no prefetch of its own. It does not fault, not at nil either.
//
//go:noescape
func prefetch(lines *[AheadMax]unsafe.Pointer)

// prefetchPairs asks for the cache lines at lines and for those behind them.
//
//go:noescape
func prefetchPairs(lines *[AheadMax]unsafe.Pointer)
