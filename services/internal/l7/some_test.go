//go:build !soak

package l7_test

// everyFile is false: comparing with tshark takes its time.
const everyFile = false

// rounds is how often traffic is spoiled at random, cuts at how many bytes it is cut off, and
// cutFiles which of the files: one in so many.
const (
	rounds = 1
	cuts   = 60

	cutFiles = 16
)
