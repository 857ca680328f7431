package boot

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// A console writes what a person at the serial line or screen sees. A line of 115200 bit/s takes 10 kB a second, and a terminal server may take nothing
// at all: nobody waits for that. What does not fit is left out and counted.
type console struct {
	out     io.Writer
	lines   chan []byte
	written chan chan struct{} // closed when everything before it is written
	lost    atomic.Uint64
}

func newConsole(out io.Writer) *console {
	c := &console{out: out, lines: make(chan []byte, 256), written: make(chan chan struct{})}
	go guard("console", c.run)
	return c
}

func (c *console) run() {
	for {
		select {
		case line := <-c.lines:
			c.print(line)
		case done := <-c.written:
			for len(c.lines) > 0 {
				c.print(<-c.lines)
			}
			close(done)
		}
	}
}

func (c *console) print(line []byte) {
	c.out.Write(line)
	if n := c.lost.Swap(0); n > 0 {
		fmt.Fprintf(c.out, "... the console is slow: %d lines are left out\n", n)
	}
}

// Write takes b at once.
func (c *console) Write(b []byte) (int, error) {
	select {
	case c.lines <- append([]byte(nil), b...):
	default:
		c.lost.Add(1)
	}
	return len(b), nil
}

// flushPatience is how long the end of the machine waits for its last words to be seen.
const flushPatience = 2 * time.Second

// Flush waits until what was written so far is seen, for a while.
func (c *console) Flush() {
	timeout, done := time.After(flushPatience), make(chan struct{})
	select {
	case c.written <- done:
	case <-timeout:
		return
	}
	select {
	case <-done:
	case <-timeout:
	}
}
