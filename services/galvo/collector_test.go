package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestCollectLate fills memory until the collector comes, and finds it as it was before.
func TestCollectLate(t *testing.T) {
	runtime.GC()
	before, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(before)
		debug.SetMemoryLimit(limit)
	})
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	cycles := m.NumGC
	collectLate(int64(m.Sys) + 100_000_000)
	collectLate(int64(m.Sys) + 100_000_000) // a second one waits for the same
	for range 40 {
		_ = append([]byte(nil), make([]byte, 1<<20)...)
	}
	if runtime.ReadMemStats(&m); m.NumGC != cycles {
		t.Fatalf("%d cycles within the first 40 MB", m.NumGC-cycles)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_ = append([]byte(nil), make([]byte, 1<<20)...)
		percent := debug.SetGCPercent(-1)
		if debug.SetGCPercent(percent); percent == 100 && debug.SetMemoryLimit(-1) == limit {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the collector works with %d %%, want 100", percent)
		}
	}
}
