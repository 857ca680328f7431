package boot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// logBytes is how much of what each service said is kept.
const logBytes = 256 << 10

// logs are the last lines of each service.
type logs struct {
	mu    sync.Mutex
	lines map[string]*ring
}

// A ring keeps the newest lines whose bytes fit.
type ring struct {
	lines []string
	bytes int
}

func newLogs() *logs { return &logs{lines: map[string]*ring{}} }

// add keeps a line of a service with the time.
func (l *logs) add(service, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.lines[service]
	if r == nil {
		r = &ring{}
		l.lines[service] = r
	}
	line = time.Now().UTC().Format("2006-01-02 15:04:05.000 ") + line
	r.lines, r.bytes = append(r.lines, line), r.bytes+len(line)+1
	drop := 0
	for ; r.bytes > logBytes && drop < len(r.lines)-1; drop++ {
		r.bytes -= len(r.lines[drop]) + 1
	}
	r.lines = slices.Delete(r.lines, 0, drop)
}

// text returns what is kept of a service.
func (l *logs) text(service string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.lines[service]
	if r == nil {
		return "", fmt.Errorf("there is no log of %q; there are %s", service, strings.Join(slices.Sorted(maps.Keys(l.lines)), ", "))
	}
	return strings.Join(r.lines, "\n") + "\n", nil
}
