//go:build soak

package live

// wrapFrames is how many frames TestRingWraps plays.
const wrapFrames = 1_000_000
