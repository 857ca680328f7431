//go:build !soak

package l7_test

// everyFile is false: comparing with tshark takes its time.
const everyFile = false

// rounds is how often traffic is spoiled at random, and cuts at how many bytes it is cut off.
const (
	rounds = 1
	cuts   = 60
)
