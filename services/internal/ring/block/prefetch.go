//go:build amd64 || arm64

package block

// prefetch asks for the cache lines of n bytes at p, to write them, and does not wait for them. It does not fault.
//
//go:noescape
func prefetch(p *byte, n int)
