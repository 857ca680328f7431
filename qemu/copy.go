package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// copySparse copies a file with its holes, and grows the copy to size bytes if that is more.
func copySparse(to, from string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	var at int64
	for b, zero := make([]byte, 64<<10), make([]byte, 64<<10); ; {
		n, err := io.ReadFull(in, b)
		if n > 0 && string(b[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return fmt.Errorf("copy %s: %w", from, err)
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(max(at, size))
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
	}
}
