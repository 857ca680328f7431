package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A VM is a run of a machine, from power on to power off.
type VM struct {
	*Machine
	URL        string // of the page, where Network is User
	Console    *Console
	Wires      []*Wire // of the capture ports
	Management *Wire   // where Network is Wired
	Started    time.Time

	t     testing.TB
	dir   string // of the sockets
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{}
	qmp   *qmp
}

// initLine is what init says first.
const initLine = ": init starts"

// endLine is what a console has when QEMU has ended.
const endLine = "\n(QEMU has ended)\n"

// Boot switches the machine on and waits until init runs. An emulated x86 sometimes dies with a double fault before that, which is QEMU's: it is switched on once more.
func (m *Machine) Boot(t testing.TB) *VM {
	t.Helper()
	for try := 1; ; try++ {
		v := m.PowerOn(t)
		err := v.Console.Await(Patience(t), initLine, endLine)
		if err == nil && !v.Console.Has(initLine) {
			err = errors.New("QEMU ended before")
		}
		if err == nil {
			for _, w := range v.Wires {
				w.forget() // the firmware's own network stack has looked for a server to boot from
			}
			return v
		}
		early := v.Console.Has("double fault") || v.Console.Has("Kernel panic")
		v.PowerCut()
		if try > 1 || !early {
			t.Fatalf("init did not start: %v\n%s", err, v.Console.Tail())
		}
		t.Logf("the kernel died before init, which emulation does now and then; once more:\n%s", v.Console.Tail())
	}
}

// PowerOn switches the machine on.
func (m *Machine) PowerOn(t testing.TB) *VM {
	t.Helper()
	dir, err := os.MkdirTemp("", "galvo-vm") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	v := &VM{Machine: m, t: t, dir: dir, Console: newConsole(), ended: make(chan struct{}), Started: time.Now()}
	t.Cleanup(v.clean)
	for i := range m.Ports {
		v.Wires = append(v.Wires, newWire(t, filepath.Join(dir, fmt.Sprintf("c%d", i+1))))
	}
	if m.Network == Wired {
		v.Management = newWire(t, filepath.Join(dir, "m0"))
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	v.URL = fmt.Sprintf("https://127.0.0.1:%d", port)
	accel, cpu := accelerator(m)
	if err := v.start(m.arguments(dir, accel, cpu, port)); err != nil {
		t.Fatal(err)
	}
	return v
}

// start starts QEMU. It ends with the thread that started it, which therefore stays until QEMU has ended.
func (v *VM) start(args []string) error {
	v.cmd = exec.Command(program(v.Arch), args...)
	v.cmd.Stdout, v.cmd.Stderr = v.Console, v.Console
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var err error
	if v.input, err = v.cmd.StdinPipe(); err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := v.cmd.Start()
		started <- err
		if err == nil {
			v.cmd.Wait()
			io.WriteString(v.Console, endLine)
			close(v.ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// PowerCut ends the machine as a power cut does: nothing is flushed.
func (v *VM) PowerCut() {
	if v.cmd != nil && v.cmd.Process != nil {
		v.cmd.Process.Kill()
		<-v.ended
	}
}

// AwaitOff waits until the machine has switched itself off.
func (v *VM) AwaitOff() {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(Patience(v.t)):
		v.t.Fatalf("the machine does not switch itself off:\n%s", v.Console.Tail())
	}
}

// Type writes text to the serial line.
func (v *VM) Type(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v.input, text); err != nil {
		v.t.Fatal(err)
	}
}

func (v *VM) clean() {
	v.PowerCut()
	if v.qmp != nil {
		v.qmp.conn.Close()
	}
	// QEMU crashes when the other end of a wire leaves before it.
	for _, w := range v.Wires {
		w.close()
	}
	if v.Management != nil {
		v.Management.close()
	}
	if v.t.Failed() {
		v.t.Logf("the console of the machine:\n%s", v.Console.Tail())
	}
	os.RemoveAll(v.dir)
}

// Password returns that of the user admin, which a first start shows.
func (v *VM) Password() string {
	v.t.Helper()
	m, err := v.Console.Match(Patience(v.t), regexp.MustCompile(`first login: user admin, password (\S+)\n`))
	if err != nil {
		v.t.Fatal(err)
	}
	return m[1]
}

// freePort returns a TCP port of the loopback address that nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// A Console is what the machine has written to its serial line.
type Console struct {
	mu    sync.Mutex
	text  strings.Builder
	raw   []byte // the beginning of an escape sequence
	fresh chan struct{}
}

func newConsole() *Console { return &Console{fresh: make(chan struct{})} }

var escape = regexp.MustCompile("\x1b(\\[[0-9;?=]*[A-Za-z]|c|[()][A-Z0-9])|[\r\x00]")

// Write takes what QEMU gives. Escape sequences of firmware and boot loader are left out.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = append(c.raw, b...)
	keep := len(c.raw)
	if i := strings.LastIndexByte(string(c.raw), 0x1b); i >= 0 && len(c.raw)-i < 16 && !escape.Match(c.raw[i:]) {
		keep = i
	}
	c.text.Write(escape.ReplaceAll(c.raw[:keep], nil))
	c.raw = append([]byte(nil), c.raw[keep:]...)
	close(c.fresh)
	c.fresh = make(chan struct{})
	return len(b), nil
}

// String returns everything so far.
func (c *Console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Has reports whether the text is there.
func (c *Console) Has(text string) bool { return strings.Contains(c.String(), text) }

// Count returns how often the text is there.
func (c *Console) Count(text string) int { return strings.Count(c.String(), text) }

// Tail returns the end.
func (c *Console) Tail() string {
	s := c.String()
	return s[max(0, len(s)-6000):]
}

// Await waits until one of the texts is there.
func (c *Console) Await(limit time.Duration, texts ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return c.await(ctx, func() bool {
		s := c.text.String()
		for _, t := range texts {
			if strings.Contains(s, t) {
				return true
			}
		}
		return false
	}, strings.Join(texts, " or "))
}

// Match waits until a pattern is met, and returns what it and its groups meet.
func (c *Console) Match(limit time.Duration, pattern *regexp.Regexp) (found []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err = c.await(ctx, func() bool {
		found = pattern.FindStringSubmatch(c.text.String())
		return found != nil
	}, pattern.String())
	return found, err
}

// AwaitCount waits until the text is there n times.
func (c *Console) AwaitCount(limit time.Duration, n int, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return c.await(ctx, func() bool { return strings.Count(c.text.String(), text) >= n }, fmt.Sprintf("%d times %q", n, text))
}

func (c *Console) await(ctx context.Context, there func() bool, what string) error {
	for {
		c.mu.Lock()
		ok, fresh := there(), c.fresh
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return errors.New("the console does not say: " + what)
		}
	}
}
