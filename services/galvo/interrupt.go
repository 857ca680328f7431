package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// errInterrupted is the error of what a signal ended before it was through.
var errInterrupted = errors.New("interrupted")

// writeGrace is how long what was read may take to be written after a signal: who reads the output may be the reason for it.
const writeGrace = 2 * time.Second

// later returns a context that ends some time after ctx does.
func later(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	after, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return after, func() {
		stop()
		cancel()
	}
}

// An interruptibleReader reads what may never come, such as standard input, until a context is done. It is no more used after an error: a read that was given up goes on, into the
// memory that it was asked with.
type interruptibleReader struct {
	ctx  context.Context
	asks chan []byte
	gets chan readResult
}

type readResult struct {
	n   int
	err error
}

func interruptible(ctx context.Context, from io.Reader) io.Reader {
	r := &interruptibleReader{ctx, make(chan []byte), make(chan readResult, 1)}
	go func() {
		for {
			select {
			case b := <-r.asks:
				n, err := from.Read(b)
				r.gets <- readResult{n, err}
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

// Read implements io.Reader.
func (r *interruptibleReader) Read(b []byte) (int, error) {
	select {
	case r.asks <- b:
	case <-r.ctx.Done():
		return 0, errInterrupted
	}
	select {
	case got := <-r.gets:
		return got.n, got.err
	case <-r.ctx.Done():
		return 0, errInterrupted
	}
}
