//go:build soak

package l7_test

// everyFile compares all savefiles of the corpora with tshark: some minutes.
const everyFile = true
