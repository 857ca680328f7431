package hugepage

import (
	"testing"
	"unsafe"
)

func TestMake(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 18, 3<<18 + 5} {
		s := Make[[8]uint64](n)
		if len(s) != n || cap(s) < n {
			t.Errorf("Make(%d) has %d elements", n, len(s))
		}
		for i := range s {
			if s[i] != [8]uint64{} {
				t.Fatalf("Make(%d): element %d is %v", n, i, s[i])
			}
			s[i][7] = uint64(i)
		}
	}
}

func TestWhole(t *testing.T) {
	b := make([]byte, 4*size)
	at := uintptr(unsafe.Pointer(&b[0]))
	first := int(-at & (size - 1))
	for _, c := range []struct{ from, to, want int }{
		{first, first + size, size}, {first, first + size - 1, 0}, {first + 1, first + size, 0}, {first, first + 2*size + 7, 2 * size},
		{first + 5, first + 2*size, size}, {0, 0, 0}, {first, first, 0},
	} {
		got := whole(b[c.from:c.to])
		if len(got) != c.want || c.want > 0 && uintptr(unsafe.Pointer(&got[0]))&(size-1) != 0 {
			t.Errorf("whole(%d to %d after a boundary) has %d bytes, want %d", c.from-first, c.to-first, len(got), c.want)
		}
	}
}
