// Package hugepage makes large tables whose memory the kernel may map in pages of 2 MiB.
//
// A table with random access that is larger than what the processor's TLB reaches with pages of 4 KiB pays for nearly each look-up a walk through the page tables,
// in a virtual machine through two of them. Where the kernel has no huge pages (transparent_hugepage/enabled is never), or none left, the memory is as any other.
package hugepage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// size is that of a huge page on amd64, and on arm64 with a granule of 4 KiB. Where it is another one the advice covers a little less or more than whole pages.
const size = 2 << 20

// Make is make([]T, n). The memory is the garbage collector's; what nobody touched takes none, and what is touched is taken 2 MiB at a time.
func Make[T any](n int) []T {
	s := make([]T, n)
	if b := whole(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), uintptr(n)*unsafe.Sizeof(*new(T)))); b != nil {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // it is advice
	}
	return s
}

// whole returns the part of b that is whole huge pages, nil if there is none.
func whole(b []byte) []byte {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := int(-at & (size - 1))
	if n := (len(b) - skip) &^ (size - 1); n > 0 {
		return b[skip:][:n]
	}
	return nil
}
