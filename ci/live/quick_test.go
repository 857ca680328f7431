//go:build !soak

package live

// wrapFrames is how many frames TestRingWraps plays.
const wrapFrames = 300_000
