package server

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxDrained is how much of a body that nobody wanted is read all the same, and drainTime for how long.
	maxDrained = 8 << 20
	drainTime  = 2 * time.Second
)

// A body is that of a request, which who answers may leave unread or close: many clients that are still sending when they are refused do not see why
// (curl 7.88 over HTTP/2 for one).
type body struct {
	io.Reader
	over atomic.Bool // nothing more is to be read
}

func takeBody(r *http.Request) *body {
	b := &body{Reader: r.Body}
	r.Body = b
	// A client that waits for leave to send needs no patience, until it has that.
	b.over.Store(r.Body == http.NoBody || r.ContentLength == 0 || r.Header.Get("Expect") != "")
	return b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.over.Store(err != nil)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// A bodyError is about what a client sends, and no fault of who was to answer.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read the body of the request: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

func (b *body) Close() error { return nil }

// drain reads some of what is left.
func (b *body) drain(w http.ResponseWriter) {
	if b.over.Load() {
		return
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(drainTime))
	io.CopyN(io.Discard, b, maxDrained)
	control.SetReadDeadline(time.Time{})
}
