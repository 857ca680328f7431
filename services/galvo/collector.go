package main

import (
	"runtime"
	"runtime/debug"
)

// collectLate keeps the garbage collector away until the program takes so many bytes, and lets it work as ever from then on. A tool that takes its memory at the
// start, uses it to the end and makes little garbage gains nothing by it: a cycle began with each large table.
func collectLate(bytes int64) {
	percent := debug.SetGCPercent(-1)
	if percent < 0 {
		return
	}
	limit := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(bytes, limit))
	garbage := &struct{ self *byte }{} // found as soon as the collector has come
	runtime.AddCleanup(garbage, func(percent int) {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}, percent)
}
