package capture

const (
	cellSize  = 2 * placeSize
	placeSize = (cellWords + 2) * 8
	cellWords = 5
)

// A cell is a few counters in a file, with one writer. Two places take turns, each with its turn and a checksum, so that one of them is
// whole whenever the writer is killed.
type cell struct {
	b    []byte
	turn uint64
}

// store writes the counters. It may be called on nil.
func (c *cell) store(words [cellWords]uint64) {
	if c == nil {
		return
	}
	c.turn++
	b := c.b[c.turn&1*placeSize:][:placeSize]
	sum := mix(0, c.turn)
	le.PutUint64(b, c.turn)
	for i, w := range words {
		le.PutUint64(b[8+8*i:], w)
		sum = mix(sum, w)
	}
	le.PutUint64(b[placeSize-8:], sum)
}

func mix(sum, w uint64) uint64 { return (sum ^ w) * 0x9e3779b97f4a7c15 }

// loadCell returns the counters of a cell as they were last stored whole.
func loadCell(b []byte) (words [cellWords]uint64) {
	var newest uint64
	for _, b := range [][]byte{b[:placeSize], b[placeSize:cellSize]} {
		turn := le.Uint64(b)
		var w [cellWords]uint64
		sum := mix(0, turn)
		for i := range w {
			w[i] = le.Uint64(b[8+8*i:])
			sum = mix(sum, w[i])
		}
		if sum == le.Uint64(b[placeSize-8:]) && turn > newest {
			newest, words = turn, w
		}
	}
	return words
}
