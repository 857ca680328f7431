package rig

import (
	"testing"

	"galvo/ci/need"
)

// NetnsFor makes a namespace that ends with the test. It skips the test unless it runs as root.
func NetnsFor(t testing.TB) *Netns {
	t.Helper()
	need.Root(t)
	n, err := NewNetns()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// VethFor makes a veth pair that ends with the test: a sender's end and a receiver's end in a namespace each.
func VethFor(t testing.TB) (tx, rx *End) {
	t.Helper()
	tx, rx, err := Veth(NetnsFor(t), "tx0", NetnsFor(t), "rx0", 0)
	if err != nil {
		t.Fatal(err)
	}
	return tx, rx
}
