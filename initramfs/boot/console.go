package boot

import (
	"io"
	"sync/atomic"
	"time"
)

// A console writes what a person at the serial line or screen sees. A line of 115200 bit/s takes 10 kB a second, and a terminal server may take nothing
// at all: nobody waits for that. What does not fit is left out and counted.
type console struct {
	out   io.Writer
	lines chan []byte
	done  chan struct{}
	lost  atomic.Uint64
}

func newConsole(out io.Writer) *console {
	c := &console{out: out, lines: make(chan []byte, 256), done: make(chan struct{})}
	go guard("console", c.run)
	return c
}

func (c *console) run() {
	defer close(c.done)
	for line := range c.lines {
		c.out.Write(line)
		if n := c.lost.Swap(0); n > 0 {
			io.WriteString(c.out, "... the console is slow: some lines are left out\n")
		}
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

// Close waits until everything is written, for a while.
func (c *console) Close() error {
	for deadline := time.Now().Add(2 * time.Second); len(c.lines) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
