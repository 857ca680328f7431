package sink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// piece is how much of a stream a client must take within the stall time: small, so that a slow client makes progress.
const piece = 32 << 10

// An HTTP is a sink that streams to the client of a request.
type HTTP struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	ctx   context.Context
	stall time.Duration
	due   time.Time // when the client has taken nothing for too long; zero is never

	mu sync.Mutex

	until  time.Time // set by Interrupt; guarded by mu, as everything below
	closed bool
}

// NewHTTP returns a sink that writes the body of the answer to a request with the context ctx, whose headers the caller has set. A
// client that takes nothing for the time stall, 0 for ever, or that disconnects, ends it. The only way to tell a client that a stream
// is not complete is to break it off: the handler panics with http.ErrAbortHandler.
func NewHTTP(ctx context.Context, w http.ResponseWriter, stall time.Duration) *HTTP {
	return &HTTP{w: w, rc: http.NewResponseController(w), ctx: ctx, stall: stall}
}

// Write sends b. It blocks for as long as the client takes nothing.
func (s *HTTP) Write(b []byte) (n int, err error) {
	for len(b) > n {
		if err := s.deadline(); err != nil {
			return n, err
		}
		m, err := s.w.Write(b[n:min(n+piece, len(b))])
		n += m
		if err != nil {
			return n, s.end(err)
		}
	}
	return n, nil
}

// Flush sends what the server still buffers.
func (s *HTTP) Flush() error {
	if err := s.deadline(); err != nil {
		return err
	}
	if err := s.rc.Flush(); err != nil {
		return s.end(err)
	}
	return nil
}

// Interrupt makes the client's time end at the given one.
func (s *HTTP) Interrupt(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.until = at
	s.rc.SetWriteDeadline(at) // without deadlines there is nothing to interrupt
}

// Close leaves the connection without a deadline, because the next request may come over it.
func (s *HTTP) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.rc.SetWriteDeadline(time.Time{}) // as in deadline
	return nil
}

// deadline gives the next write its time.
func (s *HTTP) deadline() error {
	if s.ctx.Err() != nil {
		return s.end(context.Cause(s.ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Time{}
	if s.stall > 0 {
		s.due = time.Now().Add(s.stall)
	}
	at := s.due
	if !s.until.IsZero() && (at.IsZero() || s.until.Before(at)) {
		at = s.until
	}
	s.rc.SetWriteDeadline(at) // a writer without deadlines is one of a test
	return nil
}

func (s *HTTP) end(err error) *End {
	// The server ends the request's context when a write fails, whatever the reason is, so that tells nothing here.
	if errors.Is(err, os.ErrDeadlineExceeded) && !s.due.IsZero() && !time.Now().Before(s.due) {
		return &End{Words: "client took nothing for " + words(s.stall), Err: err}
	}
	return &End{Words: "client disconnected", Err: err}
}

// words says a duration as people do, in whole minutes if it is some.
func words(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	if n%60 == 0 {
		n, unit = n/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
