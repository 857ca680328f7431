package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// activeConsoles names the consoles that the kernel has, of those of its command line that the machine has; the last one is /dev/console
// (Documentation/ABI/testing/sysfs-tty).
const activeConsoles = "/sys/class/tty/console/active"

// consoles are all that a person may look at: the kernel's own messages go to each of them, and what is written to /dev/console to the last one only.
// Each has a queue of its own, so that none waits for another.
type consoles struct {
	mu    sync.Mutex
	all   []*console
	paths []string // of their devices
	early []byte   // written before add
}

func newConsoles(out io.Writer) *consoles {
	return &consoles{all: []*console{newConsole(out)}, paths: []string{"/dev/console"}}
}

// add adds consoles, and shows them what was written so far. After it nothing is kept for others.
func (c *consoles) add(names []string, open func(path string) (io.Writer, error)) (errs error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		path := "/dev/" + name
		out, err := open(path)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("open the console: %w", err))
			continue
		}
		added := newConsole(out)
		added.Write(c.early)
		c.all, c.paths = append(c.all, added), append(c.paths, path)
	}
	c.early = nil
	return errs
}

// earlyBytes is how much is kept for consoles that are added.
const earlyBytes = 16 << 10

// Write takes b at once, for all consoles.
func (c *consoles) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 1 && len(c.early)+len(b) <= earlyBytes {
		c.early = append(c.early, b...)
	}
	for _, one := range c.all {
		one.Write(b)
	}
	return len(b), nil
}

// Flush waits until what was written so far is seen, for a while.
func (c *consoles) Flush() {
	var flushed sync.WaitGroup
	for _, one := range c.list() {
		flushed.Go(one.Flush)
	}
	flushed.Wait()
}

func (c *consoles) list() []*console {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// devices returns where a person can type.
func (c *consoles) devices() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.paths)
}

// openConsoles finds the consoles beside /dev/console.
func (m *machine) openConsoles() error {
	text, err := os.ReadFile(activeConsoles)
	if err != nil {
		return err
	}
	names := strings.Fields(string(text))
	return m.console.add(names[:max(0, len(names)-1)], openConsole)
}

// openConsole opens a tty that does not become init's own, whose keys would send it signals, and does not wait for a carrier.
func openConsole(path string) (io.Writer, error) {
	return os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
}
