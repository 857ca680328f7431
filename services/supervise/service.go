package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 20 * time.Second // until the first process of a service must be there
	stopTimeout  = 8 * time.Second  // between asking a service to end and killing it
)

var errInUse = unix.EADDRINUSE

// A service is a role that is kept running.
type service struct {
	name       string
	binary     string
	args       []string
	dir        string
	files      []*os.File // inherited, from descriptor 3 on
	env        []string   // names of variables that only some services get
	environ    []string
	heap       string // limit for the heap, as GOMEMLIMIT has it; empty is the service's own affair
	namespaces uintptr
	socket     string                      // accepts connections once the service is there; may be empty
	answers    func(context.Context) error // says nil once the service is there
	after      string                      // must accept connections before a process is started; may be empty
	essential  bool                        // a first process that ends at once ends the run
	stdout     io.Writer
	logs       io.Writer
	init       *Init // nil outside init

	started atomic.Bool // a process has been there
	failed  atomic.Bool // the first process ended, so that nobody waits for it any more
	there   atomic.Bool // the last process has been there; looked at under init only
	said    string      // the last line of the last process
}

// start keeps the service running until the function that it returns is called, which waits for the service's end. If an essential service ends
// before it was ever there, fail is called.
func (s *service) start(ctx context.Context, o Options, fail func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.logs, s.stdout, s.init = o.Stderr, o.Stdout, o.Init
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.run(ctx); err != nil {
			fail(err)
		}
	}()
	return func() { cancel(); <-done }
}

// run keeps the service running until ctx is done. It returns an error if an essential service ends before it was ever there.
func (s *service) run(ctx context.Context) error {
	var again backoff
	if s.init != nil {
		again.longest = longestAbsence
	}
	for {
		if s.after != "" {
			poll(ctx, func() error { return connect(s.after) })
		}
		if ctx.Err() != nil {
			return nil
		}
		begin := time.Now()
		reason := s.runOnce(ctx)
		s.failed.Store(true)
		s.init.ended(s.name, reason, time.Since(begin))
		if ctx.Err() != nil {
			return nil
		}
		if s.essential && s.init == nil && !s.started.Load() {
			return fmt.Errorf("%s: %s", s.name, reason)
		}
		pause := again.next(s.there.Load(), time.Since(begin))
		slog.Error("a service ended and is started again", "service", s.name, "reason", reason, "after", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// awaitSocket waits until the service accepts connections for the first time. One that is not essential may be late, and is not waited for once its first
// process has ended: the page is to say that it is not there.
func (s *service) awaitSocket(ctx context.Context) error {
	if s.socket == "" {
		return nil
	}
	late, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	there := func() error {
		if !s.essential && s.failed.Load() {
			return nil
		}
		return connect(s.socket)
	}
	if err := poll(late, there); err != nil {
		if s.essential && s.init == nil && ctx.Err() == nil {
			return fmt.Errorf("%s is not there after %s: %w", s.name, startTimeout, err)
		}
		return nil
	}
	s.started.Store(true)
	return nil
}

// runOnce runs one process to its end and says why it ended.
func (s *service) runOnce(ctx context.Context) (reason string) {
	// The kernel kills the process when the thread that started it ends, so this one stays until then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Nothing about one service takes the others down, or the machine where this is init.
	defer func() {
		if p := recover(); p != nil {
			reason = fmt.Sprintf("cannot be supervised: %v\n%s", p, debug.Stack())
		}
	}()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Sprintf("cannot be started: %v", err)
	}
	cmd := exec.Command(s.binary)
	cmd.Args = append([]string{"galvo", s.name}, s.args...)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = s.dir, s.environ, s.files
	cmd.Stdout, cmd.Stderr = s.stdout, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: s.namespaces}
	err = s.init.start(s.name, cmd)
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Sprintf("cannot be started: %v", err)
	}
	s.said = ""
	var logs sync.WaitGroup
	logs.Go(func() { s.copyLog(r); r.Close() })
	ended := make(chan struct{})
	logs.Go(func() { s.stop(ctx, cmd.Process.Pid, ended) })
	living, end := context.WithCancel(ctx)
	if s.there.Store(false); s.init != nil {
		logs.Go(func() {
			poll(living, func() error { return s.answers(living) })
			s.there.Store(living.Err() == nil)
		})
	}
	err = s.init.wait(cmd)
	end()
	close(ended)
	// What the process may have started goes with it.
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	logs.Wait()
	if err == nil {
		return "ended without an error"
	}
	return fmt.Sprintf("%v, and said: %s", err, s.said)
}

// stop asks the process to end when ctx is done, and kills it if it does not.
func (s *service) stop(ctx context.Context, pid int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	syscall.Kill(pid, syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		slog.Error("a service does not end and is killed", "service", s.name)
		syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// copyLog writes what the process says line by line, with its name in front. A line that is very long is cut into several.
func (s *service) copyLog(r io.Reader) {
	b := bufio.NewReaderSize(r, 16<<10)
	for {
		line, _, err := b.ReadLine()
		if len(line) > 0 {
			s.said = string(line)
			s.init.log(s.name, s.said)
			fmt.Fprintf(s.logs, "%s: %s\n", s.name, line)
		}
		if err != nil {
			return
		}
	}
}

// poll calls f until it returns nil or ctx is done, and returns f's last error.
func poll(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connect reports whether somebody listens on the unix socket at path.
func connect(path string) error {
	c, err := net.Dial("unix", path)
	if errors.Is(err, os.ErrPermission) {
		return nil // it is another user's, and there
	}
	if err != nil {
		return err
	}
	return c.Close()
}
