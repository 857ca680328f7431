//go:build !amd64 && !arm64

package flow

import "unsafe"

func prefetch(*[AheadMax]unsafe.Pointer)      {}
func prefetchPairs(*[AheadMax]unsafe.Pointer) {}
