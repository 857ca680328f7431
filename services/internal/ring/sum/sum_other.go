//go:build !amd64

package sum

const wide = false

func fold(uint32, *byte, int) uint32 { panic("sum: it is not wide") }
