// Package spelling says how far a word is from another, for errors that name what was probably meant. It is pure.
package spelling

// Distance returns the number of bytes to insert, delete, replace or swap with their neighbour to get from a to b: the optimal string alignment
// distance. Its cost grows with the product of the lengths, so callers limit what comes from outside.
func Distance(a, b string) int {
	width := len(b) + 1
	rows := make([]int, 3*width)
	old, last, now := rows[:width], rows[width:2*width], rows[2*width:]
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, last[j+1]+1, now[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, old[j-1]+1)
			}
			now[j+1] = d
		}
		old, last, now = last, now, old
	}
	return last[len(b)]
}

// Begin returns 0 if two words begin with the same byte, else 1. Of words that are equally far from what somebody wrote the ones that begin alike are more
// likely: the first letter is seldom left out or wrong.
func Begin(a, b string) int {
	if a != "" && b != "" && a[0] == b[0] {
		return 0
	}
	return 1
}
