//go:build !soak

package l7_test

// everyFile is false: comparing with tshark takes its time.
const everyFile = false
