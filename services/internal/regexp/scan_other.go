//go:build !amd64

package regexp

const (
	hasVector  = false
	vectorText = 0
)

func scanVector([]byte, int, *[window][2][16]uint8) (at int, places uint32) { return 0, 0 }
