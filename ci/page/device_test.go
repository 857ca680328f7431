// Package page tests the page as its user sees it: a headless Chromium and a device run in one network namespace, traffic comes in over a veth pair, and
// what the page shows, downloads and refuses is compared with what was sent.
//
// The page must be in the binary, and axe-core beside it: make web builds and installs both. With GALVO_SCREENSHOTS set, pictures of the page are left in
// that folder.
package page

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/ci/rig"
	"galvo/webui"
)

const password = "correct horse"

// patience is how long a test waits for something that should be there at once: the machine may be busy.
const patience = 20 * time.Second

// wait waits until ok says yes.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not happen within %s: %s", patience, what)
}

// A device is a running `galvo run` with two ports.
type device struct {
	url   string
	pid   int
	wires [2]*rig.End // what is sent into them comes in at the ports
}

// start builds a device and runs it in a namespace of its own until the test ends.
func start(t *testing.T) *device {
	t.Helper()
	need.Root(t)
	if _, err := fs.Stat(webui.Bundle(), "index.html"); err != nil {
		t.Fatal("the page is not built: run make web")
	}
	dir, err := os.MkdirTemp("", "galvo") // t.TempDir is closed to the services' own users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	galvo := filepath.Join(dir, "galvo")
	if out, err := exec.Command("go", "build", "-o", galvo, "galvo/services/galvo").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	d := &device{}
	here, there := rig.NetnsFor(t), rig.NetnsFor(t)
	args := []string{"run", "-state", filepath.Join(t.TempDir(), "state"), "-listen", "127.0.0.1:0"}
	for i := range d.wires {
		port := fmt.Sprintf("eth%d", i)
		var end *rig.End
		if d.wires[i], end, err = rig.Veth(there, fmt.Sprintf("tx%d", i), here, port, 0); err != nil {
			t.Fatal(err)
		}
		for _, e := range []*rig.End{d.wires[i], end} {
			if err := e.WaitUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "-interface", port)
	}
	cmd := exec.Command(galvo, args...)
	cmd.Env = append(os.Environ(), "GALVO_ADMIN_PASSWORD="+password)
	out, errors := &output{}, &output{}
	cmd.Stdout, cmd.Stderr = out, errors
	if err := here.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the device ended with %v and said:\n%s", err, errors)
		}
	})
	d.pid = cmd.Process.Pid
	wait(t, "the device is ready", func() (ok bool) {
		d.url, ok = out.after("ready ")
		return ok
	})
	return d
}

// play sends frames into a port.
func (d *device) play(ctx context.Context, port int, rate float64, frames []rig.Frame) error {
	r, err := (&rig.Player{To: d.wires[port-1], Rate: rate}).Play(ctx, frames)
	if err == nil {
		err = r.Err
	}
	return err
}

// signal sends a signal to one of the device's services.
func (d *device) signal(t *testing.T, service string, what syscall.Signal) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(children)) {
			line, _ := os.ReadFile("/proc/" + child + "/cmdline")
			args := strings.Split(string(line), "\x00")
			if len(args) < 2 || args[1] != service {
				continue
			}
			pid, _ := strconv.Atoi(child)
			if err := syscall.Kill(pid, what); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the device has no process %s", service)
}

// An output keeps what a process says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// after returns the rest of the first line that begins so.
func (o *output) after(prefix string) (string, bool) {
	in := bufio.NewScanner(strings.NewReader(o.String()))
	for in.Scan() {
		if rest, ok := strings.CutPrefix(in.Text(), prefix); ok {
			return rest, true
		}
	}
	return "", false
}
