//go:build soak

package l7_test

// everyFile compares all savefiles of the corpora with tshark: some minutes.
const everyFile = true

// rounds is how often traffic is spoiled at random, cuts at how many bytes it is cut off, and
// cutFiles which of the files: one in so many.
const (
	rounds = 5
	cuts   = 400

	cutFiles = 4
)
