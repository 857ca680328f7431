package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// A Writer is a sink that writes to a file, a pipe or standard output.
type Writer struct {
	w    io.Writer
	name string
}

// NewWriter returns a sink that writes to w. name is what its errors call it. Who opened w closes it, and looks at the
// error. If w has a method SetWriteDeadline, as pipes have, Interrupt uses it.
func NewWriter(w io.Writer, name string) *Writer { return &Writer{w, name} }

// Write writes b to the file.
func (s *Writer) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, s.end(err)
	}
	return n, nil
}

// Flush does nothing: Write leaves nothing behind in this process.
func (s *Writer) Flush() error { return nil }

// Interrupt ends a Write to a pipe that nobody reads.
func (s *Writer) Interrupt(at time.Time) {
	if d, ok := s.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(at) // a file without deadlines says so, and does not block for long
	}
}

// Close does nothing: who opened the file closes it.
func (s *Writer) Close() error { return nil }

// end says what an error of the system means for the capture.
func (s *Writer) end(err error) *End {
	for _, is := range ends {
		if errors.Is(err, is.err) {
			return &End{is.words, is.failed, fmt.Errorf("write %s: %w", s.name, err)}
		}
	}
	err = fmt.Errorf("write %s: %w", s.name, err)
	return &End{err.Error(), true, err}
}

var ends = []struct {
	err    error
	words  string
	failed bool
}{
	{syscall.ENOSPC, "no space left on the storage", true},
	{syscall.EDQUOT, "no space left for this user on the storage", true},
	{syscall.EFBIG, "the file is as large as it may be", true},
	{syscall.EPIPE, "the reader of the output is gone", false},
	{io.ErrClosedPipe, "the reader of the output is gone", false},
	{os.ErrDeadlineExceeded, "the reader of the output took nothing", false},
}
