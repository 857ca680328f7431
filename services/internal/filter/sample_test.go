//go:build !soak

package filter

// oneIn is the share of the savefiles and display filters that tests take, since every tshark costs 0.3 s: one in so many, by the hash of the name.
// With the build tag soak it is all of them.
const oneIn = 2
