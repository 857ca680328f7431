// Package sink is where captures write: an HTTP stream, a savefile or standard output, or nowhere. Each destination is one file.
//
// A sink takes a stream of bytes that is a savefile from its first to its last one, in writes that end at the end of a packet. It
// belongs to the goroutine that writes; only Interrupt may be called by others. It keeps nothing of what it is given, counts nothing,
// and never retries: a capture that got an error from its sink has ended.
package sink

import "time"

// A Sink is the destination of one capture.
type Sink interface {
	// Write takes all of b, or says how much of it it took and why not more, as an *End. It may block for as long as the destination does.
	Write(b []byte) (n int, err error)

	// Flush sends on what Write has taken and still holds.
	Flush() error

	// Interrupt makes a Write or Flush that blocks, now or later, fail when the time has come. It may be called by any goroutine.
	Interrupt(at time.Time)

	// Close ends the stream. The sink is not used after it, except that Interrupt does nothing then.
	Close() error
}

// An End is why a sink takes no more, in words for the list of captures: "client disconnected".
type End struct {
	Words  string
	Failed bool  // the sink is at fault, rather than its client
	Err    error // what the system said
}

func (e *End) Error() string { return e.Words }

// Unwrap returns what the system said.
func (e *End) Unwrap() error { return e.Err }

// Discard takes everything and does nothing. It measures what comes before it.
type Discard struct{}

// Write takes b.
func (Discard) Write(b []byte) (int, error) { return len(b), nil }

// Flush does nothing.
func (Discard) Flush() error { return nil }

// Interrupt does nothing: Write never blocks.
func (Discard) Interrupt(time.Time) {}

// Close does nothing.
func (Discard) Close() error { return nil }
