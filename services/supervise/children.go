package supervise

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Children are the processes that this one has started and waits for. A process that is init gets others as well, whose parents have ended:
// Reap waits for those, and takes none away from whoever waits for his own. A nil *Children starts and waits, and has nobody else.
type Children struct {
	mu  sync.Mutex
	own map[int]bool
}

// Start starts cmd.
func (c *Children) Start(cmd *exec.Cmd) error {
	if c == nil {
		return cmd.Start()
	}
	// A process that ends at once is not a stranger.
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	if c.own == nil {
		c.own = map[int]bool{}
	}
	c.own[cmd.Process.Pid] = true
	return nil
}

// Wait waits for the end of a process that Start started.
func (c *Children) Wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if c != nil {
		c.mu.Lock()
		delete(c.own, cmd.Process.Pid)
		c.mu.Unlock()
	}
	return err
}

// Reap waits for the children that have ended and that Start did not start, and returns how many there were.
func (c *Children) Reap() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pid := range children() {
		if c.own[pid] || !ended(pid) {
			continue
		}
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && got == pid {
			n++
		}
	}
	return n
}

// children lists the processes whose parent is a thread of this one (proc(5)).
func children() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// ended reports whether a process is a zombie. Its name, in parentheses, may hold anything.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(stat, ')')
	return err == nil && i >= 0 && bytes.HasPrefix(bytes.TrimSpace(stat[i+1:]), []byte("Z"))
}
